from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch

from sono.training import recipes
from sono.training.model.build import build_model
from sono.training.model.mask_clip import GROUPS, MaskClip, group_of
from sono.training.step.optimizer import build_optimizer, make_state, set_learning_rates, state_tensors
from sono.training.step.schedule import factor

SETTINGS = recipes.Optimizer(lr_stem=1e-4, lr_vision=1e-6, lr_text=1e-5, lr_logit=1e-2, weight_decay=0.1)


def tiny() -> MaskClip:
    return build_model(recipes.tiny().model, recipes.Loss())


def test_every_parameter_is_in_exactly_one_group() -> None:
    model = tiny()
    optimizer = build_optimizer(model.clip, SETTINGS)
    grouped = [id(parameter) for group in optimizer.param_groups for parameter in group["params"]]
    assert sorted(grouped) == sorted(id(parameter) for parameter in model.parameters())


def test_groups_hold_the_parameters_their_names_say() -> None:
    names = {group: {name for name, _ in tiny().clip.named_parameters() if group_of(name) == group} for group in GROUPS}
    assert names["stem"] == {"visual.conv1.conv_mask.weight"}
    assert names["depthwise"] == {"visual.conv1.dwconv.weight"}
    assert names["logit"] == {"logit_scale", "logit_bias"}
    assert "visual.conv1.conv_rgb.weight" in names["vision"]
    assert "token_embedding.weight" in names["text"]
    assert {name for name in names["vision"] if not name.startswith("visual.")} == set()


def test_biases_norms_temperature_and_bias_do_not_decay() -> None:
    model = tiny()
    optimizer = build_optimizer(model.clip, SETTINGS)
    decay = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    decays = {name: decay[id(parameter)] for name, parameter in model.clip.named_parameters()}
    for name, value in decays.items():
        spared = name.endswith("bias") or ".ln_" in name or name.startswith(("ln_", "logit_"))
        assert (value == 0.0) == (spared or name == "visual.class_embedding"), name
    assert decays["visual.conv1.conv_mask.weight"] == 0.1


def test_each_group_has_its_own_rate_and_one_factor_scales_them_all() -> None:
    optimizer = build_optimizer(tiny().clip, SETTINGS)
    assert set_learning_rates(optimizer, 0.5) == {
        "stem": 5e-5, "depthwise": 5e-5, "vision": 5e-7, "text": 5e-6, "logit": 5e-3,
    }  # fmt: skip
    assert set_learning_rates(optimizer, 1.0)["stem"] == 1e-4
    assert {group["lr"] for group in optimizer.param_groups if group["name"] == "vision"} == {1e-6}


def test_a_rate_of_zero_freezes_its_group() -> None:
    model = tiny()
    optimizer = build_optimizer(model.clip, dataclasses.replace(SETTINGS, lr_text=0.0))
    assert set_learning_rates(optimizer, 1.0)["text"] == 0.0
    assert not model.encode_text(torch.ones(1, 77, dtype=torch.long)).requires_grad
    assert all(p.requires_grad for group in optimizer.param_groups for p in group["params"])
    assert {group["name"] for group in optimizer.param_groups} == {"stem", "depthwise", "vision", "logit"}


def test_temperature_and_bias_have_their_own_rate_in_the_paper_recipe() -> None:
    """At the visual tower's 1e-6 they would stay where they began for the whole of training."""
    model = tiny()
    optimizer = build_optimizer(model.clip, recipes.vit_l_14_336().optimizer)
    scalars = [model.clip.logit_scale, model.clip.logit_bias]
    before = [one.item() for one in scalars]
    for one in scalars:
        one.grad = torch.tensor(0.1)
    optimizer.step()
    assert [old - one.item() for old, one in zip(before, scalars, strict=True)] == pytest.approx([1e-3, 1e-3], rel=0.01)


def released_groups(model: MaskClip, recipe: recipes.Recipe) -> list[dict[str, Any]]:
    """As SonoCLIP's trainer groups them: the mask's convolution, the rest of the image tower, the logits' scalars."""
    tower = dict(model.clip.visual.named_parameters())
    mask = [parameter for name, parameter in tower.items() if "conv_mask" in name]
    others = [parameter for name, parameter in tower.items() if "conv_mask" not in name]
    scalars = [model.clip.logit_scale, *([model.clip.logit_bias] if recipe.loss.kind == "sigmoid" else [])]
    return [{"params": params, "weight_decay": 2e-2} for params in (mask, others, scalars)]


def released_rates(optimizer: torch.optim.Optimizer, step: int) -> None:
    """As its scheduler sets them, with the numbers of its script."""
    rate = 1e-4 * (step + 1) / 800
    if step >= 800:
        rate = 0.5 * (1 + np.cos(np.pi * (step - 800) / (5000 - 800))) * 1e-4
    for group in optimizer.param_groups:
        group["lr"] = rate if len(group["params"]) == 1 else rate * 0.01


@pytest.mark.parametrize("name", ["vit-l-14-336-released", "vit-l-14-336-released-softmax"])
def test_the_released_recipe_takes_the_steps_of_the_released_code(name: str) -> None:
    recipe = recipes.find(name)
    ours, theirs = tiny(), tiny()
    theirs.load_state_dict(ours.state_dict())
    start = {key: tensor.clone() for key, tensor in ours.clip.state_dict().items()}
    optimizer = build_optimizer(ours.clip, recipe.optimizer)
    reference = torch.optim.AdamW(released_groups(theirs, recipe))
    train = recipe.train
    for step in (0, 1, 799, 800, 801, 3000, 4999, 5000, 7000, 9200, 20_000):
        set_learning_rates(
            optimizer,
            factor(step, warmup_steps=train.warmup_steps, total_steps=30_000, cosine_steps=train.cosine_steps),
        )
        released_rates(reference, step)
        generator = torch.Generator().manual_seed(step)
        for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
            one.grad = torch.randn(one.shape, generator=generator) if one.requires_grad else None
            other.grad = one.grad
        optimizer.step()
        reference.step()
    for (key, one), other in zip(ours.clip.state_dict().items(), theirs.clip.state_dict().values(), strict=True):
        if key == "logit_bias" and recipe.loss.kind == "softmax":
            continue  # that loss has none
        assert torch.allclose(one, other, rtol=1e-6, atol=1e-9), key
        assert torch.equal(one, start[key]) == (not key.startswith(("visual.", "logit_"))), key


def test_optimizer_state_is_restored_by_parameter_name() -> None:
    model, other = tiny(), tiny()
    optimizer, second = build_optimizer(model.clip, SETTINGS), build_optimizer(other.clip, SETTINGS)
    assert state_tensors(optimizer, model.clip) == {}
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    saved = state_tensors(optimizer, model.clip)
    assert "optimizer.visual.conv1.conv_mask.weight.exp_avg" in saved
    made = make_state(second, other.clip, {name: tensor.shape for name, tensor in saved.items()})
    assert made.keys() == saved.keys()
    for name, tensor in made.items():
        tensor.copy_(saved[name])
    other.load_state_dict(model.state_dict())
    for one in (model, other):
        for parameter in one.parameters():
            parameter.grad = torch.full_like(parameter, 0.5)
    optimizer.step()
    second.step()
    assert all(torch.equal(*pair) for pair in zip(model.parameters(), other.parameters(), strict=True))

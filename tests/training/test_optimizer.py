from __future__ import annotations

import dataclasses

import torch

from sono.training import recipes
from sono.training.model import MaskClip, build_model
from sono.training.optimizer import GROUPS, build_optimizer, group_of, set_learning_rates

SETTINGS = recipes.Optimizer(lr_stem=1e-4, lr_vision=1e-6, lr_text=1e-5, lr_logit=1e-2, weight_decay=0.1)


def tiny() -> MaskClip:
    return build_model(recipes.tiny().model, recipes.Loss())


def test_every_parameter_is_in_exactly_one_group() -> None:
    model = tiny()
    optimizer = build_optimizer(model.clip, SETTINGS)
    grouped = [id(parameter) for group in optimizer.param_groups for parameter in group["params"]]
    assert sorted(grouped) == sorted(id(parameter) for parameter in model.parameters())


def test_the_groups_hold_what_their_names_say() -> None:
    names = {group: {name for name, _ in tiny().clip.named_parameters() if group_of(name) == group} for group in GROUPS}
    assert names["stem"] == {"visual.conv1.conv_mask.weight", "visual.conv1.dwconv.weight"}
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
    assert set_learning_rates(optimizer, 0.5) == {"stem": 5e-5, "vision": 5e-7, "text": 5e-6, "logit": 5e-3}
    assert set_learning_rates(optimizer, 1.0)["stem"] == 1e-4
    assert {group["lr"] for group in optimizer.param_groups if group["name"] == "vision"} == {1e-6}


def test_a_rate_of_zero_freezes_its_group() -> None:
    model = tiny()
    optimizer = build_optimizer(model.clip, dataclasses.replace(SETTINGS, lr_text=0.0))
    assert set_learning_rates(optimizer, 1.0)["text"] == 0.0
    assert not model.encode_text(torch.ones(1, 77, dtype=torch.long)).requires_grad
    assert all(p.requires_grad for group in optimizer.param_groups for p in group["params"])
    assert {group["name"] for group in optimizer.param_groups} == {"stem", "vision", "logit"}

"""Counts of operations: against the formula of a vision transformer on paper, and against what really runs."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from sono.training import recipes
from sono.training.model.build import build_model
from sono.training.planning.devices import DEVICES, find_device
from sono.training.planning.flops import meta_twin, mfu, train_flops, train_flops_per_sample
from sono.training.step.losses import Captions, contrastive_loss

PAPER = recipes.override(recipes.find("vit-l-14-336"), ["model.from_scratch=true"])


def vit_forward(*, tokens: int, width: int, layers: int, patch: int, features: int) -> int:
    """Of a ViT with a mask stem, by hand: 2 operations for each weight and token, and two products of attention."""
    patches = tokens - 1
    stem = 2 * patches * width * (4 * patch**2 + 9)  # three channels and the mask, then 3 x 3 for each channel alone
    block = 2 * tokens * 12 * width**2 + 2 * 2 * tokens**2 * width  # projections 4, MLP 8 widths; scores, and values
    return stem + layers * block + 2 * width * features


@pytest.mark.slow
def test_vit_l_14_at_336_px_costs_what_the_formula_says() -> None:
    flops = train_flops(PAPER)
    forward = vit_forward(tokens=577, width=1024, layers=24, patch=14, features=768)
    assert flops.image.forward == forward
    # Two more products for every one, except that no gradient is wanted of the image itself.
    assert flops.image.backward == 2 * forward - 2 * 576 * 1024 * 4 * 14**2
    assert flops.image.trained / 1e9 == pytest.approx(1144, rel=0.002)
    assert flops.image.recomputed == 0


@pytest.mark.slow
def test_only_a_trained_text_tower_costs_operations_per_sample() -> None:
    frozen = train_flops(PAPER)
    assert frozen.text.backward == 0
    assert frozen.captions_per_sample == 0
    # 12 layers of width 768 over 77 tokens, by the same formula without a stem.
    text_forward = 12 * (2 * 77 * 12 * 768**2 + 4 * 77**2 * 768) + 2 * 768**2
    assert frozen.text.forward == text_forward
    trained = train_flops(recipes.override(PAPER, ["optimizer.lr_text=1e-6"]), captions_per_sample=0.25)
    assert trained.text.backward == 2 * text_forward
    difference = trained.per_sample - trained.loss - (frozen.per_sample - frozen.loss)
    assert difference == pytest.approx(0.25 * 3 * text_forward)


@pytest.mark.slow
def test_recomputed_activations_count_as_executed_and_not_as_useful() -> None:
    plain = train_flops(PAPER)
    again = train_flops(recipes.override(PAPER, ["model.grad_checkpointing=true"]))
    assert again.per_sample == plain.per_sample
    # Of a block everything but its last product, which no gradient needs.
    last_products = 24 * 2 * 577 * 4 * 1024**2
    blocks = vit_forward(tokens=577, width=1024, layers=24, patch=14, features=768) - vit_forward(
        tokens=577, width=1024, layers=0, patch=14, features=768
    )
    assert again.executed_per_sample - again.per_sample == blocks - last_products


@pytest.mark.slow
def test_micro_batches_cost_one_more_forward() -> None:
    flops = train_flops(recipes.override(PAPER, ["train.accumulate=4"]))
    assert flops.executed_per_sample - flops.per_sample == flops.image.forward


@pytest.mark.parametrize("lr_text", ["0", "1e-3"])
def test_a_real_model_on_real_tensors_has_the_same_count(lr_text: str) -> None:
    recipe = recipes.override(recipes.tiny(), [f"optimizer.lr_text={lr_text}", "train.batch_size=6"])
    model = build_model(recipe.model, recipe.loss)
    if lr_text == "0":
        for name, parameter in model.clip.named_parameters():
            parameter.requires_grad_(name.startswith(("visual.", "logit")))
    images_B4HW, tokens_UL = torch.randn(6, 4, 64, 64), torch.zeros(3, 77, dtype=torch.long)
    settings = recipes.Loss(kind="sigmoid", chunk=4)
    with FlopCounterMode(display=False) as counter, torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        image_BD, text_UD = model.encode_image(images_B4HW), model.encode_text(tokens_UL)
        captions = Captions.of(torch.arange(6) % 3, 3)
        clip = model.clip
        contrastive_loss(image_BD, text_UD, captions, clip.logit_scale, clip.logit_bias, settings).backward()
    # torch counts the gradient of a depthwise convolution's weights as if every channel met every other.
    too_much = 6 * 2 * 64 * 9 * 128 * (128 - 1)
    flops = train_flops(model, batch_size=6, captions_per_sample=0.5)
    text = 0 if flops.captions_per_sample else 3 * flops.text.forward
    assert 6 * flops.per_sample + text == counter.get_total_flops() - too_much


def test_a_twin_takes_no_memory_and_keeps_what_is_frozen() -> None:
    recipe = recipes.tiny()
    model = build_model(recipe.model, recipe.loss)
    model.clip.visual.proj.requires_grad_(False)
    twin = meta_twin(model)
    assert {parameter.device.type for parameter in twin.parameters()} == {"meta"}
    assert {name: p.requires_grad for name, p in twin.named_parameters()} == {
        name: p.requires_grad for name, p in model.named_parameters()
    }
    assert model.clip.visual.proj.device.type == "cpu"


@pytest.mark.slow
def test_utilisation_is_a_share_of_the_peak_rate() -> None:
    flops = train_flops_per_sample(PAPER)
    rate = 989.5e12 / flops  # what a device at its peak would do
    assert mfu(flops, rate, "NVIDIA H100 80GB HBM3", "bf16") == pytest.approx(1)
    assert mfu(flops, rate, "NVIDIA A100-SXM4-80GB", "bf16") == pytest.approx(989.5 / 312)
    assert mfu(flops, rate, "NVIDIA H200", "bf16") == pytest.approx(1)


@pytest.mark.parametrize(
    ("name", "precision"),
    [
        ("NVIDIA GeForce RTX 4090 Laptop GPU", "bf16"),  # another chip than the card of that name
        ("NVIDIA A10G", "bf16"),
        ("Tesla T4", "bf16"),
        ("cpu", "bf16"),
        ("NVIDIA H200", "fp8"),
    ],
)
def test_an_unknown_device_or_precision_has_no_utilisation(name: str, precision: str) -> None:
    assert mfu(1e12, 100, name, precision) is None


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("NVIDIA H100 80GB HBM3", "H100"),
        ("NVIDIA H100 PCIe", "H100 PCIe"),
        ("NVIDIA H100 NVL", "H100 NVL"),
        ("NVIDIA H200", "H200"),
        ("NVIDIA A100-SXM4-40GB", "A100 40GB"),
        ("NVIDIA A100 80GB PCIe", "A100 80GB"),
        ("NVIDIA A100-PCIE-40GB", "A100 40GB"),
        ("NVIDIA L40S", "L40S"),
        ("NVIDIA GeForce RTX 4090", "RTX 4090"),
        ("h100", "H100"),
        ("a100", "A100 80GB"),
    ],
)
def test_devices_are_found_by_short_names_and_those_of_cuda(name: str, found: str) -> None:
    device = find_device(name)
    assert device is not None
    assert device.name == found


def test_every_device_is_found_by_its_own_name() -> None:
    assert [find_device(device.name) for device in DEVICES] == list(DEVICES)

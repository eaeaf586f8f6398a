"""Memory said before a run, against tensors that a small model really keeps and really makes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest
import torch

from sono.training import recipes
from sono.training.model.build import build_model
from sono.training.model.mask_clip import MaskClip
from sono.training.planning.activations import trace_image_tower, trace_text_tower
from sono.training.planning.memory import RankMemory, count_parameters, rank_memory
from sono.training.step.optimizer import build_optimizer

TINY = recipes.override(recipes.tiny(), ["train.batch_size=32"])


def real_saved_bytes(model: MaskClip, encode: Callable[[], torch.Tensor], precision: str) -> int:
    """What autograd keeps, read off its graph after the forward pass: no hook and no fake tensor takes part."""
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        features = encode()
    parameters = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    found: dict[int, int] = {}
    nodes, seen = [features.grad_fn], set()
    while nodes:
        node = nodes.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        nodes += [following for following, _ in node.next_functions]
        for name in dir(node):
            if name.startswith("_saved_"):
                value = getattr(node, name)
                for tensor in value if isinstance(value, (list, tuple)) else [value]:
                    if isinstance(tensor, torch.Tensor):
                        storage = tensor.untyped_storage()
                        found[storage.data_ptr()] = storage.nbytes()
    return sum(size for pointer, size in found.items() if pointer not in parameters)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.slow
def test_traced_activations_equal_those_that_autograd_keeps(precision: str) -> None:
    recipe = recipes.override(TINY, [f"train.precision={precision}"])
    model = build_model(recipe.model, recipe.loss)
    images_B4HW, tokens_UL = torch.randn(32, 4, 64, 64), torch.zeros(8, 77, dtype=torch.long)
    image = trace_image_tower(recipe, 32, on_cuda=False)
    text = trace_text_tower(recipe, 8, on_cuda=False)
    real_image = real_saved_bytes(model, lambda: model.encode_image(images_B4HW), precision)
    real_text = real_saved_bytes(model, lambda: model.encode_text(tokens_UL), precision)
    assert image.saved == pytest.approx(real_image, rel=0.02)
    assert text.saved == pytest.approx(real_text, rel=0.02)


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.slow
def test_the_traced_peak_equals_that_of_the_allocator(recompute: bool) -> None:
    recipe = recomputing(recompute)
    model = build_model(recipe.model, recipe.loss)
    build_optimizer(model.clip, recipe.optimizer)
    images_B4HW = torch.randn(32, 4, 64, 64)
    with torch.profiler.profile(profile_memory=True) as profile:
        model.encode_image(images_B4HW).float().sum().backward()
    real = highest_sum(profile) + images_B4HW.nbytes
    assert trace_image_tower(recipe, 32, on_cuda=False).peak == pytest.approx(real, rel=0.05)


def recomputing(again: bool) -> recipes.Recipe:
    return recipes.override(TINY, [f"model.grad_checkpointing={str(again).lower()}"])


def highest_sum(profile: torch.profiler.profile) -> int:
    """Of all allocations and releases that torch's own allocator reported, in their order."""
    now = most = 0
    events = profile.profiler.kineto_results.events()  # type: ignore[union-attr]
    for event in sorted(events, key=lambda event: event.start_ns()):
        if event.name() == "[memory]":
            now += event.nbytes()
            most = max(most, now)
    return most


@pytest.mark.slow
def test_recomputation_and_smaller_batches_save_memory() -> None:
    plain, recomputed = (trace_image_tower(recomputing(again), 32) for again in (False, True))
    assert recomputed.saved < plain.saved / 4
    assert recomputed.peak < plain.peak / 2
    half = trace_image_tower(TINY, 16)
    assert plain.saved == pytest.approx(2 * half.saved, rel=0.02)


def test_a_frozen_text_tower_keeps_nothing() -> None:
    frozen = recipes.override(TINY, ["optimizer.lr_text=0"])
    trace = trace_text_tower(frozen, 8)
    assert (trace.saved, trace.peak) == (0, 0)


def test_parameters_are_counted_by_group() -> None:
    model = build_model(TINY.model, TINY.loss)
    counted = count_parameters(recipes.override(TINY, ["optimizer.lr_text=0"]))
    text = sum(p.numel() for name, p in model.clip.named_parameters() if not name.startswith(("visual.", "logit")))
    assert counted.frozen == {"stem": 0, "depthwise": 0, "vision": 0, "text": text, "logit": 0}
    assert (counted.trained["stem"], counted.trained["depthwise"]) == (128 * 8 * 8, 128 * 9)
    assert counted.trained["logit"] == 2
    assert counted.total == sum(p.numel() for p in model.parameters())
    block = model.clip.visual.transformer.resblocks[0]
    assert counted.largest_block == sum(p.numel() for p in block.parameters())


def memory(recipe: recipes.Recipe = TINY, **options: int) -> RankMemory:
    return rank_memory(recipe, count_parameters(recipe), **options)


@pytest.mark.slow
def test_optimizer_states_equal_those_of_the_optimizer() -> None:
    model = build_model(TINY.model, TINY.loss)
    optimizer = build_optimizer(model.clip, TINY.optimizer)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    moments = [t for state in optimizer.state.values() for name, t in state.items() if name != "step"]
    planned = memory()
    assert planned.optimizer == sum(tensor.nbytes for tensor in moments)
    assert planned.gradients == sum(parameter.nbytes for parameter in model.parameters())
    assert planned.weights == planned.gradients


@pytest.mark.slow
def test_ranks_share_the_batch_and_under_fsdp_the_model() -> None:
    one, copies, shards = memory(), memory(ranks=4), memory(recipes.override(TINY, ["train.strategy=fsdp"]), ranks=4)
    assert copies.saved < 0.3 * one.saved
    assert (copies.weights, copies.optimizer, copies.gradients) == (one.weights, one.optimizer, one.gradients)
    assert shards.weights == one.weights // 4
    assert shards.optimizer == one.optimizer // 4
    assert shards.gathered > 0 == copies.gathered
    assert shards.peak < copies.peak < one.peak


@pytest.mark.slow
def test_micro_batches_keep_fewer_activations() -> None:
    one, four = memory(), memory(recipes.override(TINY, ["train.accumulate=4"]))
    assert four.saved == pytest.approx(one.saved / 4, rel=0.05)
    assert four.peak < one.peak


@pytest.mark.slow
def test_the_peak_includes_everything_alive_at_once() -> None:
    planned = memory(recipes.override(TINY, ["optimizer.lr_text=0"]), captions=1000)
    assert planned.bank == 1000 * 128 * 4
    held = (planned.weights, planned.optimizer, planned.batch, planned.bank, planned.passes, planned.loss)
    assert planned.peak == sum(held)
    assert planned.passes >= planned.saved
    assert dataclasses.asdict(planned)["gathered"] == 0

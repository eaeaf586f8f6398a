"""A plan as lines for people, and as plain data."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from sono.training import recipes

from .choices import GIB, USABLE
from .plan import RunPlan

BASIS: Mapping[str, str] = {
    "parameters": "counted",
    "flops": "counted",
    "steps": "arithmetic",
    "total_flops": "arithmetic",
    "seconds": "assumed",
    "choices.memory.saved": "traced",
    "choices.memory.passes": "traced",
    "choices.memory": "arithmetic",
    "checkpoint": "arithmetic",
    "cache_grey": "arithmetic",
}


def to_json(plan: RunPlan) -> dict[str, Any]:
    """The plan as plain data; ``basis`` says where the figures of each part come from."""
    values = dataclasses.asdict(plan)
    values["recipe"] = recipes.flatten(plan.recipe)
    values["flops"] |= {
        "per_sample": plan.flops.per_sample,
        "executed_per_sample": plan.flops.executed_per_sample,
    }
    return {**values, "basis": dict(BASIS)}


def lines(plan: RunPlan) -> Iterator[str]:
    """The plan for people; the last column says where a figure comes from."""
    recipe, machine = plan.recipe, plan.machine
    share = recipe.train.batch_size // machine.ranks
    yield (
        f"{recipe.model.backbone} at {plan.parameters.image_size} px, {recipe.train.precision}, "
        f"batch {recipe.train.batch_size} = {machine.ranks} x {share}"
        + (f" in {recipe.train.accumulate} micro-batches" if recipe.train.accumulate > 1 else "")
        + (f", {recipe.train.strategy}" if machine.ranks > 1 else "")
        + (", activations recomputed" if recipe.model.grad_checkpointing else "")
    )
    yield from _model_lines(plan)
    yield from _run_lines(plan)
    yield from _memory_lines(plan)
    yield from _choice_lines(plan)
    yield "Nothing here was measured. Traced memory is that of the uncompiled model."


def _line(name: str, value: str, basis: str) -> str:
    return f"  {name:<26}{value:<66}{basis}"


def _model_lines(plan: RunPlan) -> Iterator[str]:
    yield "model"
    for group, trained in plan.parameters.trained.items():
        frozen = plan.parameters.frozen[group]
        state = f"{trained:,} trained" if trained else f"{frozen:,} frozen"
        yield _line(f"parameters, {group}", state, "counted")
    flops = plan.flops
    yield _line("per sample, useful", f"{flops.per_sample / 1e9:,.1f} GFLOP", "counted")
    if flops.executed_per_sample != flops.per_sample:
        yield _line("per sample, executed", f"{flops.executed_per_sample / 1e9:,.1f} GFLOP", "counted")
    if flops.captions_per_sample:
        yield _line("", "of which text, at most (one caption per sample)", "")
    else:
        yield _line("per caption, once", f"{flops.text.forward / 1e9:,.1f} GFLOP", "counted")


def _run_lines(plan: RunPlan) -> Iterator[str]:
    yield "run"
    epochs = plan.steps * plan.recipe.train.batch_size / plan.data.samples
    for dataset in plan.data.datasets:
        yield _line(
            "dataset", f"{dataset.source}: {dataset.frames:,} frames, {dataset.share:.1%} of the samples", "counted"
        )
    yield _line("steps", f"{plan.steps:,} ({epochs:,.2f} epochs of {plan.data.samples:,} samples)", "arithmetic")
    yield _line("operations", f"{plan.total_flops / 1e18:,.3g} EFLOP", "arithmetic")
    device = plan.machine.device
    if plan.seconds is not None and device is not None:
        peak = device.peak_tflops(plan.recipe.train.precision)
        where = f"{plan.machine.ranks} x {device.name} at {plan.machine.utilisation:.0%} of {peak:g} TFLOP/s"
        yield _line("time", f"{_duration(plan.seconds)}, {where}", "assumed")
    else:
        yield _line("time", "unknown without --device", "")
    keep = plan.recipe.checkpoint.keep
    together = f"{_size(plan.checkpoint)} each, {_size((keep + 1) * plan.checkpoint)} while the next is saved"
    yield _line("disk, checkpoints", together, "arithmetic")
    if plan.cache_grey:
        cache = f"{_size(plan.cache_grey)} at most if grey, three times that if not; plus masks"
        yield _line("disk, data.cache", cache, "arithmetic")
    if plan.data.shards:
        yield _line("disk, datasets unpacked", f"about {_size(plan.data.shards)}", "arithmetic")


def _memory_lines(plan: RunPlan) -> Iterator[str]:
    memory = plan.memory
    yield f"memory of {'each rank' if plan.machine.ranks > 1 else 'the device'}"
    rows = {
        "weights": (memory.weights, "arithmetic"),
        "gathered for a block": (memory.gathered, "arithmetic"),
        "gradients": (memory.gradients, "arithmetic"),
        "optimizer states": (memory.optimizer, "arithmetic"),
        "this batch and the next": (memory.batch, "arithmetic"),
        "caption bank": (memory.bank, "arithmetic"),
        "loss": (memory.loss, "arithmetic"),
        "activations": (memory.saved, "traced"),
        "forward and backward": (memory.passes, "traced: with gradients and temporary tensors"),
    }
    for name, (size, basis) in rows.items():
        if size:
            yield _line(name, _size(size), basis)
    yield _line("peak", _size(memory.peak), "arithmetic on traced")


def _choice_lines(plan: RunPlan) -> Iterator[str]:
    device = plan.machine.device
    if device is None:
        yield "fits: unknown without --device"
        return
    yield f"fits into {USABLE:.0%} of {device.name}'s {device.memory_gib:g} GiB?"
    for choice in plan.choices:
        name = " ".join(f"--set {setting}" for setting in choice.settings) or "as requested"
        cost = f", {choice.slower:.2f} times the operations" if choice.settings else ""
        yield f"  {'yes' if choice.fits else 'no':<5}{_size(choice.memory.peak):>10}  {name}{cost}"
    if not any(choice.fits for choice in plan.choices):
        yield "  none of these fits: lower train.batch_size, take more ranks, or a device with more memory"


def _size(size: int) -> str:
    return f"{size / GIB:,.2f} GiB" if size >= GIB / 100 else f"{size / 2**20:,.2f} MiB"


def _duration(seconds: float) -> str:
    if seconds < 3600:
        return f"{seconds / 60:,.1f} min"
    return f"{seconds / 3600:,.1f} h" if seconds < 100 * 3600 else f"{seconds / 86400:,.1f} days"

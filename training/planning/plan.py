"""What a run will need, before it starts: parameters, memory, operations, time and disk.

Nothing is measured here and no weights are made. Every figure says where it comes from: ``counted`` (exact, from the
model), ``traced`` (from a run of the uncompiled model on tensors without memory), ``arithmetic`` (a formula over other
figures) or ``assumed`` (the share of a device's peak rate).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sono.manifests.errors import UserError
from sono.training import recipes

from .devices import DEVICES, Device, find_device
from .flops import TrainFlops, train_flops
from .memory import FP32, Parameters, RankMemory, count_parameters, rank_memory

USABLE = 0.9
"""Share of a device's memory that a plan fills: driver, libraries and an allocator's fragments take the rest."""

GIB = 2**30


@dataclass(frozen=True, kw_only=True)
class Data:
    """What a run trains on. ``captions`` are the distinct ones, ``shards`` the dataset's bytes; None where unknown."""

    samples: int
    captions: int | None = None
    shards: int | None = None


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Where a run would go: ``ranks`` devices alike, of which computing reaches ``utilisation`` of the peak rate."""

    device: Device | None = None
    ranks: int = 1
    utilisation: float = 0.35


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The memory of one rank under some settings.

    ``slower`` is how many times the operations of the plan as it was asked for are executed; ``fits`` is None where the
    device is not known.
    """

    settings: tuple[str, ...]
    memory: RankMemory
    slower: float
    fits: bool | None


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Everything that is known of a run before it starts; bytes, operations and seconds."""

    recipe: recipes.Recipe
    data: Data
    machine: Machine
    parameters: Parameters
    flops: TrainFlops
    steps: int
    total_flops: int
    seconds: float | None
    choices: tuple[Choice, ...]
    checkpoint: int
    cache_grey: int

    @property
    def memory(self) -> RankMemory:
        return self.choices[0].memory


def make_plan(recipe: recipes.Recipe, data: Data, machine: Machine) -> Plan:
    """Work out what a run needs.

    Raises:
        UserError: the recipe fits neither the number of samples nor that of ranks, or names no known backbone.
    """
    _check_ranks(recipe, machine.ranks)
    steps = recipe.train.total_steps(data.samples)
    parameters, flops = count_parameters(recipe), train_flops(recipe)
    total = steps * recipe.train.batch_size * flops.executed_per_sample
    if not flops.captions_per_sample:
        total += (data.captions or 0) * flops.text.forward
    peak = machine.device.peak_tflops(recipe.train.precision) if machine.device else None
    trained = sum(parameters.trained.values())
    return Plan(
        recipe=recipe,
        data=data,
        machine=machine,
        parameters=parameters,
        flops=flops,
        steps=steps,
        total_flops=total,
        seconds=total / (machine.utilisation * peak * 1e12 * machine.ranks) if peak else None,
        choices=tuple(_choices(recipe, data, machine, parameters, flops)),
        checkpoint=FP32 * (parameters.total + 2 * trained),
        cache_grey=data.samples * parameters.image_size**2 if recipe.data.cache else 0,
    )


def read_data(dataset: str) -> Data:
    """The train split of a dataset.

    Raises:
        UserError: there is no such dataset, or it is damaged.
    """
    from sono.training.data.dataset import open_split, read_description
    from sono.training.data.pairs import read_pairs

    description = read_description(dataset)
    pairs = read_pairs(open_split(description, "train"))
    files = [Path(dataset) / name for name in description.shards["train"]]
    shards = sum(file.stat().st_size for file in files) if description.revision is None else None
    return Data(samples=int((pairs.caption_F >= 0).sum()), captions=len(pairs.bank), shards=shards)


def named_device(name: str) -> Device:
    """The device called so.

    Raises:
        UserError: its data sheet is not known here.
    """
    device = find_device(name)
    if device is None:
        known = ", ".join(device.name for device in DEVICES)
        raise UserError(f"--device: the data sheet of {name!r} is not known here", fix=f"choose one of: {known}")
    return device


def _check_ranks(recipe: recipes.Recipe, ranks: int) -> None:
    if recipe.train.batch_size % ranks:
        raise UserError(
            f"train.batch_size: {recipe.train.batch_size} samples cannot be shared evenly among {ranks} ranks",
            fix="use --set train.batch_size=N with a multiple",
        )


def _choices(
    recipe: recipes.Recipe, data: Data, machine: Machine, parameters: Parameters, flops: TrainFlops
) -> Iterator[Choice]:
    """The plan as asked for; where that does not fit each knob alone; where none does, all of them together."""

    def choice(*settings: str) -> Choice:
        return _choice(recipe, settings, data, machine, parameters, flops)

    asked = choice()
    yield asked
    if asked.fits is not False:
        return
    knobs = ["train.strategy=fsdp"] if machine.ranks > 1 and recipe.train.strategy == "ddp" else []
    if not recipe.model.grad_checkpointing:
        knobs.append("model.grad_checkpointing=true")
    alone = [choice(knob) for knob in knobs]
    yield from alone
    cut = [f"train.accumulate={number}" for number in _accumulations(recipe, machine.ranks)]
    fewest = next((found for found in map(choice, cut) if found.fits), None)
    if fewest:
        yield fewest
    elif not any(found.fits for found in alone):
        together = (choice(*knobs, *number) for number in ((), *zip(cut)))
        yield next((found for found in together if found.fits), choice(*knobs, *cut[-1:]))


def _accumulations(recipe: recipes.Recipe, ranks: int) -> Iterator[int]:
    share = recipe.train.batch_size // ranks
    accumulate = 2 * recipe.train.accumulate
    while accumulate <= share:
        yield accumulate
        accumulate *= 2


def _choice(
    recipe: recipes.Recipe,
    settings: tuple[str, ...],
    data: Data,
    machine: Machine,
    parameters: Parameters,
    flops: TrainFlops,
) -> Choice:
    changed = recipes.override(recipe, settings)
    memory = rank_memory(changed, parameters, ranks=machine.ranks, captions=data.captions or 0)
    slower = train_flops(changed).executed_per_sample / flops.executed_per_sample if settings else 1.0
    fits = None if machine.device is None else memory.peak <= USABLE * machine.device.memory_gib * GIB
    return Choice(settings=settings, memory=memory, slower=slower, fits=fits)


def to_json(plan: Plan) -> dict[str, Any]:
    """The plan as plain data; ``basis`` says where the figures of each part come from."""
    values = dataclasses.asdict(plan)
    values["recipe"] = recipes.flatten(plan.recipe)
    values["flops"] |= {
        "per_sample": plan.flops.per_sample,
        "executed_per_sample": plan.flops.executed_per_sample,
    }
    return {**values, "basis": dict(BASIS)}


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


def lines(plan: Plan) -> Iterator[str]:
    """The plan for reading; the last column says where a figure comes from."""
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


def _model_lines(plan: Plan) -> Iterator[str]:
    yield "model"
    for group, trained in plan.parameters.trained.items():
        frozen = plan.parameters.frozen[group]
        state = f"{trained:,} trained" if trained else f"{frozen:,} frozen"
        yield _line(f"parameters, {group}", state, "counted")
    flops = plan.flops
    yield _line("a sample, useful", f"{flops.per_sample / 1e9:,.1f} GFLOP", "counted")
    if flops.executed_per_sample != flops.per_sample:
        yield _line("a sample, executed", f"{flops.executed_per_sample / 1e9:,.1f} GFLOP", "counted")
    if flops.captions_per_sample:
        yield _line("", "of them text, at most (one caption for each sample)", "")
    else:
        yield _line("a caption, once", f"{flops.text.forward / 1e9:,.1f} GFLOP", "counted")


def _run_lines(plan: Plan) -> Iterator[str]:
    yield "run"
    epochs = plan.steps * plan.recipe.train.batch_size / plan.data.samples
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
        cache = f"{_size(plan.cache_grey)} at most where grey, thrice where not; and masks"
        yield _line("disk, data.cache", cache, "arithmetic")
    if plan.data.shards:
        yield _line("disk, dataset unpacked", f"about {_size(plan.data.shards)}", "arithmetic")


def _memory_lines(plan: Plan) -> Iterator[str]:
    memory = plan.memory
    yield f"memory of {'each rank' if plan.machine.ranks > 1 else 'the device'}"
    rows = {
        "weights": (memory.weights, "arithmetic"),
        "gathered for a block": (memory.gathered, "arithmetic"),
        "gradients": (memory.gradients, "arithmetic"),
        "optimizer states": (memory.optimizer, "arithmetic"),
        "batch, and the next": (memory.batch, "arithmetic"),
        "caption bank": (memory.bank, "arithmetic"),
        "loss": (memory.loss, "arithmetic"),
        "activations": (memory.saved, "traced"),
        "forward and backward": (memory.passes, "traced: with gradients and temporary tensors"),
    }
    for name, (size, basis) in rows.items():
        if size:
            yield _line(name, _size(size), basis)
    yield _line("at most at once", _size(memory.peak), "arithmetic on traced")


def _choice_lines(plan: Plan) -> Iterator[str]:
    device = plan.machine.device
    if device is None:
        yield "fits: unknown without --device"
        return
    yield f"fits into {USABLE:.0%} of {device.name}'s {device.memory_gib:g} GiB?"
    for choice in plan.choices:
        name = " ".join(f"--set {setting}" for setting in choice.settings) or "as asked for"
        cost = f", {choice.slower:.2f} times the operations" if choice.settings else ""
        yield f"  {'yes' if choice.fits else 'no':<5}{_size(choice.memory.peak):>10}  {name}{cost}"
    if not any(choice.fits for choice in plan.choices):
        yield "  nothing tried fits: lower train.batch_size, take more ranks, or a device with more memory"


def _size(size: int) -> str:
    return f"{size / GIB:,.2f} GiB" if size >= GIB / 100 else f"{size / 2**20:,.2f} MiB"


def _duration(seconds: float) -> str:
    if seconds < 3600:
        return f"{seconds / 60:,.1f} min"
    return f"{seconds / 3600:,.1f} h" if seconds < 100 * 3600 else f"{seconds / 86400:,.1f} days"

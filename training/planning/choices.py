"""Which settings make a run fit into a device's memory, and what each of them costs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from sono.training import recipes

from .devices import Device
from .flops import TrainFlops, train_flops
from .memory import Parameters, RankMemory, rank_memory

USABLE = 0.9
"""Share of a device's memory that a plan fills: driver, libraries and an allocator's fragments take the rest."""

GIB = 2**30


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Where a run would go: ``ranks`` devices of a kind, on which it reaches ``utilisation`` of the peak rate."""

    device: Device | None = None
    ranks: int = 1
    utilisation: float = 0.35


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The memory of one rank under some settings.

    ``slower`` is how many times the operations of the plan as requested are executed; ``fits`` is None if the device is
    unknown.
    """

    settings: tuple[str, ...]
    memory: RankMemory
    slower: float
    fits: bool | None


def find_choices(
    recipe: recipes.Recipe, captions: int, machine: Machine, parameters: Parameters, flops: TrainFlops
) -> Iterator[Choice]:
    """The recipe as requested; if that does not fit, each knob alone; if none does, all of them together.

    Args:
        captions: distinct captions of the dataset.
        parameters: ``count_parameters(recipe)``.
        flops: ``train_flops(recipe)``.
    """

    def choice(*settings: str) -> Choice:
        return _choice(recipe, settings, captions, machine, parameters, flops)

    requested = choice()
    yield requested
    if requested.fits is not False:
        return
    knobs = ["train.strategy=fsdp"] if machine.ranks > 1 and recipe.train.strategy == "ddp" else []
    if not recipe.model.grad_checkpointing:
        knobs.append("model.grad_checkpointing=true")
    alone = [choice(knob) for knob in knobs]
    yield from alone
    cuts = [f"train.accumulate={number}" for number in _accumulations(recipe, machine.ranks)]
    fewest = next((found for found in map(choice, cuts) if found.fits), None)
    if fewest:
        yield fewest
    elif not any(found.fits for found in alone):
        together = (choice(*knobs, *cut) for cut in ((), *zip(cuts)))
        yield next((found for found in together if found.fits), choice(*knobs, *cuts[-1:]))


def _accumulations(recipe: recipes.Recipe, ranks: int) -> Iterator[int]:
    share = recipe.train.batch_size // ranks
    accumulate = 2 * recipe.train.accumulate
    while accumulate <= share:
        yield accumulate
        accumulate *= 2


def _choice(
    recipe: recipes.Recipe,
    settings: tuple[str, ...],
    captions: int,
    machine: Machine,
    parameters: Parameters,
    flops: TrainFlops,
) -> Choice:
    changed = recipes.override(recipe, settings)
    memory = rank_memory(changed, parameters, ranks=machine.ranks, captions=captions)
    slower = train_flops(changed).executed_per_sample / flops.executed_per_sample if settings else 1.0
    fits = None if machine.device is None else memory.peak <= USABLE * machine.device.memory_gib * GIB
    return Choice(settings=settings, memory=memory, slower=slower, fits=fits)

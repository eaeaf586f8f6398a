"""What a run will need, before it starts: parameters, memory, operations, time and disk.

Nothing is measured here and no weights are allocated. Every figure says where it comes from: ``counted`` (exact, from
the model), ``traced`` (from a run of the uncompiled model on tensors without memory), ``arithmetic`` (a formula over
other figures) or ``assumed`` (the share of a device's peak rate).
"""

from __future__ import annotations

from dataclasses import dataclass

from sono.manifests.errors import UserError
from sono.training import recipes
from sono.training.data.dataset import open_split, read_description
from sono.training.data.pairs import read_pairs

from .choices import Choice, Machine, find_choices
from .flops import TrainFlops, train_flops
from .memory import FP32, Parameters, RankMemory, count_parameters


@dataclass(frozen=True, kw_only=True)
class Data:
    """What a run trains on. ``captions`` are the distinct ones, ``shards`` the dataset's bytes; None if unknown."""

    samples: int
    captions: int | None = None
    shards: int | None = None


@dataclass(frozen=True, kw_only=True)
class RunPlan:
    """Everything that is known about a run before it starts; bytes, operations and seconds."""

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
        """That of one rank with the recipe as requested."""
        return self.choices[0].memory


def make_plan(recipe: recipes.Recipe, data: Data, machine: Machine) -> RunPlan:
    """Work out what a run needs.

    Raises:
        UserError: the recipe fits neither the number of samples nor that of ranks, or its backbone is unknown.
    """
    _check_ranks(recipe, machine.ranks)
    steps = recipe.train.total_steps(data.samples)
    parameters, flops = count_parameters(recipe), train_flops(recipe)
    total = steps * recipe.train.batch_size * flops.executed_per_sample
    if not flops.captions_per_sample:
        total += (data.captions or 0) * flops.text.forward
    peak = machine.device.peak_tflops(recipe.train.precision) if machine.device else None
    trained = sum(parameters.trained.values())
    return RunPlan(
        recipe=recipe,
        data=data,
        machine=machine,
        parameters=parameters,
        flops=flops,
        steps=steps,
        total_flops=total,
        seconds=total / (machine.utilisation * peak * 1e12 * machine.ranks) if peak else None,
        choices=tuple(find_choices(recipe, data.captions or 0, machine, parameters, flops)),
        checkpoint=FP32 * (parameters.total + 2 * trained),
        cache_grey=data.samples * parameters.image_size**2 if recipe.data.cache else 0,
    )


def read_data(dataset: str) -> Data:
    """The train split of a dataset.

    Raises:
        UserError: the dataset is not found, or is damaged.
    """
    description = read_description(dataset)
    pairs = read_pairs(open_split(description, "train"))
    shards = sum(shard.bytes for shard in description.shards["train"])
    return Data(samples=int((pairs.caption_F >= 0).sum()), captions=len(pairs.bank), shards=shards)


def _check_ranks(recipe: recipes.Recipe, ranks: int) -> None:
    if recipe.train.batch_size % ranks:
        raise UserError(
            f"train.batch_size: {recipe.train.batch_size} samples cannot be shared evenly among {ranks} ranks",
            fix=f"use --set train.batch_size=N with a multiple of {ranks}",
        )

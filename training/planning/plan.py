"""What a run will need, before it starts: parameters, memory, operations, time and disk.

Nothing is measured here and no weights are allocated. Every figure says where it comes from: ``counted`` (exact, from
the model), ``traced`` (from a run of the uncompiled model on tensors without memory), ``arithmetic`` (a formula over
other figures) or ``assumed`` (the share of a device's peak rate).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sono.manifests.errors import UserError
from sono.training import recipes
from sono.training.data.pairs import read_pairs
from sono.training.data.pool import choose_frames
from sono.training.data.together import open_together, read_descriptions

from .choices import Choice, Machine, find_choices
from .flops import TrainFlops, train_flops
from .memory import FP32, Parameters, RankMemory, count_parameters


@dataclass(frozen=True, kw_only=True)
class DatasetShare:
    """A dataset that a run trains on: how many frames it has, and its share in the samples."""

    source: str
    frames: int
    share: float


@dataclass(frozen=True, kw_only=True)
class Data:
    """What a run trains on. ``captions`` are the distinct ones, ``shards`` the datasets' bytes; None if unknown."""

    samples: int
    captions: int | None = None
    shards: int | None = None
    datasets: tuple[DatasetShare, ...] = ()


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


def read_data(datasets: Sequence[str], settings: recipes.Data) -> Data:
    """The train splits of datasets.

    Raises:
        UserError: one is not found or is damaged, or they cannot be trained on together as the recipe says.
    """
    descriptions = read_descriptions(datasets)
    frames = open_together(descriptions)
    pairs = read_pairs(frames)
    usable, mixture = choose_frames(frames, pairs, settings.weight_by_dataset)
    shares = zip(descriptions, mixture.sizes, mixture.shares, strict=True)
    return Data(
        samples=len(usable),
        captions=len(pairs.bank),
        shards=sum(shard.bytes for description in descriptions for shard in description.shards["train"]),
        datasets=tuple(DatasetShare(source=one.source, frames=size, share=share) for one, size, share in shares),
    )


def _check_ranks(recipe: recipes.Recipe, ranks: int) -> None:
    if recipe.train.batch_size % ranks:
        raise UserError(
            f"train.batch_size: {recipe.train.batch_size} samples cannot be shared evenly among {ranks} ranks",
            fix=f"use --set train.batch_size=N with a multiple of {ranks}",
        )

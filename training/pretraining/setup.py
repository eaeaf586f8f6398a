"""What a run needs before its first step, in the order in which it is built: weights, data, ranks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch

from sono.manifests.errors import UserError
from sono.training import recipes
from sono.training.data.dataset import Description
from sono.training.data.patients import FILE, TrainedPatients, patients_of
from sono.training.data.pool import Pool, make_pool, with_cache
from sono.training.data.samples import batches_from
from sono.training.data.together import are_comparable, open_together
from sono.training.model.build import center_features, load_pretrained, make_transform, restore_weights
from sono.training.model.mask_clip import MaskClip
from sono.training.model.tokenizer import CaptionTokenizer
from sono.training.model.transforms import PadToSquare
from sono.training.model.weights import find_beside
from sono.training.step.distributed import Ranks
from sono.training.step.global_texts import encode_bank
from sono.training.step.objective import Objective
from sono.training.step.optimizer import build_optimizer, freeze, make_state
from sono.training.step.parallel import Towers, compile_blocks

from .checkpoints import Checkpoint
from .failures import memory_errors
from .learner import Learner, autocast


def check_shares(train: recipes.Train, ranks: int) -> None:
    """Check that every rank gets the same share of a batch, and no empty micro-batch.

    Raises:
        UserError: it does not.
    """
    if train.batch_size % ranks:
        raise UserError(
            f"train.batch_size is {train.batch_size}, which cannot be shared evenly among {ranks} ranks",
            fix=f"set it to a multiple of {ranks}, or start a different number of ranks",
        )
    share = train.batch_size // ranks
    if train.accumulate > share:
        raise UserError(
            f"train.accumulate is {train.accumulate}, but a rank's share of a batch has only {share} samples",
            fix=f"set it to at most {share}",
        )


def load_weights(model: MaskClip, recipe: recipes.Recipe, last: Checkpoint | None) -> PadToSquare:
    """Give the model the checkpoint's weights, or those of the recipe; the transform that goes with them.

    Raises:
        UserError: they do not fit the model, or cannot be reached.
    """
    if last:
        restore_weights(model, last.read("model."))
        return PadToSquare.from_dict(last.meta["transform"])
    load_pretrained(model, recipe.model, recipe.loss)
    return make_transform(model, recipe.model)


def open_pool(
    descriptions: Sequence[Description],
    recipe: recipes.Recipe,
    tokenizer: CaptionTokenizer,
    transform: PadToSquare,
    notice: Callable[[str], None],
) -> Pool:
    """The frames to train on, and the caches with their pixels, which are written first if they are not complete.

    Raises:
        UserError: a dataset is at fault or does not fit the recipe or another one, or a cache cannot be written.
    """
    data = recipe.data
    pool = make_pool(
        open_together(descriptions),
        tokenizer,
        transform,
        global_fraction=data.global_fraction,
        weights=data.weight_by_dataset,
    )
    recipe.train.total_steps(len(pool))  # fails before the cache takes its time
    return with_cache(pool, transform, data, notice)


def place_on_ranks(
    run: Path,
    model: MaskClip,
    transform: PadToSquare,
    pool: Pool,
    recipe: recipes.Recipe,
    last: Checkpoint | None,
    ranks: Ranks,
) -> Learner:
    """The model as every rank holds it, with an optimizer for that, in the state of the checkpoint if there is one.

    Raises:
        UserError: the memory does not suffice for the features of all captions.
    """
    model.to(ranks.device)
    if last is None and recipe.model.from_scratch:
        _center(model, transform, pool, recipe, ranks)
    freeze(model.clip, recipe.optimizer)
    bank_KD = None if recipe.optimizer.lr_text > 0 else _encode_captions(model, pool, recipe, ranks, run)
    if recipe.train.compile:
        compile_blocks(model)
    towers = Towers(model, ranks, recipe.train.strategy)
    context = autocast(ranks.device, recipe.train)
    objective = Objective(model, towers, bank_KD, recipe.loss, ranks, recipe.train.accumulate, context)
    optimizer = build_optimizer(model.clip, recipe.optimizer)
    if last and (saved := last.sizes("optimizer.")):
        last.load(make_state(optimizer, model.clip, saved))
    step = int(last.meta["step"]) if last else 0
    before = TrainedPatients.from_meta(last.meta) if last else _trained_before(recipe.model)
    trained = before.joined(patients_of(pool))
    return Learner(run, recipe, transform, objective, optimizer, recipe.train.total_steps(len(pool)), step, trained)


def describe(learner: Learner, pool: Pool) -> Iterator[str]:
    """Lines for people: what is trained on of each dataset, and then how many frames, steps and devices."""
    parts = pool.frames.parts
    for dataset, (frames, share) in enumerate(zip(parts, pool.mixture.shares, strict=True)):
        yield (
            f"{frames.description.source}: {pool.mixture.sizes[dataset]:,} frames, {share:.1%} of the samples "
            f"({pool.without_regions(dataset):,} frames without regions make whole-image pairs only; "
            f"{pool.without_caption(dataset):,} without a caption are left out)"
        )
    if not are_comparable([frames.description for frames in parts]):
        yield "patients of datasets with different keys cannot be compared: one may be in several without being noticed"
    ranks = learner.ranks
    devices = ranks.device.type
    if ranks.size > 1:
        devices = f"{ranks.size} x {devices} ({learner.recipe.train.strategy})"
    if pool.regions_vanished:
        yield f"{pool.regions_vanished:,} regions are left out: no pixel of them is left at the model's input size"
    yield f"{len(pool):,} frames, {learner.total_steps:,} steps on {devices}"


def _trained_before(settings: recipes.Model) -> TrainedPatients:
    """The patients that the recipe's weights were trained on."""
    sources = [source for source in (settings.weights, settings.text_weights) if source is not None]
    found = TrainedPatients()
    for source in sources:
        found = found.joined(TrainedPatients.of_weights(find_beside(settings.backbone, source, FILE)))
    return found


def _center(model: MaskClip, transform: PadToSquare, pool: Pool, recipe: recipes.Recipe, ranks: Ranks) -> None:
    """By the entire first batch on every rank, so that the start does not depend on their number."""
    first = next(batches_from(0, 1, pool, transform, model.tokenizer, recipe))
    x_B4HW = transform.normalise(first.images.to(ranks.device), first.masks.to(ranks.device))
    center_features(model, x_B4HW, first.tokens.to(ranks.device))


def _encode_captions(model: MaskClip, pool: Pool, recipe: recipes.Recipe, ranks: Ranks, run: Path) -> torch.Tensor:
    """Features of all captions: a frozen text tower reads each of them once for the entire run."""
    model.eval()  # no dropout: these features stay
    with memory_errors(run, recipe), autocast(ranks.device, recipe.train)():
        bank_KD = encode_bank(
            lambda texts: model.encode_text(model.tokenizer(texts).to(ranks.device)), pool.bank.texts, ranks
        )
    model.train()
    return bank_KD

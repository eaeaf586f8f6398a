"""The loss on the validation splits while a run trains: on each dataset's, and on all of them.

It is the loss of training, of batches of the same size, because the loss of a batch depends on its size. They are the
same samples every time, without augmentation, whatever the run's seed. Training does not depend on it in any bit.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from sono.manifests.errors import UserError
from sono.manifests.filenames import dataset_label
from sono.training import recipes
from sono.training.data.dataset import Description, Frames, open_split
from sono.training.data.joined import JoinedFrames
from sono.training.data.patients import TrainedPatients
from sono.training.data.pool import Pool, make_pool, with_cache

from .learner import Learner
from .shares import shares_from

ALL = "all"
"""In place of a dataset: the mean over the samples of all of them."""

COLUMNS = ("step", "dataset", "loss", "samples")

_OFF = "--set log.validation=0"


@dataclass(frozen=True)
class ValidationLoss:
    """The mean loss over so many samples of a dataset, or of all."""

    dataset: str
    loss: float
    samples: int


def open_validation(
    descriptions: Sequence[Description], learner: Learner, notice: Callable[[str], None]
) -> dict[str, Pool]:
    """What validation is computed on, by dataset; nothing, if the recipe asks for none.

    A dataset whose validation split has less than a batch is left out, with a notice.

    Raises:
        UserError: all are left out, the model is trained on patients of one of the splits, or one is damaged.
    """
    recipe, pools = learner.recipe, {}
    if not recipe.log.validation:
        return {}
    for description in descriptions:
        pool = _open(description, learner, notice)
        if pool is None or len(pool) < recipe.train.batch_size:
            found = 0 if pool is None else len(pool)
            size = f"{found:,} frames to validate on, less than a batch of {recipe.train.batch_size:,}"
            notice(f"{description.source}: {size}, so it has no validation loss")
        else:
            pools[dataset_label(description.identity)] = with_cache(pool, learner.transform, recipe.data, notice)
    if not pools:
        raise UserError(
            f"log.validation: no dataset has a validation split of at least a batch of {recipe.train.batch_size:,}",
            fix=f"build a larger one, or train without: {_OFF}",
        )
    return pools


def is_due(learner: Learner) -> bool:
    """Whether the step that was just taken is one of those that the recipe asks for, or the last one."""
    every, step = learner.recipe.log.validation, learner.step
    return bool(every) and step > 0 and (step % every == 0 or step == learner.total_steps)


def validate(learner: Learner, pools: Mapping[str, Pool], stop: Callable[[], bool]) -> list[ValidationLoss] | None:
    """The loss of every dataset and of all, equal on all ranks, which call this together; None if asked to ``stop``.

    Raises:
        UserError: a frame is at fault, or the memory does not suffice.
    """
    found, training = [], learner.model.training
    learner.model.eval()
    try:
        for dataset, pool in pools.items():
            loss = _loss(learner, pool, stop)
            if loss is None:
                return None
            found.append(ValidationLoss(dataset, loss, _steps(learner, pool) * learner.recipe.train.batch_size))
    finally:
        learner.model.train(training)
    samples = sum(each.samples for each in found)
    mean = sum(each.loss * each.samples for each in found) / samples
    return [*found, ValidationLoss(ALL, mean, samples)]


def _open(description: Description, learner: Learner, notice: Callable[[str], None]) -> Pool | None:
    if not description.rows("validation"):
        return None
    frames = open_split(description, "validation")
    _refuse_trained(frames, learner.trained)
    fraction = learner.recipe.data.global_fraction
    return make_pool(JoinedFrames((frames,)), learner.model.tokenizer, learner.transform, global_fraction=fraction)


def _refuse_trained(frames: Frames, trained: TrainedPatients) -> None:
    overlap = trained.overlap(frames)
    if overlap.patients:
        raise UserError(
            f"the model is trained on {overlap.patients} of the {overlap.of} patients of the validation split",
            where=frames.description.source,
            fix=f"train on other patients, or without validation: {_OFF}",
        )


def _loss(learner: Learner, pool: Pool, stop: Callable[[], bool]) -> float | None:
    steps, total = _steps(learner, pool), 0.0
    for share in shares_from(0, steps, learner, pool, _as_validated(learner.recipe)):
        if learner.ranks.any(stop()):
            return None
        total += learner.loss(share)
    return total / steps


def _steps(learner: Learner, pool: Pool) -> int:
    """Full batches only: no frame twice."""
    return len(pool) // learner.recipe.train.batch_size


def _as_validated(recipe: recipes.Recipe) -> recipes.Recipe:
    train = dataclasses.replace(recipe.train, seed=0)
    return dataclasses.replace(recipe, train=train, augment=recipes.Augment())

"""Pretraining, from the first step or from the last checkpoint to the end."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from sono.manifests.errors import UserError
from sono.manifests.filenames import RUN_LOG
from sono.manifests.store import exclusive
from sono.training import recipes
from sono.training.data.dataset import Description, read_description
from sono.training.step.distributed import Ranks, joined

from . import checkpoints, failures
from .failures import writing
from .stop_requests import stop_requests
from .trackers import TENSORBOARD, check_installed
from .trainer import RECIPE, Progress, Trainer

_OURS = {".lock", RUN_LOG, RECIPE, failures.NAN_BATCH, checkpoints.FOLDER, TENSORBOARD, "evaluation", "wandb"}


@dataclass(frozen=True)
class Outcome:
    """How a run ended: at ``step`` of ``total_steps``, stopped by a signal or not; of the ranks, ``rank`` says so."""

    step: int
    total_steps: int
    checkpoint: Path
    stopped_by: str | None = None
    rank: int = 0


def pretrain(
    dataset: str,
    run: Path,
    recipe: recipes.Recipe,
    *,
    resume: bool = False,
    notice: Callable[[str], None] = print,
    progress: Callable[[Progress], None] = lambda _: None,
) -> Outcome:
    """Train a mask-guided CLIP on the train split of ``dataset`` and write everything into the folder ``run``.

    With ``resume`` it goes on from the last checkpoint, or starts where there is none. A run that was killed at any
    moment and resumed ends with the weights of one that was not (to the bit on the CPU, by as many ranks). SIGINT and
    SIGTERM save a checkpoint and end it in order. Under ``torchrun`` every rank calls this.

    Args:
        dataset: a folder that ``sono-curate build`` wrote, or a Hub id.
        notice: is told what a person should know: what the data holds, what was fallen back to. By the first rank.
        progress: is called after every step. By the first rank.

    Raises:
        UserError: folder, dataset, recipe or weights are at fault; the resumed run differs from the one asked for; the
            loss is no number any more; disk or memory do not suffice. Checkpoints written before stay.
        SystemExit: with 1, where another rank raises the UserError.
    """
    with joined() as ranks, _reproducible(recipe.train):
        if not ranks.is_first:
            notice, progress = _nobody, _nobody
        _check_shares(recipe.train, ranks)
        check_installed(recipe)
        description = read_description(dataset)
        with _held(run, resume, ranks, notice) as last:
            if last:
                _check_same(run, last.meta, recipe, description)
            trainer = Trainer(run, recipe, description, last, ranks, notice)
            if last:
                notice(f"going on from {last.folder.name}, step {trainer.step} of {trainer.total_steps}")
            with stop_requests(insist=ranks.size == 1) as requests:
                trainer.steps(lambda: bool(requests), progress)
                named = next((name for names in ranks.collect(requests) for name in names), None)
            assert trainer.writer.last_good is not None
            finished = trainer.step == trainer.total_steps
            stopped_by = None if finished else named
            return Outcome(trainer.step, trainer.total_steps, trainer.writer.last_good, stopped_by, ranks.rank)


@contextlib.contextmanager
def _held(
    run: Path, resume: bool, ranks: Ranks, notice: Callable[[str], None]
) -> Iterator[checkpoints.Checkpoint | None]:
    """The run's folder, locked by the first rank for all, and the checkpoint to go on from."""
    with contextlib.ExitStack() as held:
        last = None
        if ranks.is_first:
            _check_folder(run, resume)
            with writing(run):
                run.mkdir(parents=True, exist_ok=True)
            held.enter_context(exclusive(run, str(run)))
            checkpoints.clear_leftovers(run)
            last = checkpoints.latest(run, notice)
        yield ranks.from_first(last)


def _check_folder(run: Path, resume: bool) -> None:
    present = {path.name for path in run.iterdir()} - {".lock"} if run.is_dir() else set()
    if run.exists() and not run.is_dir():
        raise UserError("not a folder", where=str(run), fix="name a new folder for the run")
    if present and not resume:
        raise UserError("the folder is not empty", where=str(run), fix="add --resume to go on, or name a new folder")
    strange = sorted(name for name in present - _OURS if not name.startswith(".tmp-"))
    if strange:
        raise UserError(
            f"{strange[0]!r} is no part of a training run",
            where=str(run),
            fix="name the folder of the run to go on with",
        )


def _check_shares(train: recipes.Train, ranks: Ranks) -> None:
    if train.batch_size % ranks.size:
        raise UserError(
            f"train.batch_size is {train.batch_size} and cannot be shared evenly by {ranks.size} ranks",
            fix=f"set it to a multiple of {ranks.size}, or start another number of ranks",
        )
    share = train.batch_size // ranks.size
    if train.accumulate > share:
        raise UserError(
            f"train.accumulate is {train.accumulate} and a rank's share of a batch has only {share} samples",
            fix=f"set it to {share} at most",
        )


def _check_same(run: Path, meta: dict[str, Any], recipe: recipes.Recipe, description: Description) -> None:
    before = recipes.from_flat(meta["recipe"])
    key = recipes.first_difference(before, recipe)
    if key:
        old, new = recipes.flatten(before)[key], recipes.flatten(recipe)[key]
        raise UserError(
            f"{key} was {old} when this run began and is {new} now",
            where=str(run),
            fix="give the same settings, or start a new run",
        )
    if meta["dataset"]["fingerprint"] != description.fingerprint:
        raise UserError(
            f"this run began with another dataset ({meta['dataset']['source']})",
            where=str(run),
            fix="give the same dataset as it was then, or start a new run",
        )


@contextlib.contextmanager
def _reproducible(train: recipes.Train) -> Iterator[None]:
    """Set the number of threads and whether only deterministic operations may run; put both back after."""
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS needs it to be deterministic
    torch.set_num_threads(train.threads or threads)
    torch.use_deterministic_algorithms(train.deterministic)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(deterministic)


def _nobody(_: object) -> None:
    pass

"""Pretraining, from the first step or the last checkpoint to the end."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from sono.training import recipes
from sono.training.data.together import read_descriptions
from sono.training.model.build import build_model, check_weights_given
from sono.training.step.distributed import joined

from .loop import TrainingProgress, train
from .run_folder import check_same_run, open_run
from .saving import open_writer
from .setup import check_shares, describe, load_weights, open_pool, place_on_ranks
from .stop_requests import stop_requests
from .trackers import check_installed
from .validation import open_validation


@dataclass(frozen=True)
class Outcome:
    """How a run ended: at ``step`` of ``total_steps``, stopped by a signal or not; ``rank`` is the one that reports."""

    step: int
    total_steps: int
    checkpoint: Path
    stopped_by: str | None = None
    rank: int = 0


def pretrain(
    datasets: Sequence[str],
    run: Path,
    recipe: recipes.Recipe,
    *,
    resume: bool = False,
    notice: Callable[[str], None] = print,
    progress: Callable[[TrainingProgress], None] = lambda _: None,
) -> Outcome:
    """Train a mask-guided CLIP on the train splits of ``datasets`` and write everything into the folder ``run``.

    With ``resume`` it continues from the last checkpoint, or starts if there is none. A run that was killed at any
    moment and resumed ends with the same weights as one that was not (to the bit on the CPU, with as many ranks).
    SIGINT and SIGTERM save a checkpoint and end the run in order. Under ``torchrun`` every rank calls this.

    Args:
        datasets: folders that ``sono-curate build`` wrote, or Hub ids; their order makes no difference.
        notice: is told, on the first rank, what a person should know: what the data holds, what was damaged.
        progress: is called, on the first rank, after every step.

    Raises:
        UserError: folder, datasets, recipe or weights are at fault; the resumed run differs from the one asked for; the
            loss is not finite; disk or memory do not suffice. Checkpoints written before stay.
        SystemExit: with 1, if another rank raises the UserError.
    """
    with joined() as ranks, _reproducible(recipe.train):
        if not ranks.is_first:
            notice, progress = _ignore, _ignore
        check_shares(recipe.train, ranks.size)
        check_weights_given(recipe.model, recipe.loss)
        check_installed(recipe)
        descriptions = read_descriptions(datasets)
        with open_run(run, resume, ranks, notice) as last:
            if last:
                check_same_run(run, last.meta, recipe, descriptions)
            torch.manual_seed(recipe.train.seed)
            model = build_model(recipe.model, recipe.loss)
            transform = load_weights(model, recipe, last)
            pool = open_pool(descriptions, recipe, model.tokenizer, transform, notice)
            learner = place_on_ranks(run, model, transform, pool, recipe, last, ranks)
            for line in describe(learner, pool):
                notice(line)
            validation = open_validation(descriptions, learner, notice)
            writer = open_writer(learner, pool, last)
            if last:
                notice(f"resuming from {last.folder.name}, step {learner.step} of {learner.total_steps}")
            with stop_requests(insist=ranks.size == 1) as requests:
                train(learner, pool, validation, writer, lambda: bool(requests), progress)
                signals = [name for names in ranks.collect(requests) for name in names]
            assert writer.last_good is not None
            is_complete = learner.step == learner.total_steps
            stopped_by = signals[0] if signals and not is_complete else None
            return Outcome(learner.step, learner.total_steps, writer.last_good, stopped_by, ranks.rank)


@contextlib.contextmanager
def _reproducible(train: recipes.Train) -> Iterator[None]:
    """Set the number of threads and whether only deterministic operations may run; restore both afterwards."""
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS needs it to be deterministic
    torch.set_num_threads(train.threads or threads)
    torch.use_deterministic_algorithms(train.deterministic)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(deterministic)


def _ignore(_: object) -> None:
    pass

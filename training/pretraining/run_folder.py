"""The folder of a training run: what belongs in it, who may write there, and which run it continues."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sono.manifests.errors import UserError
from sono.manifests.filenames import EVALUATION_FOLDER, RUN_LOG, VALIDATION_LOG
from sono.manifests.outputs import refuse_foreign, refuse_inside_dataset
from sono.manifests.store import exclusive
from sono.training import recipes
from sono.training.data.dataset import Description
from sono.training.step.distributed import Ranks

from . import checkpoints
from .failures import NAN_BATCH, writing
from .saving import RECIPE
from .trackers import TENSORBOARD

_PARTS_OF_A_RUN = {
    ".lock", RUN_LOG, VALIDATION_LOG, RECIPE, NAN_BATCH, checkpoints.FOLDER, TENSORBOARD, EVALUATION_FOLDER, "wandb",
}  # fmt: skip


@contextlib.contextmanager
def open_run(
    run: Path, resume: bool, ranks: Ranks, notice: Callable[[str], None]
) -> Iterator[checkpoints.Checkpoint | None]:
    """The folder, locked by the first rank for all, and the checkpoint to resume from.

    Raises:
        UserError: the folder holds something else, is in use, cannot be written, or all its checkpoints are damaged.
    """
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


def check_same_run(
    run: Path, meta: Mapping[str, Any], recipe: recipes.Recipe, descriptions: Sequence[Description]
) -> None:
    """Refuse to resume with other settings, or on other datasets, than those of the checkpoint's ``meta``.

    Raises:
        UserError: something differs; the text names the first difference.
    """
    before = recipes.from_flat(meta["recipe"])
    key = recipes.first_difference(before, recipe)
    if key:
        old, new = recipes.flatten(before)[key], recipes.flatten(recipe)[key]
        raise UserError(
            f"{key} was {old} when this run began, but is now {new}",
            where=str(run),
            fix="give the same settings, or start a new run",
        )
    _check_same_datasets(run, meta["datasets"], descriptions)


def _check_same_datasets(run: Path, before: Sequence[Mapping[str, Any]], descriptions: Sequence[Description]) -> None:
    given = {description.fingerprint: description.source for description in descriptions}
    known = {dataset["fingerprint"]: dataset["source"] for dataset in before}
    differences = [
        f"{source} (fingerprint {fingerprint[:12]}) is {what}"
        for fingerprints, others, what in ((known, given, "missing"), (given, known, "new"))
        for fingerprint, source in fingerprints.items()
        if fingerprint not in others
    ]
    if differences:
        raise UserError(
            f"this run began with other datasets: {', '.join(differences)}",
            where=str(run),
            fix="give the datasets as they were then, or start a new run",
        )


def _check_folder(run: Path, resume: bool) -> None:
    refuse_inside_dataset(run)
    if run.exists() and not run.is_dir():
        raise UserError("not a folder", where=str(run), fix="name a new folder for the run")
    if not resume and run.is_dir() and {path.name for path in run.iterdir()} - {".lock"}:
        raise UserError(
            "the folder is not empty", where=str(run), fix="add --resume to continue its run, or name a new folder"
        )
    refuse_foreign(run, _PARTS_OF_A_RUN, "a training run")

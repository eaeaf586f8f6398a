"""Checkpoints on disk: complete or absent, whenever a process is killed, and readable by any number of ranks.

``RUN/checkpoints/step-00000500/`` holds what ``torch.distributed.checkpoint`` writes (one file per rank, and
``.metadata``), ``meta.json`` with everything but tensors, and ``sono.json`` with the SHA-256 of each of them. A folder
without ``sono.json``, or that disagrees with it, does not count.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.checkpoint.state_dict_loader import load

from sono.manifests.errors import UserError
from sono.manifests.filenames import MARKER
from sono.training import recipes
from sono.training.model.build import restore_model
from sono.training.model.mask_clip import MaskClip
from sono.training.model.transforms import PadToSquare

from .checkpoint_reader import CheckpointReader

FOLDER = "checkpoints"
FORMAT = 3
_OF_ONE_DATASET = 2  # the format before it, whose ``meta`` has one ``dataset`` in place of ``datasets``
META = "meta.json"
TEMPORARY = ".tmp-"

Tensors = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Checkpoint:
    """A complete checkpoint on disk.

    ``meta`` is what was saved beside the tensors: ``step``, ``recipe``, ``transform``, ``captions``, ``planes``,
    ``datasets`` (of each its name, fingerprint, source, frames, and share in the samples). For those who report figures
    computed with it, it also has ``file``, the folder's name, and ``sha256``, that of its ``sono.json``, which covers
    every byte of the others.
    """

    folder: Path
    meta: dict[str, Any]

    def load(self, into: Mapping[str, torch.Tensor]) -> None:
        """Fill these tensors, or shards of tensors, with those of the same name; all ranks call it together."""
        ignore_missing_process_group()
        load(dict(into), storage_reader=CheckpointReader(self.folder))

    def sizes(self, prefix: str) -> dict[str, torch.Size]:
        """The tensors whose names begin with ``prefix``."""
        return {name: kind.size for name, kind in self._tensors().items() if name.startswith(prefix)}

    def read(self, prefix: str) -> Tensors:
        """Full tensors on the CPU whose names begin with ``prefix``, without it; any process may call it."""
        ignore_missing_process_group()
        tensors = {
            name: torch.empty(kind.size, dtype=kind.properties.dtype)
            for name, kind in self._tensors().items()
            if name.startswith(prefix)
        }
        load(dict(tensors), storage_reader=CheckpointReader(self.folder), no_dist=True)
        return {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}

    def _tensors(self) -> dict[str, TensorStorageMetadata]:
        metadata = CheckpointReader(self.folder).read_metadata()
        return {
            name: kind for name, kind in metadata.state_dict_metadata.items() if isinstance(kind, TensorStorageMetadata)
        }


def load_model(run: Path, notice: Callable[[str], None]) -> tuple[MaskClip, PadToSquare, dict[str, Any]]:
    """The model of the newest complete checkpoint of ``run`` on the CPU, its transform, and ``Checkpoint.meta``.

    Raises:
        UserError: the run has no checkpoint, all are damaged, or another version wrote them.
    """
    newest = latest(run, notice)
    if newest is None:
        raise UserError("no checkpoint found", where=str(run), fix="give the folder of a trained run")
    recipe = recipes.from_flat(newest.meta["recipe"])
    model = restore_model(recipe.model.backbone, newest.read("model."))
    return model, PadToSquare.from_dict(newest.meta["transform"]), newest.meta


def latest(run: Path, notice: Callable[[str], None]) -> Checkpoint | None:
    """The newest complete checkpoint, or None if none was ever finished; skips damaged ones with a notice.

    Raises:
        UserError: all checkpoints are damaged, or another version wrote them.
    """
    steps = steps_saved(run)
    for step in reversed(steps):
        folder = step_folder(run, step)
        if checkpoint := _read(folder):
            return checkpoint
        notice(f"{folder}: damaged, falling back to the checkpoint before it")
    if steps:
        raise UserError("every checkpoint is damaged", where=str(run / FOLDER), fix="restore one, or start a new run")
    if any((run / FOLDER).glob("step-*.pt")):
        raise UserError("another version wrote its checkpoints", where=str(run), fix="use it, or start a new run")
    return None


def clear_leftovers(run: Path) -> None:
    """Remove what a killed process left half-written. Call it only while holding the run's lock."""
    for path in [*run.glob(f"{TEMPORARY}*"), *(run / FOLDER).glob(f"{TEMPORARY}*")]:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def step_folder(run: Path, step: int) -> Path:
    """The folder of the checkpoint of a step."""
    return run / FOLDER / f"step-{step:08d}"


def steps_saved(run: Path) -> list[int]:
    """The steps of which there are finished checkpoints, damaged ones too, in order."""
    names = (path.parent.name for path in (run / FOLDER).glob(f"step-*/{MARKER}"))
    return sorted(int(name.removeprefix("step-")) for name in names if re.fullmatch(r"step-\d{8,}", name))


def sha256_of(path: Path) -> str:
    """The digest of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def ignore_missing_process_group() -> None:
    """Silence the library's warning that there is no process group; a single process needs none."""
    warnings.filterwarnings("ignore", message="torch.distributed is disabled")


def _read(folder: Path) -> Checkpoint | None:
    """The checkpoint, or None if its files are not those that were written."""
    try:
        marker = json.loads((folder / MARKER).read_bytes())
        if marker["format"] not in (FORMAT, _OF_ONE_DATASET):
            raise UserError(
                f"the checkpoint has format {marker['format']}, but this version reads {FORMAT}",
                where=str(folder),
                fix="use the version of sono-curate that wrote it",
            )
        if any(sha256_of(folder / name) != sha256 for name, sha256 in marker["files"].items()):
            return None
        meta = json.loads((folder / META).read_bytes()) if META in marker["files"] else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    if not isinstance(meta, dict):
        return None
    if marker["format"] == _OF_ONE_DATASET and "dataset" in meta:
        dataset = meta.pop("dataset")
        meta["datasets"] = [{"name": Path(dataset["source"]).name, **dataset, "share": 1.0}]
    return Checkpoint(folder, {**meta, "file": folder.name, "sha256": sha256_of(folder / MARKER)})

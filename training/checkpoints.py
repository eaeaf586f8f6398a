"""Checkpoints: whole or absent, whatever moment the process is killed at.

``RUN/checkpoints/step-00000500.pt`` is written under another name, synced and renamed; then, likewise,
``step-00000500.json`` with its SHA-256. A checkpoint without that second file,
or that disagrees with it, does not count.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from sono.manifests.errors import UserError
from sono.manifests.store import TableStore, write_atomically

FOLDER = "checkpoints"
FORMAT = 1


@dataclass(frozen=True)
class Loaded:
    """A checkpoint in memory: its content, and the file's name and SHA-256 for whoever reports figures made with it."""

    content: dict[str, Any]
    file: Path
    sha256: str


def save(run: Path, content: dict[str, Any], keep: int) -> Path:
    """Write a checkpoint of ``content["step"]`` and remove those before the last ``keep``."""
    step = int(content["step"])
    path = run / FOLDER / f"step-{step:08d}.pt"
    write_atomically(path, lambda file: torch.save({"format": FORMAT, **content}, file))
    marker = json.dumps({"step": step, "sha256": _sha256(path)}).encode()
    write_atomically(path.with_suffix(".json"), lambda file: file.write(marker))
    _prune(run, step, keep)
    return path


def clear_leftovers(run: Path) -> None:
    """Remove what a killed process left half-written. Call it only while holding the run's lock."""
    TableStore(run).clear_leftovers()


def latest(run: Path, notice: Callable[[str], None]) -> Loaded | None:
    """The newest whole checkpoint, or None if none was ever finished; damaged ones are passed over with a notice.

    Raises:
        UserError: there are checkpoints but all are damaged, or another version wrote them.
    """
    steps = _steps(run)
    for step in reversed(steps):
        path = run / FOLDER / f"step-{step:08d}.pt"
        if loaded := _read(path):
            return loaded
        notice(f"{path}: damaged, falling back to the checkpoint before it")
    if steps:
        raise UserError("every checkpoint is damaged", where=str(run / FOLDER), fix="restore one, or start a new run")
    return None


def _steps(run: Path) -> list[int]:
    return sorted(int(path.stem.removeprefix("step-")) for path in (run / FOLDER).glob("step-*.json"))


def _read(path: Path) -> Loaded | None:
    """The checkpoint, or None where the file is not the one that was written."""
    try:
        sha256 = _sha256(path)
        if sha256 != json.loads(path.with_suffix(".json").read_bytes())["sha256"]:
            return None
    except (OSError, ValueError, KeyError):
        return None
    content = torch.load(path, map_location="cpu", weights_only=True)
    if content["format"] != FORMAT:
        raise UserError(
            f"the checkpoint has format {content['format']} and this version reads {FORMAT}",
            where=str(path),
            fix="use the version of sono-curate that wrote it",
        )
    return Loaded(content, path, sha256)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _prune(run: Path, newest: int, keep: int) -> None:
    """Later steps than ``newest`` can only be damaged ones that were passed over: they count for nothing."""
    kept = [step for step in _steps(run) if step <= newest][-keep:]
    for path in (run / FOLDER).glob("step-*.pt"):
        if int(path.stem.removeprefix("step-")) < kept[0]:
            path.with_suffix(".json").unlink(missing_ok=True)
            path.unlink()

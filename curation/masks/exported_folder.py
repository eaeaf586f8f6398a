"""A folder that is there only once it is complete, and that replaces nothing but its unchanged predecessor."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

from sono.manifests.errors import UserError
from sono.manifests.outputs import refuse_inside_dataset
from sono.manifests.store import TEMPORARY, sync_folder

MARKER = ".sono-masks.json"
"""Says that an export wrote the folder, and what was in it; hidden files are not imported."""


@contextlib.contextmanager
def new_folder(out: Path, workspace: Path) -> Iterator[Path]:
    """A folder to write into, which becomes ``out`` at the end; after an error nothing of it is left.

    Raises:
        UserError: ``out`` holds something that no export wrote, or that was changed since, or lies in a workspace or a
            dataset.
    """
    refuse_inside_dataset(out)
    if out.resolve().is_relative_to(workspace.resolve()):
        raise UserError("this lies in the workspace", where=str(out), fix="name another place")
    _refuse_foreign(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    folder = out.parent / f"{TEMPORARY}export-{uuid.uuid4().hex}"
    folder.mkdir(mode=0o700)
    try:
        yield folder
        (folder / MARKER).write_text(json.dumps({"fingerprint": _fingerprint(folder)}) + "\n", encoding="utf-8")
        os.sync()  # once for all files; to wait for each of a million would take hours
        _refuse_foreign(out)
        if out.exists():
            replaced = out.parent / f"{TEMPORARY}replaced-{uuid.uuid4().hex}"
            out.rename(replaced)
            folder.rename(out)
            shutil.rmtree(replaced)
        else:
            folder.rename(out)
        sync_folder(out.parent)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _refuse_foreign(out: Path) -> None:
    if not out.exists():
        return
    if not out.is_dir():
        raise UserError("not a folder", where=str(out), fix="name a new folder")
    if not any(out.iterdir()):
        return
    try:
        written = json.loads((out / MARKER).read_bytes())["fingerprint"]
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(
            "the folder contains something that no export wrote", where=str(out), fix="name a new folder"
        ) from None
    if written != _fingerprint(out):
        raise UserError(
            "files in it were changed since they were exported", where=str(out), fix="name a new folder, or import them"
        )


def _fingerprint(folder: Path) -> str:
    """Changes with the name, the size or the time of any file."""
    digest = hashlib.sha256()
    for parent, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            path = Path(parent, name)
            if name != MARKER:
                status = path.stat()
                digest.update(f"{path.relative_to(folder)}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
    return digest.hexdigest()

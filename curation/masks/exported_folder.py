"""A folder that is there only once it is complete, and that replaces nothing but its unchanged predecessor."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from sono.manifests.errors import UserError
from sono.manifests.outputs import refuse_inside_dataset
from sono.manifests.store import TEMPORARY, exclusive, sync_folder

MARKER = ".sono-masks.json"
"""Says that an export wrote the folder, and what was in it; hidden files are not imported."""

_LOCK = ".lock"  # of ``exclusive``


@contextlib.contextmanager
def new_folder(out: Path, workspace: Path) -> Iterator[Path]:
    """A folder to write into, which becomes ``out`` at the end; after an error nothing of it is left.

    A killed process leaves ``.tmp-export-NAME`` beside ``out``, or the predecessor as ``.tmp-replaced-NAME`` if it died
    between two renames: the next export to ``out`` clears the one and puts the other back.

    Raises:
        UserError: ``out`` holds something that no export wrote, or that was changed since, or lies in a workspace or a
            dataset; or another process is exporting to it.
    """
    refuse_inside_dataset(out)
    out = out.resolve()  # a link stays one
    if out.is_relative_to(workspace.resolve()):
        raise UserError("this lies in the workspace", where=str(out), fix="name another place")
    folder, replaced = (out.with_name(f"{TEMPORARY}{what}-{out.name}") for what in ("export", "replaced"))
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with exclusive(folder, str(out)):
        try:
            _put_back(out, replaced)
            _refuse_foreign(out)
            _clear(folder)
            yield folder
            (folder / MARKER).write_text(json.dumps({"fingerprint": _fingerprint(folder)}) + "\n", encoding="utf-8")
            os.sync()  # once for all files; to wait for each of a million would take hours
            _refuse_foreign(out)
            if out.exists():
                out.rename(replaced)
            folder.rename(out)
            sync_folder(out.parent)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            _put_back(out, replaced)
            raise
        (out / _LOCK).unlink()
        shutil.rmtree(replaced, ignore_errors=True)


def _put_back(out: Path, replaced: Path) -> None:
    """Where an export was moved aside and its successor did not come, it is the export again."""
    if replaced.exists() and out.exists():
        shutil.rmtree(replaced)
    elif replaced.exists():
        replaced.rename(out)


def _clear(folder: Path) -> None:
    """Remove what a killed process wrote."""
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name != _LOCK:
            path.unlink()


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
            if name not in (MARKER, _LOCK):
                status = path.stat()
                digest.update(f"{path.relative_to(folder)}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
    return digest.hexdigest()

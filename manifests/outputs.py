"""Refuses places for output where it would mix with something else, or overwrite it."""

from __future__ import annotations

from collections.abc import Set
from pathlib import Path

from .errors import UserError
from .filenames import MARKER
from .store import TEMPORARY


def refuse_wildcards(folder: Path) -> None:
    """Refuse a folder whose path DuckDB takes for a pattern: it would read the files of others that match it.

    Raises:
        UserError: the path has a character of patterns.
    """
    if set("*?[") & set(str(folder.absolute())):
        raise UserError("a path with *, ? or [ cannot be used", where=str(folder), fix="rename the folder")


def refuse_inside_dataset(out: Path) -> None:
    """Refuse output below a finished dataset or checkpoint, which hold what they list and nothing else.

    Raises:
        UserError: a folder above ``out`` is one, or the path is taken for a pattern.
    """
    refuse_wildcards(out)
    for folder in out.absolute().parents:
        if (folder / MARKER).is_file():
            raise UserError(
                f"this lies in {folder}, a finished dataset or checkpoint", where=str(out), fix="name another place"
            )


def refuse_foreign(out: Path, parts: Set[str], what: str) -> None:
    """Refuse the folder ``out`` if it contains anything but ``parts`` of ``what``, or temporary files.

    Raises:
        UserError: it does, or is a file; the text names the first such entry.
    """
    if not out.exists():
        return
    if not out.is_dir():
        raise UserError("not a folder", where=str(out), fix="name a new folder")
    foreign = sorted(path.name for path in out.iterdir() if path.name not in parts and not _is_temporary(path))
    if foreign:
        raise UserError(f"{foreign[0]!r} does not belong to {what}", where=str(out), fix="name a new folder")


def _is_temporary(path: Path) -> bool:
    return path.name.startswith(TEMPORARY)

"""The files of an archive: find them, and cut them into parts."""

from __future__ import annotations

import errno
import json
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pyarrow as pa

from sono.manifests.errors import UserError
from sono.manifests.pseudonyms import Pseudonymizer
from sono.manifests.stages import Part

_PART_FILES = 64  # on average
_MAX_PART_FILES = 4 * _PART_FILES
_MAX_PART_BYTES = 256 * 2**20


@dataclass(frozen=True)
class SourceFile:
    """A file of an archive. ``relative`` may hold a patient's name: it is hashed, never stored and never printed."""

    path: Path
    relative: str  # POSIX, from the ingested folder
    source_key: str
    name_key: str
    size: int
    mtime_ns: int
    unreadable: bool = False  # not even its size is known


def find_files(folder: Path, keys: Pseudonymizer, skip: Iterable[Path] = ()) -> list[SourceFile]:
    """Every regular file below ``folder``, sorted by relative path; hidden files and folders are skipped.

    A file or folder whose path is too long for the system is listed as unreadable; pipes, sockets and devices are not
    files.

    Raises:
        UserError: the folder is missing or holds no file.
    """
    if not folder.is_dir():
        what = "not a folder" if folder.exists() else "folder not found"
        raise UserError(what, where=str(folder), fix="give the folder that contains the files")
    skipped = set(map(os.path.realpath, skip))  # which, unlike Path.resolve, survives a link to itself
    paths = (path for path in _walk(folder) if not skipped or os.path.realpath(path) not in skipped)
    found = [_describe(path, folder, keys) for path in paths]
    if not found:
        raise UserError(
            "the folder contains no files", where=str(folder), fix="give the folder that contains the files"
        )
    return sorted(found, key=lambda file: file.relative)


def cut(
    files: Sequence[SourceFile], size: Callable[[SourceFile], int] = lambda file: file.size
) -> Iterator[list[SourceFile]]:
    """Cut a sorted list into parts, at places that depend on the files' own keys.

    A file's key decides whether a part ends with it. A file that is added or removed therefore changes its own part and
    at most a few after it, however long the list is; everything else is found up to date.
    """
    part: list[SourceFile] = []
    total = 0
    for file in files:
        part.append(file)
        total += size(file)
        ends = int(file.source_key[:8], 16) % _PART_FILES == 0
        if ends or len(part) >= _MAX_PART_FILES or total >= _MAX_PART_BYTES:
            yield part
            part, total = [], 0
    if part:
        yield part


def part_of(
    files: Sequence[SourceFile],
    rows: Mapping[str, dict[str, object]],
    schema: pa.Schema,
    keys: Pseudonymizer,
    kind: str,
) -> Part:
    """The part made of these files; ``rows`` are its input, by relative path, with the columns of ``schema``.

    Its name depends on ``kind`` and the files' paths; its digest changes with a file's size or time, or with anything
    in its row but ``path``. Both are keyed hashes, so that nobody can test guesses of file names against them.
    """
    facts = [
        [file.size, file.mtime_ns, {name: value for name, value in rows[file.relative].items() if name != "path"}]
        for file in files
    ]
    # Rows in the order of their pseudonyms: the order of file names would reveal something about them.
    inputs = sorted((rows[file.relative] for file in files), key=lambda row: str(row["source_key"]))
    return Part(
        name=keys.content("\n".join([kind, *(file.relative for file in files)])),
        digest=keys.content(json.dumps(facts, sort_keys=True, default=str)),
        load=partial(pa.Table.from_pylist, inputs, schema=schema),
    )


def _walk(folder: Path) -> Iterator[Path]:
    too_long: list[Path] = []

    def fail(error: OSError) -> None:
        if error.errno == errno.ENAMETOOLONG:
            too_long.append(Path(error.filename))
            return
        raise UserError(
            "a folder below this one cannot be read", where=str(folder), fix="check its permissions"
        ) from error

    for parent, folders, names in os.walk(folder, onerror=fail):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in names:
            path = Path(parent, name)
            if not name.startswith(".") and _may_be_read(path):
                yield path
    yield from too_long


def _may_be_read(path: Path) -> bool:
    """A regular file, or one of which the system says nothing; opening a pipe would wait for ever."""
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except FileNotFoundError:  # a link to nowhere, or gone since
        return False
    except OSError:
        return True


def _describe(path: Path, folder: Path, keys: Pseudonymizer) -> SourceFile:
    relative = path.relative_to(folder).as_posix()
    found = partial(SourceFile, path, relative, keys.source(relative), keys.name(relative))
    try:
        status = path.stat()
    except OSError:
        return found(size=0, mtime_ns=0, unreadable=True)
    return found(size=status.st_size, mtime_ns=status.st_mtime_ns)

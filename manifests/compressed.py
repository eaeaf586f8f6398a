"""Records inside ``.gz`` and ``.zip`` files: found, measured and opened without ever writing them out.

A location names a file, or a member of a compressed one. What a file inflates to is bounded before anything reads it.
"""

from __future__ import annotations

import gzip
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

MEMBERS_MOST = 20_000
_INFLATED_MOST = 4 * 2**30  # of a file, in bytes
_INFLATED_FREE = 256 * 2**20  # up to here a file may inflate to any multiple of itself
_RATIO_MOST = 100  # text of records deflates to a tenth or a twentieth
_DIRECTORY_BYTES_MOST = MEMBERS_MOST * 512
_END_RECORD, _END_BYTES = b"PK\x05\x06", 22 + 65_535
_BLOCK = 2**20
_DAMAGED = (OSError, EOFError, zlib.error, zipfile.BadZipFile, RuntimeError, NotImplementedError, ValueError)
_MEMBER = "\0"  # between a file's path and the name of a member; no path has it


class TooLargeError(Exception):
    """Raised for a file that inflates to more than records do, or has too many members."""


class DamagedError(Exception):
    """Raised for a compressed file that cannot be read."""


@dataclass(frozen=True)
class Member:
    """A member of a compressed file: its name, its size in bytes when inflated, and how it begins."""

    name: str
    size: int
    head: bytes


def is_compressed(path: Path, head: bytes) -> bool:
    """Whether a file is compressed, by its extension and its first bytes; an ``.xlsx`` is not."""
    extension = path.suffix.lower()
    return (extension == ".gz" and head[:2] == b"\x1f\x8b") or (extension == ".zip" and head[:2] == b"PK")


def members_of(path: Path, head_bytes: int) -> list[Member]:
    """The members of a compressed file, each inflated once to be measured; folders and hidden ones are left out.

    Raises:
        TooLargeError: they inflate to more than is allowed.
        DamagedError: they cannot be read.
    """
    most = min(_INFLATED_MOST, max(_INFLATED_FREE, _RATIO_MOST * path.stat().st_size))
    found: list[Member] = []
    try:
        names = _names(path)
        for name in names:
            with open_location(location(path, name)) as file:
                head = file.read(head_bytes)
                size = len(head)
                while size <= most and (block := file.read(_BLOCK)):
                    size += len(block)
            most -= size
            if most < 0:
                raise TooLargeError
            found.append(Member(name, size, head))
    except _DAMAGED:
        raise DamagedError from None
    return found


def location(path: Path, member: str) -> str:
    """The location of a member; a ``.gz`` file has one, whose name is the file's without the extension."""
    return f"{path}{_MEMBER}{member}"


@contextmanager
def open_location(where: str) -> Iterator[IO[bytes]]:
    """Open a file or a member of a compressed one; both can be sought in."""
    path, _, member = where.partition(_MEMBER)
    if not member:
        with Path(path).open("rb") as file:
            yield file
    elif path.lower().endswith(".gz"):
        with gzip.open(path, "rb") as inflated:
            yield cast(IO[bytes], inflated)
    else:
        with zipfile.ZipFile(path) as archive, archive.open(member) as inflated_member:
            yield inflated_member


def _names(path: Path) -> list[str]:
    if path.suffix.lower() == ".gz":
        return [path.stem]
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _END_BYTES))
        _, marker, end = file.read().rpartition(_END_RECORD)
    count, directory = int.from_bytes(end[6:8], "little"), int.from_bytes(end[8:12], "little")
    if marker and (count > MEMBERS_MOST or directory > _DIRECTORY_BYTES_MOST):
        raise TooLargeError
    with zipfile.ZipFile(path) as archive:
        names = sorted({item.filename for item in archive.infolist() if not item.is_dir()})
    return [name for name in names if not any(part.startswith((".", "__MACOSX")) for part in name.split("/"))]

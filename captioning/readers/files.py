"""Finds clinical records and recognizes their kind by content. Nothing is parsed here."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from sono.manifests.compressed import DamagedError, TooLargeError, is_compressed, location, members_of
from sono.manifests.errors import UserError
from sono.manifests.pseudonyms import Pseudonymizer

from .sr.content import is_dicom

CSV, JSON_LINES, FHIR_LINES, PARQUET, FHIR_JSON, DICOM_SR, UNKNOWN, TOO_LARGE, DAMAGED = (
    "csv",
    "json_lines",
    "fhir_lines",
    "parquet",
    "fhir_json",
    "dicom_sr",
    "unknown",
    "too_large",
    "damaged",
)
DOCUMENTS = (FHIR_JSON, DICOM_SR, UNKNOWN, TOO_LARGE, DAMAGED)
"""Kinds that come by the thousand, one record each."""

TABLES = (CSV, JSON_LINES, PARQUET)

_HEAD_BYTES = 64 * 1024  # of a file, which tell what it is


@dataclass(frozen=True)
class RecordsFile:
    """A file, or a member of a compressed one.

    Attributes:
        path: of the file, for people.
        kind: what it holds, one of the kinds above.
        label: what messages call it.
        location: where ``manifests.compressed.open_location`` finds it.
        size: in bytes; of a member when inflated.
    """

    path: Path
    kind: str
    label: str
    source_key: str
    location: str
    size: int


def find_records(paths: Sequence[Path], keys: Pseudonymizer) -> list[RecordsFile]:
    """The files named, and those in the folders named, each once.

    Raises:
        UserError: nothing is there, or a file that was named itself is not a record.
    """
    if not paths:
        raise UserError("no records were named", fix="give --records FILE, or a folder of them")
    files: dict[Path, list[RecordsFile]] = {}
    tables = 0
    for named in paths:
        for path in _files(named):
            if path.resolve() in files:
                continue
            relative = path.name if path == named else path.relative_to(named).as_posix()
            found = files[path.resolve()] = []
            for kind, member, place, size in _contents(path):
                key = keys.source(f"{relative}/{member}" if member else relative)
                # Documents come by the thousand: a number would change with every one that is added.
                tables += kind not in DOCUMENTS
                label = f"document {key[:8]}" if kind in DOCUMENTS else f"records file {tables}"
                found.append(RecordsFile(path, kind, label, key, place, size))
            if path == named and [file.kind for file in found] == [UNKNOWN]:
                raise UserError(
                    "not CSV, JSON lines, Parquet, FHIR JSON or DICOM SR",
                    where=str(path),
                    fix="name a file of clinical records",
                )
    return [file for found in files.values() for file in found]


def _contents(path: Path) -> Iterator[tuple[str, str, str, int]]:
    """Kind, member, location and size of a file, or of each member of a compressed one."""
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
        size = path.stat().st_size
    except OSError:
        raise UserError("the file cannot be read", where=str(path), fix="check its permissions") from None
    if not is_compressed(path, head):
        yield _kind(path.name, head), "", str(path), size
        return
    try:
        for member in members_of(path, _HEAD_BYTES):
            in_archive = member.name if path.suffix.lower() == ".zip" else ""
            yield _kind(member.name, member.head), in_archive, location(path, member.name), member.size
    except TooLargeError:
        yield TOO_LARGE, "", str(path), size
    except DamagedError:
        yield DAMAGED, "", str(path), size


def _files(named: Path) -> list[Path]:
    if not named.exists():
        raise UserError("file not found", where=str(named), fix="check the path of the records")
    if not named.is_dir():
        if not named.is_file():
            raise UserError("not a regular file", where=str(named), fix="name a file of clinical records")
        return [named]
    found = sorted(
        Path(parent, name)
        for parent, _, names in os.walk(named)
        for name in names
        if not any(part.startswith(".") for part in Path(parent, name).relative_to(named).parts)
        and Path(parent, name).is_file()  # reading a pipe would wait for ever
    )
    if not found:
        raise UserError("the folder contains no files", where=str(named), fix="name a folder that contains records")
    return found


def _kind(name: str, first: bytes) -> str:
    """By content where that tells, else by the name's extension."""
    if is_dicom(first):
        return DICOM_SR
    if first[:4] == b"PAR1":
        return PARQUET
    extension = PurePosixPath(name).suffix.lower()
    if extension in (".csv", ".tsv"):
        return CSV
    text = first.removeprefix(b"\xef\xbb\xbf").lstrip()
    if text[:1] != b"{":
        return UNKNOWN
    if extension in (".ndjson", ".jsonl"):
        line = text.split(b"\n", 1)[0]
        return FHIR_LINES if b'"resourceType"' in line else JSON_LINES
    return FHIR_JSON if extension == ".json" else UNKNOWN

"""Finds clinical records and recognizes their kind by content. Nothing is parsed here."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sono.manifests.errors import UserError
from sono.manifests.pseudonyms import Pseudonymizer

CSV, JSON_LINES, FHIR_LINES, PARQUET, FHIR_JSON, DICOM_SR, UNKNOWN = (
    "csv",
    "json_lines",
    "fhir_lines",
    "parquet",
    "fhir_json",
    "dicom_sr",
    "unknown",
)
DOCUMENTS = (FHIR_JSON, DICOM_SR, UNKNOWN)
"""Kinds of which there are thousands of files, with one record each."""

TABLES = (CSV, JSON_LINES, PARQUET)


@dataclass(frozen=True)
class RecordsFile:
    """A file, what it holds (one of the kinds above), and what messages call it."""

    path: Path
    kind: str
    label: str
    source_key: str


def find_records(paths: Sequence[Path], keys: Pseudonymizer) -> list[RecordsFile]:
    """The files named, and those in the folders named, each once.

    Raises:
        UserError: nothing is there, or a file that was named itself is not a record.
    """
    if not paths:
        raise UserError("no records were named", fix="give --records FILE, or a folder of them")
    files: dict[Path, RecordsFile] = {}
    for named in paths:
        for path in _files(named):
            if path.resolve() in files:
                continue
            kind = _kind(path)
            if kind == UNKNOWN and path == named:
                raise UserError(
                    "not CSV, JSON lines, Parquet, FHIR JSON or DICOM SR",
                    where=str(path),
                    fix="name a file of clinical records",
                )
            relative = path.name if path == named else path.relative_to(named).as_posix()
            key = keys.source(relative)
            # Documents come by the thousand: a number would change with every one that is added.
            label = f"document {key[:8]}" if kind in DOCUMENTS else f"records file {len(files) + 1}"
            files[path.resolve()] = RecordsFile(path, kind, label, key)
    return list(files.values())


def _files(named: Path) -> list[Path]:
    if not named.exists():
        raise UserError("file not found", where=str(named), fix="check the path of the records")
    if not named.is_dir():
        return [named]
    found = sorted(
        Path(parent, name)
        for parent, _, names in os.walk(named)
        for name in names
        if not any(part.startswith(".") for part in Path(parent, name).relative_to(named).parts)
    )
    if not found:
        raise UserError("the folder contains no files", where=str(named), fix="name a folder that contains records")
    return found


def _kind(path: Path) -> str:
    """By content where that tells, else by the name's extension."""
    try:
        with path.open("rb") as file:
            first = file.read(64 * 1024)
    except OSError:
        raise UserError("the file cannot be read", where=str(path), fix="check its permissions") from None
    if first[128:132] == b"DICM":
        return DICOM_SR
    if first[:4] == b"PAR1":
        return PARQUET
    extension = path.suffix.lower()
    if extension == ".csv":
        return CSV
    text = first.removeprefix(b"\xef\xbb\xbf").lstrip()
    if text[:1] != b"{":
        return UNKNOWN
    if extension in (".ndjson", ".jsonl"):
        line = text.split(b"\n", 1)[0]
        return FHIR_LINES if b'"resourceType"' in line else JSON_LINES
    return FHIR_JSON if extension == ".json" else UNKNOWN

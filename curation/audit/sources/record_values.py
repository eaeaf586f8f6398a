"""What clinical records say about who was examined: names and identifiers that must be nowhere in the workspace.

Records also hold codes and measurements, which captions may say. So of tables every word counts, and identifiers'
columns as they are; of FHIR the elements that name or identify; of structured reports everything in words.
"""

from __future__ import annotations

import csv
import io
import json
import re
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from itertools import chain, zip_longest
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from sono.curation.images.dicom.file import read_dicom_file
from sono.curation.images.pixels import ExcludedError
from sono.manifests import pydicom_warnings
from sono.manifests.compressed import DamagedError, TooLargeError, is_compressed, members_of, open_location
from sono.manifests.compressed import location as member_location
from sono.manifests.delimited import bounded_lines, text_encoding
from sono.manifests.errors import UserError

from .header_values import HeaderValues, dates_in, dicom_values

_FHIR_NAMING = {
    *("name", "identifier", "address", "telecom", "contact", "photo", "id", "fullUrl", "reference", "display"),
    *("birthDate", "accession", "alias"),
}
_IDENTIFIERS = re.compile(
    r"id$|_id|name|number|accession|birth|dob|date|mrn|patient|study|exam|address|phone|mail", re.I
)
_WORD = re.compile(r"[^\W\d_]{3,}")
_HEAD_BYTES = 132
_BATCH_VALUES = 20_000


class _NotUnderstoodError(Exception):
    """A file that is no record of a known kind."""


_FAULTS = (
    *(_NotUnderstoodError, ExcludedError, csv.Error, pa.ArrowException, zipfile.BadZipFile, zlib.error),
    *(ValueError, EOFError, OSError, RuntimeError),  # RuntimeError: a member is encrypted, or JSON too deep
)


def require_records(paths: Sequence[Path]) -> None:
    """Make sure that every path leads somewhere.

    Raises:
        UserError: one leads nowhere.
    """
    for path in paths:
        if not path.exists():
            raise UserError("records not found", where=str(path), fix="check the path")


def record_values(paths: Sequence[Path]) -> Iterator[HeaderValues | None]:
    """Values of every record, in pieces of bounded size; None for a file, or a member, that is not understood."""
    for named in paths:
        files = sorted(path for path in named.rglob("*") if path.is_file()) if named.is_dir() else [named]
        for path in files:
            for location in _locations(path):
                try:
                    if location is None:
                        raise _NotUnderstoodError
                    yield from _values(location)
                except _FAULTS:
                    yield None


def _locations(path: Path) -> list[str | None]:
    """Of a file, or of every member of a compressed one; None where they cannot be listed."""
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
        if not is_compressed(path, head):
            return [str(path)]
        return [member_location(path, member.name) for member in members_of(path, _HEAD_BYTES)]
    except (OSError, DamagedError, TooLargeError):
        return [None]


def _values(location: str) -> Iterator[HeaderValues]:
    with open_location(location) as file:
        head = file.read(_HEAD_BYTES)
        file.seek(0)
        if head[128:132] == b"DICM":
            with pydicom_warnings.silenced():
                yield dicom_values(read_dicom_file(file.read()).dataset)
            return
        if head[:4] == b"PAR1":
            yield from _of_parquet(file)
            return
        text = io.TextIOWrapper(file, encoding=text_encoding(head), newline="")
        first = head.lstrip(b"\xef\xbb\xbf \t\r\n\0\xff\xfe")[:1]
        if first in (b"{", b"["):
            yield from _of_json(text)
        elif first and any(separator in head for separator in b",;\t"):
            yield from _of_csv(text)
        else:
            raise _NotUnderstoodError


def _of_json(text: io.TextIOWrapper) -> Iterator[HeaderValues]:
    """A document, or one on each line."""
    first = text.readline()
    try:
        documents: Iterator[Any] = iter([json.loads(first)])
        rest = text
    except ValueError:
        documents = iter([json.loads(first + text.read())])
        rest = io.StringIO()  # type: ignore[assignment]
    for document in chain(documents, (json.loads(line) for line in rest if line.strip())):
        yield _of_document(document)


def _of_document(document: Any) -> HeaderValues:
    """A FHIR resource or bundle; else an object of cells; or a list of them."""
    values = HeaderValues()
    for item in document if isinstance(document, list) else [document]:
        if isinstance(item, dict) and "resourceType" not in item:
            for column, cell in item.items():
                _add_cell(values, column, str(cell))
        else:
            _walk(item, values, naming=False)
    return values


def _walk(value: Any, values: HeaderValues, *, naming: bool) -> None:
    if isinstance(value, dict):
        for key, inner in value.items():
            _walk(inner, values, naming=(naming and key not in ("system", "use", "type")) or key in _FHIR_NAMING)
    elif isinstance(value, list):
        for inner in value:
            _walk(inner, values, naming=naming)
    elif isinstance(value, str):
        values.dates.update(dates_in(value))
        if naming:
            values.texts.append(("records", value))


def _of_csv(text: io.TextIOWrapper) -> Iterator[HeaderValues]:
    lines = bounded_lines(text)
    header = next(lines)
    delimiter = max(",;\t", key=header.count)
    columns = next(csv.reader([header], delimiter=delimiter))
    values = HeaderValues()
    try:
        for cells in csv.reader(lines, delimiter=delimiter, skipinitialspace=True):
            for column, cell in zip_longest(columns, cells, fillvalue=""):
                _add_cell(values, column, cell)
            if len(values.texts) > _BATCH_VALUES:
                yield values
                values = HeaderValues()
    except (csv.Error, ValueError, EOFError, OSError, zlib.error):
        yield values  # of the rows before the damage
        raise
    yield values


def _of_parquet(opened: IO[bytes]) -> Iterator[HeaderValues]:
    with pq.ParquetFile(opened) as file:
        for batch in file.iter_batches(4096):
            values = HeaderValues()
            for row in batch.to_pylist():
                for column, cell in row.items():
                    if cell is not None:
                        _add_cell(values, column, str(cell))
            yield values


def _add_cell(values: HeaderValues, column: str, cell: str) -> None:
    """Of an identifier's column, or one without a name, the entire cell; of any other its words: it may hold a name."""
    cell = cell.strip()
    if not cell:
        return
    values.dates.update(dates_in(cell))
    if not column or _IDENTIFIERS.search(column):
        values.texts.append(("records", cell))
    else:
        values.texts += [("records", word) for word in _WORD.findall(cell)]

"""Rows of tables as cells of text, whether the file is CSV, JSON lines or Parquet."""

from __future__ import annotations

import csv
import datetime
import decimal
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

from sono.manifests.errors import UserError

from .files import CSV, JSON_LINES, PARQUET, RecordsFile
from .mapping import COLUMNS, Column, ColumnMapping
from .slices import Slice, lines_of, pieces_of

_HEADER_LINES = 1_000  # of JSON lines, which name their columns one by one


class Row(NamedTuple):
    """A row, named by its place, with as many cells as the table has columns; None where it does not fit them."""

    place: str
    cells: Sequence[str] | None


def columns_of(file: RecordsFile, mapping: ColumnMapping) -> list[Column]:
    """What the columns of a table hold.

    Raises:
        UserError: the columns cannot be read, or are not those that tables and the mapping name.
    """
    where = str(file.path)
    if file.kind == CSV:
        return mapping.resolve(_csv_header(file), where)
    if file.kind == PARQUET:
        import pyarrow.parquet as pq

        return mapping.resolve(pq.read_schema(file.path).names, where)
    names = _json_names(file)
    found = mapping.resolve(names, where)
    # What is null is often left out of a line, so that columns may come late.
    known = {column.holds for column in found} | {name.strip().lower() for name in names}
    return [*found, *(mapping.column(name) for name in COLUMNS if name not in known)]


def rows_of(slice_: Slice, columns: Sequence[Column]) -> Iterator[Row]:
    """The rows of a slice of a table."""
    readers = {CSV: _csv_rows, JSON_LINES: _json_rows, PARQUET: _parquet_rows}
    return readers[slice_.kind](slice_, columns)


def _csv_header(file: RecordsFile) -> list[str]:
    where = str(file.path)
    try:
        first = next(pieces_of(file), b"").decode("utf-8-sig")
        header = next(csv.reader(io.StringIO(first, newline=""), strict=True), None)
    except UnicodeDecodeError:
        raise UserError("not UTF-8 text", where=where, fix="save it as CSV with UTF-8 encoding") from None
    except csv.Error:
        raise UserError("the first line is not valid CSV", where=where, fix="it must name the columns") from None
    if header is None:
        raise UserError("the file is empty", where=where, fix="its first line must name the columns")
    if len(header) == 1 and ";" in header[0]:
        raise UserError("the cells are separated by semicolons", where=where, fix="save it comma-separated")
    return header


def _json_names(file: RecordsFile) -> list[str]:
    names: dict[str, None] = {}
    for number, line in enumerate(lines_of(file.path, 0, file.path.stat().st_size)):
        if number == _HEADER_LINES:
            break
        names.update(dict.fromkeys(_json_object(line) or ()))
    return list(names)


def _csv_rows(slice_: Slice, columns: Sequence[Column]) -> Iterator[Row]:
    with Path(slice_.path).open("rb") as file:
        file.seek(slice_.start)
        content = file.read(slice_.stop - slice_.start)
    line = slice_.first_line
    reader = csv.reader(io.StringIO(content.decode("utf-8-sig"), newline=""), strict=True)
    for cells in reader:
        if cells and line > 1:
            yield Row(f"line {line} of {slice_.file}", cells if len(cells) == len(columns) else None)
        line = slice_.first_line + reader.line_num


def _json_rows(slice_: Slice, columns: Sequence[Column]) -> Iterator[Row]:
    names = [column.name.strip().lower() for column in columns]
    lines = lines_of(Path(slice_.path), slice_.start, slice_.stop)
    for number, line in enumerate(lines, slice_.first_line):
        if line.strip():
            yield Row(f"line {number} of {slice_.file}", _cells(_json_object(line), names))


def _parquet_rows(slice_: Slice, columns: Sequence[Column]) -> Iterator[Row]:
    import pyarrow.dataset

    rows = pyarrow.dataset.dataset(slice_.path).scanner(batch_size=4096)
    table = rows.take(pa.array(range(slice_.start, slice_.stop), pa.int64()))
    names = [column.name.strip().lower() for column in columns]
    for offset, row in enumerate(table.to_pylist()):
        yield Row(f"row {slice_.first_line + offset} of {slice_.file}", _cells(row, names))


def _cells(row: Mapping[str, object] | None, names: Sequence[str]) -> list[str] | None:
    """A row's values as a CSV would hold them; None where it has another column, or a value that no cell can hold.

    Args:
        names: of the columns, in lower case.
    """
    by_name = {name.strip().lower(): value for name, value in (row or {}).items()}
    if row is None or len(by_name) < len(row) or not set(by_name) <= set(names):
        return None
    cells = [_cell(by_name.get(name)) for name in names]
    return None if None in cells else [cell for cell in cells if cell is not None]


def _cell(value: object) -> str | None:
    if value is None or value != value:  # NaN, which means a missing number
        return ""
    if isinstance(value, decimal.Decimal):
        return format(value, "f")
    if isinstance(value, list | tuple):
        items = [_cell(item) for item in value]
        return None if None in items else ";".join(item for item in items if item)
    if isinstance(value, datetime.date):
        return value.isoformat()
    if isinstance(value, str | int | float) and not isinstance(value, bool):
        return str(value)
    return None


def _json_object(line: bytes) -> dict[str, object] | None:
    try:
        found = json.loads(line, object_pairs_hook=_unique_names)
    except (UnicodeDecodeError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _unique_names(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name is listed twice")
    return found

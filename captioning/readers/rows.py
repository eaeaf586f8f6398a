"""Rows of tables as cells of text, whether the file is CSV, JSON lines or Parquet."""

from __future__ import annotations

import csv
import datetime
import decimal
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import pyarrow as pa

from sono.manifests.compressed import open_location
from sono.manifests.delimited import LongLineError, opened_format
from sono.manifests.errors import UserError

from .files import CSV, JSON_LINES, PARQUET, RecordsFile
from .mapping import COLUMNS, Column, ColumnMapping
from .slices import Slice, lines_of, not_text, pieces_of, too_long

_NUMBER_MOST = 10**30  # Python refuses to spell numbers of thousands of digits
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
        return mapping.resolve(_parquet_names(file), where)
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
        form = opened_format(lambda: open_location(file.location))
        first = next(pieces_of(file), b"").decode(form.encoding)
        header = next(csv.reader(io.StringIO(first, newline=""), delimiter=form.delimiter, strict=True), None)
    except LongLineError:
        raise too_long(str(file.path), CSV) from None
    except UnicodeError:
        raise not_text(where) from None
    except csv.Error:
        raise UserError("the first line is not valid CSV", where=where, fix="it must name the columns") from None
    if header is None:
        raise UserError("the file is empty", where=where, fix="its first line must name the columns")
    return header


def _parquet_names(file: RecordsFile) -> list[str]:
    import pyarrow.parquet as pq

    try:
        with open_location(file.location) as source:
            names: list[str] = pq.read_schema(source).names
    except (pa.ArrowException, OSError, ValueError):  # ValueError: a name that is not UTF-8
        raise UserError("this Parquet file is damaged", where=str(file.path), fix="copy it again") from None
    return names


def _json_names(file: RecordsFile) -> list[str]:
    names: dict[str, None] = {}
    for number, line in enumerate(lines_of(file.location, 0, file.size)):
        if number == _HEADER_LINES:
            break
        names.update(dict.fromkeys(_json_object(line) or ()))
    return list(names)


def _csv_rows(slice_: Slice, columns: Sequence[Column]) -> Iterator[Row]:
    with open_location(slice_.location) as file:
        file.seek(slice_.start)
        content = file.read(slice_.stop - slice_.start)
    line, form = slice_.first_line, opened_format(lambda: open_location(slice_.location))
    text = io.StringIO(content.decode(form.encoding), newline="")
    reader = csv.reader(text, delimiter=form.delimiter, strict=True)
    for cells in reader:
        if cells and line > 1:
            yield Row(f"line {line} of {slice_.file}", cells if len(cells) == len(columns) else None)
        line = slice_.first_line + reader.line_num


def _json_rows(slice_: Slice, columns: Sequence[Column]) -> Iterator[Row]:
    names = [column.name.strip().lower() for column in columns]
    lines = lines_of(slice_.location, slice_.start, slice_.stop)
    for number, line in enumerate(lines, slice_.first_line):
        if line.strip():
            yield Row(f"line {number} of {slice_.file}", _cells(_json_object(line), names))


def _parquet_rows(slice_: Slice, columns: Sequence[Column]) -> Iterator[Row]:
    import pyarrow.parquet as pq

    names = [column.name.strip().lower() for column in columns]
    number = 1
    try:
        with open_location(slice_.location) as source, pq.ParquetFile(source) as file:
            for group in range(file.num_row_groups):
                rows = file.metadata.row_group(group).num_rows
                if number + rows > slice_.first_line and number <= slice_.stop:
                    yield from _rows_of_group(file.iter_batches(4096, [group]), number, slice_, names)
                number += rows
    except (pa.ArrowException, OSError):
        yield Row(f"rows {number} to {slice_.stop} of {slice_.file}", None)  # the others are damaged


def _rows_of_group(batches: Iterable[pa.RecordBatch], first: int, slice_: Slice, names: Sequence[str]) -> Iterator[Row]:
    """The rows of a row group, whose first has the number ``first``, that are in the slice."""
    for batch in batches:
        start = max(slice_.first_line - first, 0)
        wanted = batch.slice(start, max(slice_.stop - first + 1 - start, 0))
        for offset, row in enumerate(_python_rows(wanted), first + start):
            yield Row(f"row {offset} of {slice_.file}", _cells(row, names))
        first += batch.num_rows


def _python_rows(batch: pa.RecordBatch) -> Iterator[dict[str, object] | None]:
    """The rows, None for one with a value that Python cannot hold: text that is not UTF-8, a date in the year 50000."""
    try:
        yield from batch.to_pylist()
        return
    except (pa.ArrowException, ValueError, OverflowError):
        pass
    for number in range(batch.num_rows):
        try:
            yield batch.slice(number, 1).to_pylist()[0]
        except (pa.ArrowException, ValueError, OverflowError):
            yield None


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
    if isinstance(value, str):
        return value if _is_text(value) else None
    if isinstance(value, decimal.Decimal):
        return format(value, "f") if value.is_finite() and abs(value) < _NUMBER_MOST else None
    if isinstance(value, list | tuple):
        items = [_cell(item) for item in value]
        return None if None in items else ";".join(item for item in items if item)
    if isinstance(value, datetime.date):
        return value.isoformat()
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value) if isinstance(value, float) or abs(value) < _NUMBER_MOST else None
    return None


def _is_text(value: str) -> bool:
    """JSON can spell halves of characters, which nothing can write."""
    return value.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in value)


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

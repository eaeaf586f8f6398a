"""The statements stage: from files of clinical records to the ``statements`` table. Names and identifiers end here."""

from __future__ import annotations

import csv
import datetime
import decimal
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from sono.captioning.facts.statements import NUMBERS, Entry, Fault, Reading
from sono.captioning.readers.fhir.index import Index
from sono.captioning.readers.fhir.reader import index_ndjson, read_json, read_ndjson
from sono.captioning.readers.sr.reader import read_document
from sono.manifests.errors import UserError
from sono.manifests.handoff import handoff_file
from sono.manifests.schemas import STATEMENTS, TableSpec
from sono.manifests.stages import Engine, Exclusion, Progress, RunReport, StageOutput, run_stage, stale_parts
from sono.manifests.store import TableStore
from sono.manifests.vocabulary import vocabulary_sha256

from .files import (
    CSV,
    DICOM_SR,
    FHIR_JSON,
    FHIR_LINES,
    JSON_LINES,
    PARQUET,
    RecordsFile,
    fhir_context,
    lines_of,
    pieces_of,
    record_parts,
)
from .mapping import COLUMNS, Column, ColumnMapping
from .table import TableReader

_HEADER_LINES = 1_000  # of JSON lines, which name their columns one by one


def read_statements(
    files: Sequence[RecordsFile],
    reading: Reading,
    mapping: ColumnMapping,
    store: TableStore,
    *,
    config: Mapping[str, object],
    engine: Engine,
    progress: Callable[[Progress], None],
) -> RunReport:
    """Bring the ``statements`` table up to date with these files, and with nothing else.

    Args:
        config: what of the configuration decides the statements besides mapping and vocabulary.

    Raises:
        UserError: a table has an unknown column, or a file is damaged as a whole; nothing has been written then.
    """
    columns = {str(file.path): _columns(file, mapping) for file in files if file.kind in (CSV, JSON_LINES, PARQUET)}
    parts = record_parts(files, reading.keys, _contexts(files, columns))
    with handoff_file(store.folder(STATEMENTS)) as path:
        stage = StatementsStage(reading, columns, path, {**config, "mapping": mapping.as_json})
        # References between the files of a bulk export are looked up while reading, so they are gathered first.
        if any(file.kind == FHIR_LINES for file in files) and stale_parts(stage, parts, store):
            _index(files, reading, path)
        return run_stage(stage, parts, store, engine=engine, progress=progress)


@dataclass(frozen=True)
class StatementsStage:
    """Reads slices of files (``records_files.SLICES``). ``columns`` are those of tables, by path."""

    reading: Reading
    columns: Mapping[str, Sequence[Column]]
    index: Path
    settings: Mapping[str, object] = field(default_factory=dict)

    name = "statements"
    version = 2

    @property
    def output(self) -> TableSpec:
        return STATEMENTS

    def config(self) -> Mapping[str, object]:
        reading = self.reading
        return {
            **self.settings,
            "vocabulary": vocabulary_sha256(reading.vocabulary),
            "patient_system": reading.patient_system,
        }

    def __call__(self, part: pa.Table) -> StageOutput:
        table = _Rows()
        exclusions: list[Exclusion] = []
        for slice_ in part.to_pylist():
            for entry in self._entries(slice_):
                # A document's own key finds its name again; within a file of lines it is the line that matters.
                lines = slice_["kind"] in (CSV, JSON_LINES, FHIR_LINES, PARQUET)
                key = self._key(slice_, entry) if lines else slice_["source_key"]
                table.add(entry, key)
                exclusions += [
                    Exclusion(key, fault.reason, f"{entry.place}: {fault.text}")
                    for fault in dict.fromkeys(entry.faults)
                ]
        return StageOutput(table.as_table(), exclusions)

    def _key(self, slice_: Mapping[str, Any], entry: Entry) -> str:
        return self.reading.keys.content(f"records/{slice_['digest']}/{entry.place}")

    def _entries(self, slice_: Mapping[str, Any]) -> Iterator[Entry]:
        path, label, kind = Path(slice_["path"]), slice_["file"], slice_["kind"]
        if kind in (CSV, JSON_LINES, PARQUET):
            columns = self.columns[slice_["path"]]
            rows = {CSV: _csv_rows, JSON_LINES: _json_rows, PARQUET: _parquet_rows}[kind](slice_, columns)
            yield from TableReader(columns, self.reading).read(rows)
        elif kind == FHIR_LINES:
            lines = enumerate(lines_of(path, slice_["start"], slice_["stop"]), slice_["first_line"])
            yield from read_ndjson(lines, label, self.reading, Index(self.index))
        elif kind == FHIR_JSON:
            yield from self._fhir(path, label)
        elif kind == DICOM_SR:
            yield read_document(path.read_bytes(), label, self.reading)
        else:
            yield Entry(label, None, faults=(_UNKNOWN,))

    def _fhir(self, path: Path, label: str) -> Iterator[Entry]:
        try:
            yield from read_json(path.read_bytes(), label, self.reading, Index(self.index))
        except UserError:
            # One damaged file among thousands is counted, and does not keep the others out.
            yield Entry(label, None, faults=(_NOT_JSON,))


_UNKNOWN = Fault("not_a_record", "it is neither CSV, JSON lines, Parquet, FHIR JSON nor DICOM SR")
_NOT_JSON = Fault("not_json", "it is damaged, or no FHIR JSON")


class _Rows:
    """Columns of ``STATEMENTS`` that grow row by row."""

    def __init__(self) -> None:
        self._columns: dict[str, list[object]] = {name: [] for name in STATEMENTS.schema.names}

    def add(self, entry: Entry, source_key: str) -> None:
        exam = entry.exam
        if exam is None:
            assert not entry.statements, "statements about nobody"
            return
        columns = self._columns
        for fact, value, where, plane, rank in entry.statements:
            number = fact in NUMBERS
            columns["plane"].append(plane)
            columns["fact"].append(fact)
            columns["number"].append(value if number else None)
            columns["code"].append(None if number else value)
            columns["field"].append(where)
            columns["rank"].append(rank)
        count = len(entry.statements)
        for name, repeated in (
            ("source_key", source_key),
            ("place", entry.place),
            ("patient_key", exam.patient_key),
            ("study_key", exam.study_key),
            ("accession_key", exam.accession_key),
            ("study_day", exam.study_day),
        ):
            columns[name].extend([repeated] * count)

    def as_table(self) -> pa.Table:
        return pa.Table.from_pydict(self._columns, schema=STATEMENTS.schema)


def _contexts(files: Sequence[RecordsFile], columns: Mapping[str, Sequence[Column]]) -> dict[str, str]:
    """What the first line of a table, and the other files of a bulk export, decide elsewhere."""
    exports = fhir_context(files)
    tables = {path: json.dumps([[column.name, column.holds] for column in found]) for path, found in columns.items()}
    return {str(file.path): exports for file in files if file.kind in (FHIR_LINES, FHIR_JSON)} | tables


def _index(files: Iterable[RecordsFile], reading: Reading, path: Path) -> None:
    index = Index(path)
    for file in files:
        if file.kind == FHIR_LINES:
            index_ndjson(lines_of(file.path, 0, file.path.stat().st_size), reading, index)


# ------------------------------------------------------------------------------------------------------------ tables


def _columns(file: RecordsFile, mapping: ColumnMapping) -> list[Column]:
    where = str(file.path)
    if file.kind == CSV:
        return mapping.resolve(_csv_header(file), where)
    if file.kind == PARQUET:
        import pyarrow.parquet as pq

        return mapping.resolve(pq.read_schema(file.path).names, where)
    names: dict[str, None] = {}
    for number, line in enumerate(lines_of(file.path, 0, file.path.stat().st_size)):
        if number == _HEADER_LINES:
            break
        names.update(dict.fromkeys(_json_object(line) or ()))
    found = mapping.resolve(list(names), where)
    # What is null is often left out of a line, so that columns may come late.
    known = {column.holds for column in found} | {name.strip().lower() for name in names}
    return [*found, *(mapping.column(name) for name in COLUMNS if name not in known)]


def _csv_header(file: RecordsFile) -> list[str]:
    where = str(file.path)
    try:
        first = next(pieces_of(file), b"").decode("utf-8-sig")
        header = next(csv.reader(io.StringIO(first, newline=""), strict=True), None)
    except UnicodeDecodeError:
        raise UserError("not UTF-8 text", where=where, fix="save it as CSV with UTF-8 encoding") from None
    except csv.Error:
        raise UserError("the first line is no valid CSV", where=where, fix="it must name the columns") from None
    if header is None:
        raise UserError("the file is empty", where=where, fix="its first line must name the columns")
    if len(header) == 1 and ";" in header[0]:
        raise UserError("the cells are separated by semicolons", where=where, fix="save it comma-separated")
    return header


def _csv_rows(slice_: Mapping[str, Any], columns: Sequence[Column]) -> Iterator[tuple[str, Sequence[str] | None]]:
    path, label = Path(slice_["path"]), slice_["file"]
    with path.open("rb") as file:
        file.seek(slice_["start"])
        content = file.read(slice_["stop"] - slice_["start"])
    line = slice_["first_line"]
    reader = csv.reader(io.StringIO(content.decode("utf-8-sig"), newline=""), strict=True)
    for cells in reader:
        if cells and line > 1:
            yield f"line {line} of {label}", cells if len(cells) == len(columns) else None
        line = slice_["first_line"] + reader.line_num


def _json_rows(slice_: Mapping[str, Any], columns: Sequence[Column]) -> Iterator[tuple[str, Sequence[str] | None]]:
    names = [column.name.strip().lower() for column in columns]
    lines = lines_of(Path(slice_["path"]), slice_["start"], slice_["stop"])
    for number, line in enumerate(lines, slice_["first_line"]):
        if line.strip():
            yield f"line {number} of {slice_['file']}", _cells(_json_object(line), names)


def _parquet_rows(slice_: Mapping[str, Any], columns: Sequence[Column]) -> Iterator[tuple[str, Sequence[str] | None]]:
    import pyarrow.dataset

    rows = pyarrow.dataset.dataset(slice_["path"]).scanner(batch_size=4096)
    table = rows.take(pa.array(range(slice_["start"], slice_["stop"]), pa.int64()))
    names = [column.name.strip().lower() for column in columns]
    for offset, row in enumerate(table.to_pylist()):
        yield f"row {slice_['first_line'] + offset} of {slice_['file']}", _cells(row, names)


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
    if value is None or value != value:  # NaN, which stands for a missing number
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
        found = json.loads(line, object_pairs_hook=_named_once)
    except (UnicodeDecodeError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _named_once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name stands twice")
    return found

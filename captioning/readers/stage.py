"""The statements stage: from files of clinical records to the ``statements`` table. Names and identifiers end here."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa

from sono.captioning.facts.statements import NUMBERS, Entry, Fault, Reading, with_several_fetuses
from sono.captioning.readers.fhir.index import Index
from sono.captioning.readers.fhir.reader import index_ndjson, read_json, read_ndjson
from sono.captioning.readers.sr.reader import read_document
from sono.manifests.compressed import open_location
from sono.manifests.errors import UserError
from sono.manifests.handoff import handoff_file
from sono.manifests.schemas import STATEMENTS, TableSpec
from sono.manifests.stages import Engine, Exclusion, Progress, RunReport, StageOutput, run_stage, stale_parts
from sono.manifests.store import TableStore
from sono.manifests.vocabulary import vocabulary_sha256

from .files import DAMAGED, DICOM_SR, DOCUMENTS, FHIR_JSON, FHIR_LINES, TABLES, TOO_LARGE, RecordsFile
from .mapping import Column, ColumnMapping
from .rows import columns_of, rows_of
from .slices import Slice, fhir_context, lines_of, record_parts, slices_of
from .table import TableReader

_NOT_A_RECORD = Fault("not_a_record", "it is neither CSV, JSON lines, Parquet, FHIR JSON nor DICOM SR")
_FAULTS = {
    TOO_LARGE: Fault("archive_too_large", "it inflates to more than records do, or has too many members"),
    DAMAGED: Fault("archive_damaged", "it is damaged, encrypted or compressed in an unknown way"),
}
_NOT_JSON = Fault("not_json", "it is damaged, or no FHIR JSON")


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
        UserError: a table has an unknown column, or a file cannot be read at all; nothing has been written then.
    """
    columns = {file.location: columns_of(file, mapping) for file in files if file.kind in TABLES}
    parts = record_parts(files, reading.keys, _contexts(files, columns))
    with handoff_file(store.folder(STATEMENTS)) as path:
        stage = StatementsStage(reading, columns, path, {**config, "mapping": mapping.as_json})
        # References between the files of a bulk export are looked up while reading, so they are gathered first.
        if any(file.kind == FHIR_LINES for file in files) and stale_parts(stage, parts, store):
            _index(files, reading, path)
        return run_stage(stage, parts, store, engine=engine, progress=progress)


@dataclass(frozen=True)
class StatementsStage:
    """Reads slices of files. ``columns`` are those of tables, by path; ``index`` is that of FHIR lines."""

    reading: Reading
    columns: Mapping[str, Sequence[Column]]
    index: Path
    settings: Mapping[str, object] = field(default_factory=dict)

    name = "statements"
    version = 5

    @property
    def output(self) -> TableSpec:
        return STATEMENTS

    def config(self) -> Mapping[str, object]:
        reading = self.reading
        return {
            **self.settings,
            "vocabulary": vocabulary_sha256(reading.vocabulary),
            "patient_system": reading.patient_system,
            "patient_scope": reading.keys.patient_scope,
        }

    def __call__(self, part: pa.Table) -> StageOutput:
        rows = _StatementRows()
        exclusions: list[Exclusion] = []
        for slice_ in slices_of(part):
            for entry in self._entries(slice_):
                source_key = self._source_key(slice_, entry)
                rows.add(entry, source_key)
                exclusions += [
                    Exclusion(source_key, fault.reason, f"{entry.place}: {fault.text}")
                    for fault in dict.fromkeys(entry.faults)
                ]
        return StageOutput(rows.as_table(), exclusions)

    def _entries(self, slice_: Slice) -> Iterator[Entry]:
        location, label, reading = slice_.location, slice_.file, self.reading
        if slice_.kind in TABLES:
            columns = self.columns[location]
            yield from TableReader(columns, reading).read(rows_of(slice_, columns))
        elif slice_.kind == FHIR_LINES:
            lines = enumerate(lines_of(location, slice_.start, slice_.stop), slice_.first_line)
            yield from read_ndjson(lines, label, reading, Index(self.index))
        elif slice_.kind == FHIR_JSON:
            try:
                entries = read_json(_content(location), label, reading, Index(self.index))
            except UserError:
                # One damaged file among thousands is counted, and does not stop the others.
                entries = iter([Entry(label, None, faults=(_NOT_JSON,))])
            yield from entries  # outside: what stops the reading of texts is no fault of the file
        elif slice_.kind == DICOM_SR:
            yield read_document(_content(location), label, reading)
        else:
            yield Entry(label, None, faults=(_FAULTS.get(slice_.kind, _NOT_A_RECORD),))

    def _source_key(self, slice_: Slice, entry: Entry) -> str:
        """A document's own key finds its name again; within a file of lines it is the line that matters."""
        if slice_.kind in DOCUMENTS:
            return slice_.source_key
        return self.reading.keys.content(f"records/{slice_.digest}/{entry.place}")


class _StatementRows:
    """Columns of ``STATEMENTS`` that grow row by row."""

    def __init__(self) -> None:
        self._columns: dict[str, list[object]] = {name: [] for name in STATEMENTS.schema.names}

    def add(self, entry: Entry, source_key: str) -> None:
        exam = entry.exam
        if exam is None:
            assert not entry.statements, "statements about nobody"
            return
        columns = self._columns
        statements = with_several_fetuses(entry.statements)
        for fact, value, field_, plane, rank in statements:
            number = fact in NUMBERS
            columns["plane"].append(plane)
            columns["fact"].append(fact)
            columns["number"].append(value if number else None)
            columns["code"].append(None if number else value)
            columns["field"].append(field_)
            columns["rank"].append(rank)
        count = len(statements)
        for name, repeated in (
            ("source_key", source_key),
            ("place", entry.place),
            ("patient_key", exam.patient.patient),
            ("patient_center_key", exam.patient.center),
            ("patient_number_key", exam.patient.number),
            ("study_key", exam.study_key),
            ("accession_key", exam.accession_key),
            ("study_day", exam.study_day),
            ("study_unknown", exam.study_unknown),
        ):
            columns[name].extend([repeated] * count)

    def as_table(self) -> pa.Table:
        return pa.Table.from_pydict(self._columns, schema=STATEMENTS.schema)


def _content(location: str) -> bytes:
    with open_location(location) as file:
        return file.read()


def _contexts(files: Sequence[RecordsFile], columns: Mapping[str, Sequence[Column]]) -> dict[str, str]:
    """What the first line of a table, and the other files of a bulk export, decide elsewhere."""
    exports = fhir_context(files)
    tables = {path: json.dumps([[column.name, column.holds] for column in found]) for path, found in columns.items()}
    return {file.location: exports for file in files if file.kind in (FHIR_LINES, FHIR_JSON)} | tables


def _index(files: Iterable[RecordsFile], reading: Reading, path: Path) -> None:
    index = Index(path)
    for file in files:
        if file.kind == FHIR_LINES:
            index_ndjson(lines_of(file.location, 0, file.size), reading, index)

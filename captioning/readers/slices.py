"""Cuts clinical records into slices, and groups slices into parts of bounded size for the statements stage.

A file of lines (CSV, JSON lines) is cut where a record ends, whatever its length; its lines keep their numbers.
Documents (FHIR JSON, DICOM SR) go together until a part is full.
"""

from __future__ import annotations

import csv
import functools
import hashlib
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow as pa

from sono.manifests.errors import UserError
from sono.manifests.pseudonyms import Pseudonymizer
from sono.manifests.stages import Part

from .files import CSV, DOCUMENTS, FHIR_LINES, JSON_LINES, PARQUET, RecordsFile

_SLICE_BYTES = 4 * 2**20
_LINE_BYTES_MOST = 64 * 2**20
_DOCUMENTS_MOST = 1024
_DOCUMENTS_MEAN = 256
_PARQUET_ROWS = 50_000

_SCHEMA = pa.schema(
    [
        pa.field("source_key", pa.string()),
        pa.field("kind", pa.string()),
        pa.field("path", pa.string()),
        pa.field("file", pa.string()),
        pa.field("start", pa.int64()),
        pa.field("stop", pa.int64()),
        pa.field("first_line", pa.int64()),
        pa.field("digest", pa.string()),
    ]
)


@dataclass(frozen=True)
class Slice:
    """A slice of a file, or a complete document: one row of the statements stage's input.

    Attributes:
        source_key: of the file and the place in it.
        file: what messages call it: ``records file 1``.
        start, stop: in bytes; of Parquet in rows.
        first_line: number of the line, or row, at ``start``.
        digest: of the content.
    """

    source_key: str
    kind: str
    path: str
    file: str
    start: int
    stop: int
    first_line: int
    digest: str


def record_parts(files: Sequence[RecordsFile], keys: Pseudonymizer, contexts: Mapping[str, str]) -> list[Part]:
    """The statements stage's parts.

    Args:
        contexts: by path, what decides the meaning of a slice besides its own bytes: the columns of a table, or the
            files that resolve references.
    """
    parts = []
    documents: list[Slice] = []
    for file in files:
        if file.kind in DOCUMENTS:
            documents.append(_document(file, keys))
            if _is_full(documents) or _ends_part(file):
                parts.append(_part(documents, keys, contexts))
                documents = []
        else:
            parts.extend(_part([slice_], keys, contexts) for slice_ in _slices(file, keys))
    if documents:
        parts.append(_part(documents, keys, contexts))
    return parts


def slices_of(part: pa.Table) -> list[Slice]:
    """The slices that a part holds."""
    return [Slice(**row) for row in part.to_pylist()]


def lines_of(path: Path, start: int, stop: int) -> Iterator[bytes]:
    """The lines of a slice, without their line ends.

    Raises:
        UserError: one is longer than a record may be; it is not held in memory.
    """
    most = _LINE_BYTES_MOST + _SLICE_BYTES
    with path.open("rb") as file:
        file.seek(start)
        while file.tell() < stop and (line := file.readline(most + 1)):
            if len(line) > most:
                raise _too_long(path, JSON_LINES)
            yield line.rstrip(b"\r\n")


def fhir_context(files: Iterable[RecordsFile]) -> str:
    """Changes when any file of FHIR lines does: what a line or a document means depends on all of them."""
    facts = [
        [file.source_key, file.path.stat().st_size, file.path.stat().st_mtime_ns]
        for file in files
        if file.kind == FHIR_LINES
    ]
    return hashlib.sha256(json.dumps(sorted(facts)).encode()).hexdigest() if facts else ""


def pieces_of(file: RecordsFile) -> Iterator[bytes]:
    """Pieces of about ``_SLICE_BYTES`` that end where a record ends: in CSV, outside quotes.

    Raises:
        UserError: a record is too long to be one.
    """
    rest = b""
    with file.path.open("rb") as source:
        while block := source.read(_SLICE_BYTES):
            block = rest + block
            end = _record_end(block) if file.kind == CSV else block.rfind(b"\n") + 1
            if not end and len(block) > _LINE_BYTES_MOST:
                raise _too_long(file.path, file.kind)
            if end:
                yield block[:end]
            rest = block[end:]
    if rest:
        yield rest


def _document(file: RecordsFile, keys: Pseudonymizer) -> Slice:
    status = file.path.stat()
    digest = keys.content(f"{status.st_size} {status.st_mtime_ns}")
    # the file's own key, so that sono-curate exclusions --source finds its name
    return Slice(file.source_key, file.kind, str(file.path), file.label, 0, status.st_size, 1, digest)


def _ends_part(file: RecordsFile) -> bool:
    """The file's own key decides: a file that is added changes only the part it is in."""
    return int(file.source_key[:8], 16) % _DOCUMENTS_MEAN == 0


def _is_full(documents: Sequence[Slice]) -> bool:
    return len(documents) >= _DOCUMENTS_MOST or sum(document.stop for document in documents) >= _SLICE_BYTES


def _slices(file: RecordsFile, keys: Pseudonymizer) -> Iterator[Slice]:
    if file.kind == PARQUET:
        yield from _parquet_slices(file, keys)
        return
    start, line = 0, 1
    for content in pieces_of(file):
        _check_csv(content, line, file)
        digest = keys.content(hashlib.sha256(content).hexdigest())
        source_key, stop = keys.content(f"records/{digest}/{line}"), start + len(content)
        yield Slice(source_key, file.kind, str(file.path), file.label, start, stop, line, digest)
        start = stop
        line += content.count(b"\n")


def _check_csv(content: bytes, first_line: int, file: RecordsFile) -> None:
    """Checked before anything is written: other encodings give wrong letters, and so wrong pseudonyms."""
    if file.kind != CSV:
        return
    where = str(file.path)
    try:
        reader = csv.reader(io.StringIO(content.decode(), newline=""), strict=True)
        for _ in reader:
            pass
    except UnicodeDecodeError:
        raise UserError("not UTF-8 text", where=where, fix="save it as CSV with UTF-8 encoding") from None
    except csv.Error as error:
        # the csv module's messages name characters and limits, never a cell
        line = first_line + reader.line_num - 1
        raise UserError(f"not valid CSV near line {line}: {error}", where=where, fix="correct that line") from None


def _too_long(path: Path, kind: str) -> UserError:
    fix = "close the quotes" if kind == CSV else "put one JSON object on each line"
    return UserError(f"a record is longer than {_LINE_BYTES_MOST >> 20} MiB", where=str(path), fix=fix)


def _record_end(block: bytes) -> int:
    """After the last line end outside quotes; a quote inside quotes is doubled (RFC 4180), so parity tells."""
    quotes, end = block.count(b'"'), len(block)
    while (found := block.rfind(b"\n", 0, end)) >= 0:
        quotes -= block.count(b'"', found, end)
        if quotes % 2 == 0:
            return found + 1
        end = found
    return 0


def _parquet_slices(file: RecordsFile, keys: Pseudonymizer) -> Iterator[Slice]:
    import pyarrow.parquet as pq

    status = file.path.stat()
    try:
        rows = pq.read_metadata(file.path).num_rows
    except pa.ArrowInvalid:
        raise UserError("this Parquet file is damaged", where=str(file.path), fix="copy it again") from None
    for start in range(0, max(rows, 1), _PARQUET_ROWS):
        digest = keys.content(f"{file.source_key} {start} {status.st_size} {status.st_mtime_ns}")
        source_key, stop = keys.content(f"records/{digest}"), min(start + _PARQUET_ROWS, rows)
        yield Slice(source_key, file.kind, str(file.path), file.label, start, stop, start + 1, digest)


def _part(slices: list[Slice], keys: Pseudonymizer, contexts: Mapping[str, str]) -> Part:
    rows = [asdict(slice_) for slice_ in slices]
    decisive = [{name: value for name, value in row.items() if name not in ("path", "start", "stop")} for row in rows]
    context = sorted({contexts.get(slice_.path, "") for slice_ in slices})
    return Part(
        name=keys.content("\n".join(f"{slice_.path} {slice_.first_line}" for slice_ in slices)),
        digest=keys.content(json.dumps([decisive, context], sort_keys=True)),
        load=functools.partial(pa.Table.from_pylist, rows, schema=_SCHEMA),
    )

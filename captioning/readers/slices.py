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

import pyarrow as pa

from sono.manifests.compressed import open_location
from sono.manifests.delimited import opened_format, text_encoding
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
        pa.field("location", pa.string()),
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
    location: str
    file: str
    start: int
    stop: int
    first_line: int
    digest: str


def record_parts(files: Sequence[RecordsFile], keys: Pseudonymizer, contexts: Mapping[str, str]) -> list[Part]:
    """The statements stage's parts.

    Args:
        contexts: by location, what decides the meaning of a slice besides its own bytes: the columns of a table, or the
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


def lines_of(location: str, start: int, stop: int) -> Iterator[bytes]:
    """The lines of a slice, without their line ends.

    Raises:
        UserError: one is longer than a record may be; it is not held in memory.
    """
    most = _LINE_BYTES_MOST + _SLICE_BYTES
    with open_location(location) as file:
        file.seek(start)
        while file.tell() < stop and (line := file.readline(most + 1)):
            if len(line) > most:
                raise too_long(location.partition("\0")[0], JSON_LINES)
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
    """Pieces of about ``_SLICE_BYTES`` that end where a record ends: in CSV, outside quotes. UTF-16 is one piece.

    Raises:
        UserError: a record is too long to be one, or a file in UTF-16 too large.
    """
    rest: list[bytes] = []
    waiting, in_quotes = 0, False
    with open_location(file.location) as source:
        is_utf16 = file.kind == CSV and text_encoding(source.read(16)).startswith("utf-16")
    if is_utf16:
        yield _all_of(file)
        return
    with open_location(file.location) as source:
        while block := source.read(_SLICE_BYTES):
            end = _record_end(block, in_quotes) if file.kind == CSV else block.rfind(b"\n") + 1
            if end:
                yield b"".join([*rest, block[:end]])
                rest, waiting, in_quotes = [], 0, False
            elif waiting + len(block) > _LINE_BYTES_MOST:
                raise too_long(str(file.path), file.kind)
            rest.append(block[end:])
            waiting += len(block) - end
            in_quotes ^= block.count(b'"', end) % 2 == 1  # each byte is looked at once, however long a record is
    if waiting:
        yield b"".join(rest)


def _all_of(file: RecordsFile) -> bytes:
    if file.size > _LINE_BYTES_MOST:
        raise UserError(
            f"a table in UTF-16 of more than {_LINE_BYTES_MOST >> 20} MiB", where=str(file.path), fix="save it as UTF-8"
        )
    with open_location(file.location) as source:
        return source.read()


def _document(file: RecordsFile, keys: Pseudonymizer) -> Slice:
    status = file.path.stat()
    digest = keys.content(f"{status.st_size} {status.st_mtime_ns}")
    # the file's own key, so that sono-curate exclusions --source finds its name
    return Slice(file.source_key, file.kind, file.location, file.label, 0, file.size, 1, digest)


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
        yield Slice(source_key, file.kind, file.location, file.label, start, stop, line, digest)
        start = stop
        line += content.count(b"\n")


def _check_csv(content: bytes, first_line: int, file: RecordsFile) -> None:
    """Checked before anything is written: other encodings give wrong letters, and so wrong pseudonyms."""
    if file.kind != CSV:
        return
    where = str(file.path)
    try:
        form = opened_format(lambda: open_location(file.location))
        reader = csv.reader(
            io.StringIO(content.decode(form.encoding), newline=""), delimiter=form.delimiter, strict=True
        )
        for _ in reader:
            pass
    except UnicodeError:
        raise not_text(where) from None
    except csv.Error as error:
        # the csv module's messages name characters and limits, never a cell
        line = first_line + reader.line_num - 1
        raise UserError(f"not valid CSV near line {line}: {error}", where=where, fix="correct that line") from None


def not_text(where: str) -> UserError:
    """The error for a table that is in neither of the encodings that are read."""
    return UserError("neither UTF-8 nor UTF-16 text", where=where, fix="save it as CSV with UTF-8 encoding")


def too_long(path: str, kind: str) -> UserError:
    fix = "close the quotes" if kind == CSV else "put one JSON object on each line"
    return UserError(f"a record is longer than {_LINE_BYTES_MOST >> 20} MiB", where=path, fix=fix)


def _record_end(block: bytes, in_quotes: bool) -> int:
    """After the last line end outside quotes; a quote inside quotes is doubled (RFC 4180), so parity tells.

    Args:
        in_quotes: whether the block begins inside quotes.
    """
    inside, end = in_quotes ^ (block.count(b'"') % 2 == 1), len(block)
    while True:
        quote = block.rfind(b'"', 0, end)
        line_end = -1 if inside else block.rfind(b"\n", quote + 1, end)
        if line_end >= 0:
            return line_end + 1
        if quote < 0:
            return 0
        inside, end = not inside, quote


def _parquet_slices(file: RecordsFile, keys: Pseudonymizer) -> Iterator[Slice]:
    import pyarrow.parquet as pq

    status = file.path.stat()
    try:
        with open_location(file.location) as source:
            rows = pq.read_metadata(source).num_rows
    except (pa.ArrowException, OSError, ValueError):
        raise UserError("this Parquet file is damaged", where=str(file.path), fix="copy it again") from None
    for start in range(0, max(rows, 1), _PARQUET_ROWS):
        digest = keys.content(f"{file.source_key} {start} {status.st_size} {status.st_mtime_ns}")
        source_key, stop = keys.content(f"records/{digest}"), min(start + _PARQUET_ROWS, rows)
        yield Slice(source_key, file.kind, file.location, file.label, start, stop, start + 1, digest)


def _part(slices: list[Slice], keys: Pseudonymizer, contexts: Mapping[str, str]) -> Part:
    rows = [asdict(slice_) for slice_ in slices]
    decisive = [
        {name: value for name, value in row.items() if name not in ("location", "start", "stop")} for row in rows
    ]
    context = sorted({contexts.get(slice_.location, "") for slice_ in slices})
    return Part(
        name=keys.content("\n".join(f"{slice_.location} {slice_.first_line}" for slice_ in slices)),
        digest=keys.content(json.dumps([decisive, context], sort_keys=True)),
        load=functools.partial(pa.Table.from_pylist, rows, schema=_SCHEMA),
    )

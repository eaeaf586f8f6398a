"""Finding clinical records, telling what they are, and cutting them into parts of bounded size.

A file of lines (CSV, JSON lines) is cut where a record ends, whatever its length; its lines keep their numbers.
Documents (FHIR JSON, DICOM SR) go together until a part is full. Nothing is parsed here.
"""

from __future__ import annotations

import csv
import functools
import hashlib
import io
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from sono.manifests.errors import UserError
from sono.manifests.pseudonyms import Pseudonymizer
from sono.manifests.stages import Part

CSV, JSON_LINES, FHIR_LINES, PARQUET, FHIR_JSON, DICOM_SR, UNKNOWN = (
    "csv",
    "json_lines",
    "fhir_lines",
    "parquet",
    "fhir_json",
    "dicom_sr",
    "unknown",
)
_DOCUMENTS = (FHIR_JSON, DICOM_SR, UNKNOWN)

_SLICE_BYTES = 4 * 2**20
_LINE_BYTES_MOST = 64 * 2**20
_DOCUMENTS_MOST = 1024
_DOCUMENTS_MEAN = 256
_PARQUET_ROWS = 50_000

SLICES = pa.schema(
    [
        pa.field("source_key", pa.string()),  # of the file and the place in it
        pa.field("kind", pa.string()),
        pa.field("path", pa.string()),
        pa.field("file", pa.string()),  # what messages call it: records file 1
        pa.field("start", pa.int64()),  # bytes; rows of Parquet
        pa.field("stop", pa.int64()),
        pa.field("first_line", pa.int64()),  # number of the line, or row, at ``start``
        pa.field("digest", pa.string()),  # of the content
    ]
)
"""The statements stage's input: a slice of a file, or a whole document, a row."""


@dataclass(frozen=True)
class RecordsFile:
    """A file, what it holds, and what messages call it."""

    path: Path
    kind: str
    label: str
    source_key: str


def find_records(paths: Sequence[Path], keys: Pseudonymizer) -> list[RecordsFile]:
    """The files named, and those in the folders named, each once; what a file holds is told by its content.

    Raises:
        UserError: nothing is there, or a file that was named itself is no kind of record.
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
                    "neither CSV, JSON lines, Parquet, FHIR JSON nor DICOM SR",
                    where=str(path),
                    fix="name a file of clinical records",
                )
            relative = path.name if path == named else path.relative_to(named).as_posix()
            key = keys.source(relative)
            # Documents come by the thousand: a number would change with every one that is added.
            label = f"document {key[:8]}" if kind in _DOCUMENTS else f"records file {len(files) + 1}"
            files[path.resolve()] = RecordsFile(path, kind, label, key)
    return list(files.values())


def record_parts(files: Sequence[RecordsFile], keys: Pseudonymizer, contexts: Mapping[str, str]) -> list[Part]:
    """The statements stage's parts.

    Args:
        contexts: by path, what besides a slice's own bytes decides what it says: the columns of a table, or the files
            that resolve references.
    """
    parts = []
    documents: list[dict[str, object]] = []
    for file in files:
        if file.kind in _DOCUMENTS:
            documents.append(_document(file, keys))
            if _full(documents) or _ends_part(file):
                parts.append(_part(documents, keys, contexts))
                documents = []
        else:
            parts.extend(_part([row], keys, contexts) for row in _slices(file, keys))
    if documents:
        parts.append(_part(documents, keys, contexts))
    return parts


def lines_of(path: Path, start: int, stop: int) -> Iterator[bytes]:
    """The lines of a slice, without their line ends.

    Raises:
        UserError: one is longer than a record may be; it is not held.
    """
    most = _LINE_BYTES_MOST + _SLICE_BYTES
    with path.open("rb") as file:
        file.seek(start)
        while file.tell() < stop and (line := file.readline(most + 1)):
            if len(line) > most:
                raise _too_long(path, JSON_LINES)
            yield line.rstrip(b"\r\n")


def fhir_context(files: Iterable[RecordsFile]) -> str:
    """Changes when any file of FHIR lines does: what one line means, or a document, depends on all of them."""
    facts = [
        [file.source_key, file.path.stat().st_size, file.path.stat().st_mtime_ns]
        for file in files
        if file.kind == FHIR_LINES
    ]
    return hashlib.sha256(json.dumps(sorted(facts)).encode()).hexdigest() if facts else ""


def _files(named: Path) -> list[Path]:
    if not named.exists():
        raise UserError("there is no such file", where=str(named), fix="check the path of the records")
    if not named.is_dir():
        return [named]
    found = sorted(
        Path(parent, name)
        for parent, _, names in os.walk(named)
        for name in names
        if not any(part.startswith(".") for part in Path(parent, name).relative_to(named).parts)
    )
    if not found:
        raise UserError("the folder holds no files", where=str(named), fix="name a folder that holds records")
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


def _document(file: RecordsFile, keys: Pseudonymizer) -> dict[str, object]:
    status = file.path.stat()
    row = _row(file, 0, status.st_size, 1, keys.content(f"{status.st_size} {status.st_mtime_ns}"))
    return row | {"source_key": file.source_key}  # so that sono-curate exclusions --source finds its name


def _ends_part(file: RecordsFile) -> bool:
    """The file's own key says so: one that is added changes the part it is in, and the others stay."""
    return int(file.source_key[:8], 16) % _DOCUMENTS_MEAN == 0


def _full(documents: Sequence[dict[str, object]]) -> bool:
    sizes = [stop for row in documents if isinstance(stop := row["stop"], int)]
    return len(documents) >= _DOCUMENTS_MOST or sum(sizes) >= _SLICE_BYTES


def _slices(file: RecordsFile, keys: Pseudonymizer) -> Iterator[dict[str, object]]:
    if file.kind == PARQUET:
        yield from _parquet_slices(file, keys)
        return
    start, line = 0, 1
    for content in pieces_of(file):
        _check_csv(content, line, file)
        digest = keys.content(hashlib.sha256(content).hexdigest())
        row = _row(file, start, start + len(content), line, digest)
        yield row | {"source_key": keys.content(f"records/{digest}/{line}")}
        start += len(content)
        line += content.count(b"\n")


def _check_csv(content: bytes, first_line: int, file: RecordsFile) -> None:
    """Before anything is written: other encodings give wrong letters, and so wrong pseudonyms."""
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
        raise UserError(f"not valid CSV near line {line}: {error}", where=where, fix="mend it") from None


def pieces_of(file: RecordsFile) -> Iterator[bytes]:
    """Pieces of about ``_SLICE_BYTES`` that end where a record ends: in CSV, outside quotes.

    Raises:
        UserError: a record is so long that it is none.
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


def _too_long(path: Path, kind: str) -> UserError:
    fix = "mend the quotes" if kind == CSV else "it should hold one JSON object a line"
    return UserError(f"a record is longer than {_LINE_BYTES_MOST >> 20} MiB", where=str(path), fix=fix)


def _record_end(block: bytes) -> int:
    """Behind the last line end that is outside quotes; a quote inside quotes is doubled (RFC 4180), so parity tells."""
    quotes, end = block.count(b'"'), len(block)
    while (found := block.rfind(b"\n", 0, end)) >= 0:
        quotes -= block.count(b'"', found, end)
        if quotes % 2 == 0:
            return found + 1
        end = found
    return 0


def _parquet_slices(file: RecordsFile, keys: Pseudonymizer) -> Iterator[dict[str, object]]:
    import pyarrow.parquet as pq

    status = file.path.stat()
    try:
        rows = pq.read_metadata(file.path).num_rows
    except pa.ArrowInvalid:
        raise UserError("this Parquet file is damaged", where=str(file.path), fix="copy it again") from None
    for start in range(0, max(rows, 1), _PARQUET_ROWS):
        digest = keys.content(f"{file.source_key} {start} {status.st_size} {status.st_mtime_ns}")
        stop = min(start + _PARQUET_ROWS, rows)
        yield _row(file, start, stop, start + 1, digest) | {"source_key": keys.content(f"records/{digest}")}


def _row(file: RecordsFile, start: int, stop: int, first_line: int, digest: str) -> dict[str, object]:
    return {
        "kind": file.kind,
        "path": str(file.path),
        "file": file.label,
        "start": start,
        "stop": stop,
        "first_line": first_line,
        "digest": digest,
    }


def _part(rows: list[dict[str, object]], keys: Pseudonymizer, contexts: Mapping[str, str]) -> Part:
    decisive = [{name: value for name, value in row.items() if name not in ("path", "start", "stop")} for row in rows]
    context = sorted({contexts.get(str(row["path"]), "") for row in rows})
    return Part(
        name=keys.content("\n".join(f"{row['path']} {row['first_line']}" for row in rows)),
        digest=keys.content(json.dumps([decisive, context], sort_keys=True)),
        load=functools.partial(pa.Table.from_pylist, rows, schema=SLICES),
    )

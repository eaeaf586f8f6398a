"""Hands the rows of one query over complete tables to the parts of a stage, without holding either in memory.

The rows go through a file beside the tables with one row group per part; each worker reads its own.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from .stages import Part

if TYPE_CHECKING:
    import duckdb

_BATCH_ROWS = 65_536


@contextlib.contextmanager
def handoff_file(folder: Path) -> Iterator[Path]:
    """A name for the file, which is removed at the end; if the run is killed it is cleared with other leftovers."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f".tmp-{uuid.uuid4().hex}"
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


def hand_off(
    connection: duckdb.DuckDBPyConnection, queries: Iterable[str], schema: pa.Schema, path: Path
) -> list[Part]:
    """The rows of the queries as parts named by their column ``part``, in the order of the queries.

    Each query returns ``part`` and the columns of ``schema``, is ordered by ``part`` first, and shares no part with
    another query. A part's digest covers its rows only, so tables rewritten with the same content make nothing stale.
    """
    columns = ", ".join(schema.names)
    parts: list[Part] = []
    with pq.ParquetWriter(path, schema, compression="zstd", compression_level=1) as writer:
        for query in queries:
            # DuckDB's hash of a row has 64 bits: it misses one change in 2^64.
            hashed = connection.sql(f"SELECT part, hash({columns}) AS row_hash, {columns} FROM ({query})")
            for name, rows in _groups(hashed.to_arrow_reader(_BATCH_ROWS)):
                digest = hashlib.sha256(rows.column("row_hash").to_numpy().tobytes()).hexdigest()
                load = functools.partial(_row_group, path, len(parts))
                writer.write_table(rows.select(schema.names).cast(schema), row_group_size=max(rows.num_rows, 1))
                parts.append(Part(name, digest, load))
    return parts


def empty_part(name: str, schema: pa.Schema) -> Part:
    """A part without rows."""
    return Part(name, hashlib.sha256().hexdigest(), functools.partial(_empty, schema))


def _groups(reader: pa.RecordBatchReader) -> Iterator[tuple[str, pa.Table]]:
    """Consecutive rows of the same part."""
    waiting: list[pa.RecordBatch] = []
    name: str | None = None
    for batch in reader:
        runs = batch.column("part").dictionary_encode() if batch.num_rows else None
        if runs is None:
            continue
        codes = runs.indices.to_numpy()
        names = runs.dictionary.to_pylist()
        start = 0
        for code in range(len(names)):
            stop = int(codes.searchsorted(code, side="right"))
            if waiting and names[code] != name:
                yield str(name), pa.Table.from_batches(waiting)
                waiting = []
            name = names[code]
            waiting.append(batch.slice(start, stop - start))
            start = stop
    if waiting:
        yield str(name), pa.Table.from_batches(waiting)


def _row_group(path: Path, number: int) -> pa.Table:
    return pq.ParquetFile(path).read_row_group(number)


def _empty(schema: pa.Schema) -> pa.Table:
    return schema.empty_table()

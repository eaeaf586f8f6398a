"""SQL over the Parquet parts of a workspace, for work that needs a complete table at once."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import pyarrow as pa

from .errors import UserError
from .schemas import TableSpec
from .store import TableStore, damaged

if TYPE_CHECKING:
    import duckdb

MEMORY_LIMIT = "4GB"  # beyond it DuckDB spills to disk
_ROWS_AT_ONCE = 20_000
_BUILD_AGAIN = "run sono-curate build again"


@contextlib.contextmanager
def connect(memory_limit: str = MEMORY_LIMIT) -> Iterator[duckdb.DuckDBPyConnection]:
    """A new DuckDB with limited memory that spills to a temporary folder; only ORDER BY gives rows an order."""
    import duckdb

    with tempfile.TemporaryDirectory(prefix="sono-duckdb-") as folder:
        config: dict[str, str | bool | int | float | list[str]] = {
            "memory_limit": memory_limit,
            "temp_directory": folder,
            "preserve_insertion_order": False,
        }
        try:
            with duckdb.connect(":memory:", config=config) as connection:
                draw_no_progress(connection)
                yield connection
        except (
            duckdb.IOException,
            duckdb.InvalidInputException,
            duckdb.OutOfMemoryException,  # also where the disk is full that it would move data to
            duckdb.SerializationException,
        ) as error:
            explained = _explained(str(error))
            if explained is None:
                raise
            raise explained from error


def draw_no_progress(connection: duckdb.DuckDBPyConnection) -> None:
    """Keep DuckDB's progress bar out of standard output, where programs read JSON.

    It draws one once a statement takes two seconds; in a notebook without ipywidgets it draws none, and cannot be told.
    """
    (draws,) = connection.execute("SELECT current_setting('enable_progress_bar')").fetchall()[0]
    if draws:
        connection.execute("SET enable_progress_bar = false")


def _explained(message: str) -> Exception | None:
    """What DuckDB's message says of a full disk or a damaged part; None for anything else."""
    if "No space left" in message or "max_temp_directory_size" in message:
        return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    file = re.search(r"(/[^\"'\n]*/[\w.-]+\.parquet)", message)
    if file is None:
        return None
    is_part = file[1].rpartition("/")[2].startswith("part-")
    return damaged(file[1]) if is_part else UserError("this file is damaged", where=file[1], fix=_BUILD_AGAIN)


def query(sql: str, parameters: Mapping[str, object] | None = None, **tables: pa.Table) -> pa.Table:
    """The result of one statement.

    Args:
        sql: the statement; ``$name`` stands for a parameter, and the names in ``tables`` for Arrow tables.
        parameters: values of the parameters; lists of paths may be given to ``read_parquet``.
    """
    with connect() as connection:
        for name, table in tables.items():
            connection.register(name, table)
        relation = connection.sql(sql, params=dict(parameters or {}))
        assert relation is not None, "a statement that gives no rows"
        return relation.to_arrow_table()


def insert_rows(database: duckdb.DuckDBPyConnection, table: str, rows: Iterable[Sequence[object]]) -> None:
    """Insert rows into a table, whose columns are in the same order; few of them are in memory at a time."""
    remaining = iter(rows)
    while batch := list(itertools.islice(remaining, _ROWS_AT_ONCE)):
        arrays = [pa.array(column) for column in zip(*batch, strict=True)]
        database.register("inserted", pa.Table.from_arrays(arrays, [f"c{number}" for number in range(len(arrays))]))
        database.execute(f"INSERT INTO {table} SELECT * FROM inserted")
        database.unregister("inserted")


def view_table(database: duckdb.DuckDBPyConnection, store: TableStore, table: TableSpec) -> None:
    """Make a table's parts readable under its name: a query reads only the columns it names.

    Columns beside the table's: ``filename``, and ``file_row_number`` in that file.
    """
    paths = [str(path) for path in store.paths(table)]
    if paths:
        parts = database.read_parquet(paths, filename=True, file_row_number=True, hive_partitioning=False)
        parts.create_view(table.name)
    else:
        columns = table.schema.append(pa.field("filename", pa.string())).append(pa.field("file_row_number", pa.int64()))
        database.register(table.name, pa.Table.from_batches([], columns))  # `empty_table` would load pandas

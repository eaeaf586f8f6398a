"""The DuckDB database that matches records with images, and the tables of a workspace in it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from sono.manifests.query import connect
from sono.manifests.schemas import FRAMES, TableSpec
from sono.manifests.store import TableStore

if TYPE_CHECKING:
    import duckdb

MEMORY_LIMIT = "1800MB"  # of DuckDB; anything larger spills to disk

_FRAME_COLUMNS = (
    "frame_id, source_key, frame_index, study_key, patient_key, patient_center_key, patient_number_key, accession_key, "
    "study_day, plane, plane_source, filename AS file, file_row_number AS row"
)


@contextmanager
def captions_database(store: TableStore) -> Iterator[duckdb.DuckDBPyConnection]:
    """A DuckDB with the frames' identifying columns in the table ``frames``: read once, used by every join."""
    with connect() as database:
        database.execute(f"SET memory_limit = '{MEMORY_LIMIT}'")
        load_table(database, store, FRAMES, _FRAME_COLUMNS)
        yield database


def load_table(database: duckdb.DuckDBPyConnection, store: TableStore, table: TableSpec, columns: str) -> None:
    """Copy the named columns of a table's parts into a DuckDB table of its name; nothing else in the files is read."""
    paths = [str(path) for path in store.paths(table)]
    if paths:
        database.execute(
            f"CREATE OR REPLACE TEMP TABLE {table.name} AS SELECT {columns} "
            "FROM read_parquet(?, filename = true, file_row_number = true)",
            [paths],
        )
    else:
        database.register("empty", table.empty())
        columns = columns.replace("filename AS file", "'' AS file").replace("file_row_number AS row", "0 AS row")
        database.execute(f"CREATE OR REPLACE TEMP TABLE {table.name} AS SELECT {columns} FROM empty")
        database.unregister("empty")

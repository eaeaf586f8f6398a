"""The workspace's tables as the page reads them: SQL in, rows out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from sono.manifests.query import connect, view_table
from sono.manifests.schemas import CAPTIONS, EXCLUSIONS, FRAMES, RECORDS, REGIONS, STATEMENTS
from sono.manifests.store import TableStore

if TYPE_CHECKING:
    import duckdb


@contextmanager
def report_tables(store: TableStore) -> Iterator[duckdb.DuckDBPyConnection]:
    """A DuckDB in which every table that the page needs has its name."""
    with connect() as database:
        for table in (FRAMES, REGIONS, STATEMENTS, RECORDS, CAPTIONS, EXCLUSIONS):
            view_table(database, store, table)
        yield database


def query_rows(
    database: duckdb.DuckDBPyConnection, sql: str, parameters: Mapping[str, object] | None = None
) -> list[dict[str, Any]]:
    """The rows that a query returns."""
    rows: list[dict[str, Any]] = database.sql(sql, params=dict(parameters or {})).to_arrow_table().to_pylist()
    return rows

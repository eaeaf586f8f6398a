"""SQL over the Parquet parts of a workspace, for work that needs a complete table at once."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import pyarrow as pa

if TYPE_CHECKING:
    import duckdb

MEMORY_LIMIT = "4GB"  # beyond it DuckDB spills to disk


@contextlib.contextmanager
def connect() -> Iterator[duckdb.DuckDBPyConnection]:
    """A new DuckDB with limited memory that spills to a temporary folder; only ORDER BY gives rows an order."""
    import duckdb

    with tempfile.TemporaryDirectory(prefix="sono-duckdb-") as folder:
        config: dict[str, str | bool | int | float | list[str]] = {
            "memory_limit": MEMORY_LIMIT,
            "temp_directory": folder,
            "preserve_insertion_order": False,
        }
        with duckdb.connect(":memory:", config=config) as connection:
            yield connection


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

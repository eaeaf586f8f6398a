"""SQL over the Parquet parts of a workspace: for what needs a whole table at once."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping

import pyarrow as pa

MEMORY_LIMIT = "4GB"  # beyond it DuckDB spills to disk


def query(sql: str, parameters: Mapping[str, object] | None = None, **tables: pa.Table) -> pa.Table:
    """Run one statement in a fresh, memory-limited DuckDB that spills to a temporary folder.

    Args:
        sql: the statement; ``$name`` stands for a parameter, and the names in ``tables`` for Arrow tables.
        parameters: values of the parameters; lists of paths may be given to ``read_parquet``.
    """
    import duckdb

    with tempfile.TemporaryDirectory(prefix="sono-duckdb-") as folder:
        config = {"memory_limit": MEMORY_LIMIT, "temp_directory": folder, "preserve_insertion_order": "false"}
        with duckdb.connect(":memory:", config=config) as connection:
            for name, table in tables.items():
                connection.register(name, table)
            result: pa.Table = connection.execute(sql, dict(parameters or {})).to_arrow_table()
            return result

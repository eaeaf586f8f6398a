"""DuckDB as commands use it."""

from __future__ import annotations

import duckdb
import pytest

from sono.manifests.query import connect


def test_nothing_is_drawn_into_standard_output() -> None:
    with connect() as database:
        assert database.execute("SELECT current_setting('enable_progress_bar')").fetchone() == (False,)


def test_a_full_disk_is_said_to_be_one_while_data_are_moved_to_it() -> None:
    def fill(size: str) -> None:
        with connect("20MB") as connection:
            connection.execute(f"SET max_temp_directory_size = '{size}'")
            connection.execute("SELECT count(*) FROM (SELECT DISTINCT random(), random() FROM range(20_000_000))")

    with pytest.raises(OSError, match="No space left"):
        fill("1MB")


def test_what_a_statement_needs_more_memory_for_is_no_full_disk() -> None:
    with pytest.raises(duckdb.OutOfMemoryException), connect("1MB") as connection:
        connection.execute("SELECT list(range) FROM range(20_000_000)")

"""DuckDB as commands use it."""

from __future__ import annotations

from sono.manifests.query import connect


def test_nothing_is_drawn_into_standard_output() -> None:
    with connect() as database:
        assert database.execute("SELECT current_setting('enable_progress_bar')").fetchone() == (False,)

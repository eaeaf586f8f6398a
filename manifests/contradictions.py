"""Where the tables and the journal of decisions contradict each other, for ``sono-curate check``."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .decided_rows import SUBJECTS
from .journal import Journal, open_journal
from .journal_events import REVIEWER
from .projection import applied_until
from .query import connect, insert_rows, view_table
from .schemas import QC, TableSpec
from .store import TableStore

if TYPE_CHECKING:
    import duckdb


@dataclass
class Contradictions:
    """What is wrong.

    Attributes:
        damage: of the journal's file; None if there is none.
        missing: by table, rows that are not as people decided, though the decisions count as applied.
        unknown: by table, rows with a decision that the journal does not have.
    """

    damage: str | None = None
    missing: dict[str, int] = field(default_factory=dict)
    unknown: dict[str, int] = field(default_factory=dict)


def find_contradictions(store: TableStore, tables: Sequence[TableSpec]) -> Contradictions:
    """Compare every decision with ``tables``, as far as they are up to date; their parts can all be read.

    Raises:
        UserError: the journal cannot be read at all.
    """
    found = Contradictions()
    journal = open_journal(store.root)
    with contextlib.ExitStack() as stack:
        if journal is not None:
            stack.enter_context(contextlib.closing(journal))
            found.damage = journal.problem()
            if found.damage:
                return found
        for table in tables:
            with connect() as database:
                view_table(database, store, table)
                _load(database, journal, SUBJECTS[table.name], applied_until(store))
                missing, unknown = database.execute(_sql(table)).fetchall()[0]
            found.missing |= {table.name: missing} if missing else {}
            found.unknown |= {table.name: unknown} if unknown else {}
    return found


def _load(database: duckdb.DuckDBPyConnection, journal: Journal | None, subject: str, until: int) -> None:
    """The tables ``decided``, of decisions that the tables should have, and ``known``, of all subjects."""
    database.execute("CREATE TABLE decided (key VARCHAR, decided_at VARCHAR, reviewer VARCHAR, verdict VARCHAR)")
    database.execute("CREATE TABLE known (key VARCHAR, frame_id VARCHAR, n BIGINT)")
    if journal is None:
        return
    insert_rows(database, "decided", journal.decided(subject, until))
    insert_rows(database, "known", journal.changed(subject))


_BY_REVIEWER = f"len([r FOR r IN t.reasons IF r = '{REVIEWER}' OR starts_with(r, '{REVIEWER}_')]) > 0"


def _sql(table: TableSpec) -> str:
    """How many decisions the table does not have, and how many of the table nobody knows of."""
    if table is QC:  # a frame that quality control has not seen yet has no row
        absent, as_decided, by_person = "FALSE", "t.verdict = d.verdict", _BY_REVIEWER
    else:
        absent, as_decided = "TRUE", "t.updated_at = d.decided_at::TIMESTAMPTZ AND t.reviewer = d.reviewer"
        by_person = "t.reviewer IS NOT NULL AND t.updated_at IS NOT NULL"
    return f"""SELECT
        (SELECT count(*) FROM decided d LEFT JOIN {table.name} t ON t.{table.key} = d.key
         WHERE CASE WHEN t.{table.key} IS NULL THEN {absent} ELSE NOT coalesce({as_decided}, FALSE) END),
        (SELECT count(*) FROM {table.name} t ANTI JOIN known k ON k.key = t.{table.key} WHERE {by_person})"""

"""Rows of ``regions`` and ``qc`` as people decided: what a stage wrote, with the decisions of the journal over it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from .journal import Journal
from .journal_events import REVIEWER, STATUS_AFTER, Event, is_reviewers
from .schemas import QC, REGIONS, TableSpec

SUBJECTS: Mapping[str, str] = {REGIONS.name: "region", QC.name: "frame"}
"""The tables that people decide on the rows of, each with what the journal calls such a row."""


@dataclass(frozen=True)
class DecidedRows:
    """The rows of one part.

    Attributes:
        table: the rows with every decision.
        underneath: the decided ones among them as their stage wrote them, for the day on which a decision is undone;
            those that are being undone are among them still, so that none is lost if the part is not written.
        decisions: a digest of the decisions; empty if there are none.
        changed: whether ``table`` is anything else than what was given.
    """

    table: pa.Table
    underneath: pa.Table
    decisions: str
    changed: bool


def with_decisions(journal: Journal, table: TableSpec, rows: pa.Table, underneath: pa.Table | None) -> DecidedRows:
    """Rows with every decision that stands, and without those that do not.

    Args:
        rows: as a stage wrote them, or with earlier decisions.
        underneath: what the stage wrote of those rows that have earlier decisions, as far as it is known.
    """
    rows = rows.cast(table.schema)
    keys = rows[table.key].to_pylist()
    standing = journal.standing([key for key in keys if key is not None])
    places = [place for place, key in enumerate(keys) if key in standing]
    earlier = {row[table.key]: row for row in underneath.to_pylist()} if places and underneath is not None else {}
    below: list[dict[str, object]] = []
    replaced: dict[int, dict[str, object]] = {}
    digest: list[tuple[str, int]] = []
    for place, row in zip(places, rows.take(places).to_pylist() if places else [], strict=True):
        latest, stands = standing[row[table.key]]
        base = earlier.get(row[table.key]) if is_decided(table, row) else row
        if stands is not None:
            wanted = decided_row(table, stands, row)
            digest.append((row[table.key], stands.n))
        else:
            wanted = base or _before(table, latest, row)
        if base is not None and (stands is not None or wanted != row):
            below.append(base)
        if wanted != row:
            replaced[place] = wanted
    return DecidedRows(
        _replace(table, rows, replaced),
        table.from_rows(below) if below else _none(table),
        hashlib.sha256(json.dumps(sorted(digest)).encode()).hexdigest() if digest else "",
        bool(replaced),
    )


def decided_row(table: TableSpec, stands: Event, row: Mapping[str, Any]) -> dict[str, Any]:
    """The row that a decision makes of one; of a region nothing is left of what was there before."""
    after = stands.after or {}
    if table is QC:
        return {**row, "verdict": after["verdict"], "reasons": after["reasons"] or [REVIEWER]}
    return {
        **{name: after.get(name) for name in table.schema.names},
        "status": STATUS_AFTER[stands.action],
        "reviewer": stands.reviewer,
        "updated_at": stands.at,
    }


def is_decided(table: TableSpec, row: Mapping[str, Any]) -> bool:
    """Whether a row already has a decision: stages name no reviewer."""
    if table is QC:
        return any(map(is_reviewers, row["reasons"]))
    return row["reviewer"] is not None and row["updated_at"] is not None


def _before(table: TableSpec, undone: Event, row: dict[str, Any]) -> dict[str, Any]:
    """What was there before somebody decided, from the event that took the decision back."""
    after = undone.after
    if after is None:
        return row
    if table is QC:
        return {**row, "verdict": after["verdict"], "reasons": after["reasons"]}
    import datetime

    at = after.get("updated_at")
    values = {name: after.get(name) for name in table.schema.names}
    return {**values, "updated_at": datetime.datetime.fromisoformat(at) if isinstance(at, str) else at}


def _replace(table: TableSpec, rows: pa.Table, replaced: Mapping[int, dict[str, object]]) -> pa.Table:
    if not replaced:
        return rows
    both = pa.concat_tables([rows, table.from_rows(list(replaced.values()))])
    order = list(range(rows.num_rows))
    for number, place in enumerate(replaced):
        order[place] = rows.num_rows + number
    return both.take(order)


def _none(table: TableSpec) -> pa.Table:
    return pa.Table.from_batches([], table.schema)  # ``table.empty()`` would load pandas

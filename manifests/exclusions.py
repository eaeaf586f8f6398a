"""Counts of the ``exclusions`` table by stage and reason, as pages and ``status`` show them."""

from __future__ import annotations

from dataclasses import dataclass

from .query import query
from .schemas import EXCLUSIONS
from .store import TableStore


@dataclass(frozen=True)
class ExclusionCount:
    """How often a stage left something out for one reason; ``message`` is one of that reason's fixed texts."""

    stage: str
    reason: str
    message: str
    rows: int


def count_exclusions(store: TableStore) -> list[ExclusionCount]:
    """Counts by stage and reason: stages by name, within a stage the most frequent reason first."""
    paths = [str(path) for path in store.paths(EXCLUSIONS)]
    if not paths:
        return []
    found = query(
        "SELECT stage, reason, min(message) AS message, count(*) AS rows FROM read_parquet($paths) "
        "GROUP BY stage, reason ORDER BY stage, rows DESC, reason",
        {"paths": paths},
    )
    return [ExclusionCount(**row) for row in found.to_pylist()]

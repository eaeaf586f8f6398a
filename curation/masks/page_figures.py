"""What the page of masks counts: one function per figure, each a query over tables of any size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sono.manifests.vocabulary import Vocabulary

from .checks.judged import CHECKS, fault_counts

if TYPE_CHECKING:
    import duckdb


@dataclass(frozen=True)
class CheckFigure:
    """How many masks fail a check, and of how many it cannot be said."""

    name: str
    meaning: str
    masks: int
    unjudged: int


@dataclass(frozen=True)
class PlaneFigure:
    """A plane, its frames, and how many of them have an accepted mask of each of the plane's structures."""

    plane: str
    frames: int
    structures: Sequence[tuple[str, int]]


def totals(database: duckdb.DuckDBPyConnection) -> dict[str, Any]:
    """Masks that nobody rejected: all, accepted, proposed, with a fault; and those that were not measured."""
    return _rows(database, _TOTALS)[0]


_COUNTS = """
count(*) AS masks, count(*) FILTER (accepted) AS accepted, count(*) FILTER (status = 'proposed') AS proposed,
count(*) FILTER (len(faults) > 0) AS faulty
"""
_TOTALS = f"SELECT {_COUNTS}, count(*) FILTER (NOT measured) AS not_measured FROM judged"


def by_check(database: duckdb.DuckDBPyConnection) -> list[CheckFigure]:
    """Every check, in the order of ``CHECKS``."""
    counts = fault_counts(database)
    sql = "SELECT name, count(*) AS masks FROM (SELECT unnest(unjudged) AS name FROM judged) GROUP BY name"
    unjudged = {row["name"]: row["masks"] for row in _rows(database, sql)}
    return [CheckFigure(name, meaning, counts[name], unjudged.get(name, 0)) for name, (_, meaning) in CHECKS.items()]


def by_structure(database: duckdb.DuckDBPyConnection) -> list[dict[str, Any]]:
    """Structures with their masks, the shares of the image that they take, and of their boxes that they cover."""
    return _rows(database, _STRUCTURES)


_STRUCTURES = f"""
SELECT structure, {_COUNTS}, median(share) AS median, min(share) AS low, max(share) AS high,
    median(area_px / greatest(bbox[3]::DOUBLE * bbox[4], 1)) AS box_share
FROM (SELECT *, nullif(area_px, 0) / (height::DOUBLE * width) AS share FROM judged)
GROUP BY structure ORDER BY structure
"""


def worst(database: duckdb.DuckDBPyConnection, most: int) -> list[dict[str, Any]]:
    """Of each structure the masks with most faults first, then those with the lowest score, then the oddest areas.

    ``frame_path`` and ``region_path`` are the parts that have them.
    """
    return _rows(database, _WORST.format(most=most))


_WORST = """
WITH compared AS (
    SELECT region_id, structure, len(faults) AS wrong, score, area_px / (height::DOUBLE * width) AS share FROM judged
), typical AS (
    SELECT structure, median(share) AS median FROM compared GROUP BY structure
), ranked AS (
    SELECT region_id, share, share / median AS times, row_number() OVER (
        PARTITION BY structure
        ORDER BY wrong DESC, score NULLS LAST, abs(ln(nullif(share / median, 0))) DESC NULLS LAST, region_id
    ) AS place FROM compared JOIN typical USING (structure) QUALIFY place <= {most}
)
SELECT j.region_id, j.frame_id, j.structure, j.source, j.status, j.faults, j.score, j.z, w.share, w.times, w.place,
    r.filename AS region_path, f.filename AS frame_path
FROM ranked w JOIN judged j USING (region_id) JOIN regions r USING (region_id)
LEFT JOIN frames f ON f.frame_id = j.frame_id
ORDER BY j.structure, w.place
"""
"""Few columns are sorted, and the rest is looked up of the few masks that are shown."""


def missing(database: duckdb.DuckDBPyConnection, vocabulary: Vocabulary) -> list[PlaneFigure]:
    """The planes that there are frames of, with what is outlined in them."""
    frames = dict(database.sql("SELECT plane, count(*) FROM frames WHERE plane IS NOT NULL GROUP BY plane").fetchall())
    outlined = {(plane, structure): count for plane, structure, count in database.sql(_OUTLINED).fetchall()}
    return [
        PlaneFigure(
            plane.name, frames[plane.id], [(name, outlined.get((plane.id, name), 0)) for name in plane.structures]
        )
        for plane in vocabulary.planes.values()
        if plane.id in frames
    ]


_OUTLINED = """
SELECT plane, structure, count(*) FROM (SELECT DISTINCT plane, structure, frame_id FROM judged WHERE accepted)
GROUP BY plane, structure
"""
"""Frames, and not masks; ``count(DISTINCT frame_id)`` would not spill to disk."""


def agreement(database: duckdb.DuckDBPyConnection, most: int) -> list[dict[str, Any]]:
    """How far masks of one structure in one frame agree, by what made them; the least agreement first."""
    return _rows(database, _AGREEMENT.format(most=most))


_AGREEMENT = """
WITH pairs AS (SELECT structure, source, unnest(agreement) AS pair FROM judged)
SELECT p.structure, least(p.source, o.source) AS one, greatest(p.source, o.source) AS other, count(*) AS pairs,
    median(p.pair.iou) AS iou, avg((p.pair.iou >= 0.9)::INT) AS alike
FROM pairs p JOIN judged o ON o.region_id = p.pair.region_id
GROUP BY ALL ORDER BY iou, structure, one, other LIMIT {most}
"""


def pace(database: duckdb.DuckDBPyConnection, most: int) -> list[dict[str, Any]]:
    """Decisions of people by day (UTC), the latest first; rejected masks count, too."""
    return _rows(database, _PACE.format(most=most))


_PACE = """
SELECT strftime(timezone('UTC', updated_at), '%Y-%m-%d') AS day, count(*) AS decisions,
    count(*) FILTER (status = 'accepted') AS accepted, count(*) FILTER (status = 'edited') AS edited,
    count(*) FILTER (status = 'rejected') AS rejected
FROM regions WHERE updated_at IS NOT NULL AND status <> 'proposed' GROUP BY day ORDER BY day DESC LIMIT {most}
"""


def _rows(database: duckdb.DuckDBPyConnection, sql: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = database.sql(sql).to_arrow_table().to_pylist()
    return rows

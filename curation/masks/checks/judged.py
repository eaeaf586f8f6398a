"""What is wrong with masks: every check with its name and meaning, as one query over tables of any size."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from sono.curation.masks.decisions import ACCEPTED, ACCEPTED_BY_PERSON
from sono.manifests.query import connect, view_table
from sono.manifests.schemas import FRAMES, MASK_CHECKS, RECORDS, REGIONS
from sono.manifests.store import TableStore
from sono.manifests.vocabulary import Vocabulary

if TYPE_CHECKING:
    import duckdb

_MEMORY = "1GB"  # other commands show the page at their end, and hold something themselves

OUTSIDE_SHARE = 0.02
"""Of a mask's area: that much outside of the ultrasound is more than the edge of a sector is uncertain by."""

OVERLAP_SHARE = 0.1
"""Of the smaller of two masks: that much in common is more than neighbours that touch have."""

AREA_Z = 3.5
"""Robust z-scores beyond it are outliers: Iglewicz and Hoaglin, How to Detect and Handle Outliers (1993)."""

AREA_PATIENTS = 8
"""With fewer, nothing is said of areas."""

SMALLEST_SPREAD = 0.05
"""Of the logarithm of areas: if those of the others happen to be closer together than 5%, that is no reason."""

CHECKS: Mapping[str, tuple[str, str]] = {
    "undecodable": (
        "CASE WHEN m.region_id IS NOT NULL THEN m.problem IS NOT NULL END",
        "the stored mask cannot be decoded",
    ),
    "no_frame": ("f.frame_id IS NULL", "its frame is no longer in the workspace"),
    "other_pixels": ("r.pixel_digest <> f.pixel_digest", "it was drawn on other pixels than its frame has now"),
    "size_mismatch": (
        "r.mask.size[1] <> f.height OR r.mask.size[2] <> f.width",
        "the mask has another size than its frame",
    ),
    "empty": ("r.area_px = 0", "nothing is drawn"),
    "specks": ("m.specks > 0", "it has parts of less than 2% of the largest one"),
    "holes": ("m.holes > 0", "it has holes"),
    "outside_sector": (
        f"m.outside_px > {OUTSIDE_SHARE} * r.area_px",
        "more than 2% of it lies outside of the ultrasound",
    ),
    "not_in_plane": (
        "CASE WHEN p.plane IS NOT NULL THEN s.structure IS NULL END",
        "the vocabulary does not list the structure for the frame's plane",
    ),
    "unusual_area": (
        f"abs(z) > {AREA_Z}",
        "its area in mm² is far from that of accepted masks of the structure, in the same plane and week of gestation",
    ),
    "overlap": (
        f"len([o for o in m.overlaps if o.share > {OVERLAP_SHARE}]) > 0",
        "it overlaps with another structure that it is neither part of nor passes into",
    ),
}
"""Name -> condition, and what it means. A condition that cannot be judged is NULL, and counts as unjudged."""


@contextmanager
def judged_masks(store: TableStore, vocabulary: Vocabulary) -> Iterator[duckdb.DuckDBPyConnection]:
    """A DuckDB whose table ``judged`` has one row per mask that nobody rejected.

    Columns: those of ``regions`` that say what it is, ``plane``, ``ga_days``, ``area_mm2``, ``z`` (of the area; NULL
    if it cannot be judged), ``score`` (of its proposal; NULL of a drawn mask), ``measured``, ``accepted``, and
    ``faults`` and ``unjudged``: the names of ``CHECKS`` that it fails, and of those that cannot be judged.
    """
    with _judging(store, vocabulary) as database:
        database.execute(f"CREATE TEMP TABLE judged AS {_JUDGED}")
        yield database


def count_faults(store: TableStore, vocabulary: Vocabulary) -> dict[str, int]:
    """How many masks fail each check, of those that nobody rejected; also ``not_measured`` if some were not yet."""
    with _judging(store, vocabulary) as database:
        database.execute(f"CREATE TEMP VIEW judged AS {_JUDGED}")  # read once, so it need not be kept
        return fault_counts(database)


@contextmanager
def _judging(store: TableStore, vocabulary: Vocabulary) -> Iterator[duckdb.DuckDBPyConnection]:
    """A DuckDB that has all that ``_JUDGED`` reads."""
    with connect(_MEMORY) as database:
        for table in (FRAMES, REGIONS, RECORDS, MASK_CHECKS):
            view_table(database, store, table)
        listed = [(plane.id, structure) for plane in vocabulary.planes.values() for structure in plane.structures]
        database.execute(  # an Arrow table of these would load pandas
            "CREATE TEMP TABLE plane_structures AS SELECT unnest($planes) AS plane, unnest($structures) AS structure",
            {"planes": [plane for plane, _ in listed], "structures": [name for _, name in listed]},
        )
        database.execute(_AGES)
        database.execute(_USUAL_AREAS)
        yield database


def fault_counts(database: duckdb.DuckDBPyConnection) -> dict[str, int]:
    """The same of an open database; every check is named, whether or not a mask fails it."""
    counts = ", ".join(f"count(*) FILTER (list_contains(faults, '{name}'))" for name in CHECKS)
    (found,) = database.sql(f"SELECT {counts}, count(*) FILTER (NOT measured) FROM judged").fetchall()
    return dict(zip((*CHECKS, "not_measured"), found, strict=True))


_AREA_MM2 = "r.area_px * f.pixel_mm_x * f.pixel_mm_y"

_AGES = """
CREATE TEMP VIEW ages AS
SELECT study_key, max(ga_days) AS ga_days FROM records WHERE plane IS NULL GROUP BY study_key
"""

# Each patient counts once in a week, however many frames there are; the weeks before and after count, too.
_USUAL_AREAS = f"""
CREATE TEMP VIEW usual_areas AS
WITH by_patient AS (
    SELECT r.structure, coalesce(f.plane, '') AS plane, g.ga_days // 7 AS week, f.patient_key,
        median(ln(nullif({_AREA_MM2}, 0))) AS log_area
    FROM regions r JOIN frames f USING (frame_id) JOIN ages g ON g.study_key = f.study_key
    WHERE {ACCEPTED_BY_PERSON} AND {_AREA_MM2} > 0 AND g.ga_days IS NOT NULL GROUP BY ALL
), around AS (
    SELECT structure, plane, week + unnest([-1, 0, 1]) AS week, patient_key, log_area FROM by_patient
)
SELECT structure, plane, week, median(log_area) AS middle,
    greatest(1.4826 * mad(log_area), {SMALLEST_SPREAD}) AS spread
FROM around GROUP BY structure, plane, week HAVING count(DISTINCT patient_key) >= {AREA_PATIENTS}
"""

_FAULTS = ", ".join(f"CASE WHEN {condition} THEN '{name}' END" for name, (condition, _) in CHECKS.items())

_UNJUDGED = ", ".join(f"CASE WHEN ({condition}) IS NULL THEN '{name}' END" for name, (condition, _) in CHECKS.items())

_JUDGED = f"""
SELECT r.region_id, r.frame_id, r.structure, r.source, r.status, r.updated_at, r.area_px, r.bbox,
    f.plane, f.height, f.width, g.ga_days,
    {_AREA_MM2} AS area_mm2, (ln(nullif(area_mm2, 0)) - u.middle) / u.spread AS z,
    coalesce(
        try_cast(json_extract_string(r.scores, '$.confidence') AS DOUBLE),
        try_cast(json_extract_string(r.scores, '$.score') AS DOUBLE)
    ) AS score,
    m.region_id IS NOT NULL AS measured, {ACCEPTED} AS accepted, m.overlaps, m.agreement,
    [name for name in [{_FAULTS}] if name IS NOT NULL] AS faults,
    [name for name in [{_UNJUDGED}] if name IS NOT NULL] AS unjudged
FROM regions r
LEFT JOIN frames f USING (frame_id)
LEFT JOIN mask_checks m ON m.region_id = r.region_id
LEFT JOIN (SELECT DISTINCT plane FROM plane_structures) p ON p.plane = f.plane
LEFT JOIN plane_structures s ON s.plane = f.plane AND s.structure = r.structure
LEFT JOIN ages g ON g.study_key = f.study_key
LEFT JOIN usual_areas u ON u.structure = r.structure AND u.plane = coalesce(f.plane, '') AND u.week = g.ga_days // 7
WHERE r.status <> 'rejected'
"""

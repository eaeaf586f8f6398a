"""Frames, their regions and their records brought together, part by part.

The join is DuckDB over the Parquet parts, with a memory limit and spilling to disk; pixels and masks are not read.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from sono.captioning.exams.linkage import load
from sono.manifests.handoff import empty_part, hand_off
from sono.manifests.schemas import BIOMETRY, FRAMES, RECORDS, REGIONS
from sono.manifests.stages import Part
from sono.manifests.store import TableStore, part_name

if TYPE_CHECKING:
    import duckdb

STUDY = pa.schema(
    [
        pa.field("study_key", pa.string()),
        pa.field("recorded_patient_key", pa.string()),  # null: no record is about the study
        pa.field("ga_days", pa.int32()),
        pa.field("ga_conflict", pa.string()),
        *(pa.field(name, pa.float64()) for name in BIOMETRY),
        pa.field("presentation", pa.string()),
        pa.field("findings", pa.list_(pa.string())),
        pa.field("seen_in_study", pa.list_(pa.string())),
        pa.field("study_laterality", pa.string()),
        pa.field("identity", pa.list_(pa.string())),
        pa.field("provenance", pa.string()),
    ]
)
"""What a study's record says, the same in all of the study's frames."""

JOINED = pa.schema(
    [
        pa.field("source_key", pa.string()),
        pa.field("frame_index", pa.int32()),
        pa.field("frame_id", pa.string()),
        pa.field("patient_key", pa.string()),
        pa.field("plane", pa.string()),
        pa.field("plane_source", pa.string()),
        pa.field(
            "regions",
            pa.list_(pa.struct([pa.field("region_id", pa.string()), pa.field("structure", pa.string())])),
        ),
        pa.field("seen_in_plane", pa.list_(pa.string())),
        pa.field("laterality", pa.string()),
        pa.field("plane_provenance", pa.string()),
        *STUDY,
    ]
)
"""One row a frame: everything its captions are made from."""

_ROWS_MOST = 8_192
_PARTS_MEAN = 32
_FRAMES_AT_ONCE = 200_000


@dataclass(frozen=True)
class Matches:
    """How records and images found each other.

    Attributes:
        studies: with images.
        studies_with_record: of these, those that a record is about.
        records_without_images: examinations in the records that no image is of.
    """

    studies: int
    studies_with_record: int
    records_without_images: int


def joined_parts(connection: duckdb.DuckDBPyConnection, store: TableStore, path: Path) -> tuple[list[Part], Matches]:
    """Every frame with its record and its accepted regions, as the caption stage's parts.

    A part has the frames of several parts of ``frames``, which may be small. It is named like the first of them.

    Args:
        connection: holds the table ``frames`` (``settle.captions_database``).
        path: the hand-off file.
    """
    groups = _number(connection, store)
    columns = [name for name in RECORDS.schema.names if name not in ("ga_source", "ga_formula")]
    load(connection, store, RECORDS, ", ".join(columns))
    load(connection, store, REGIONS, "frame_id, region_id, structure, status")
    connection.execute(_OUTLINED)
    ((last,),) = connection.execute("SELECT coalesce(max(slice), -1) FROM numbered").fetchall()
    queries = (_JOIN.format(slice=number) for number in range(last + 1))
    parts = {part.name: part for part in hand_off(connection, queries, JOINED, path)}
    for name in groups.values():  # frames parts without a row
        parts.setdefault(name, empty_part(name, JOINED))
    return list(parts.values()), _matches(connection)


def _number(connection: duckdb.DuckDBPyConnection, store: TableStore) -> dict[str, str]:
    """Make the table ``numbered``: frames' parts, their captions' part, and the slice that is joined at once."""
    rows = dict(connection.execute("SELECT file, count(*) FROM frames GROUP BY file").fetchall())
    names = {part_name(path): str(path) for path in store.paths(FRAMES)}
    groups = frame_groups({name: rows.get(file, 0) for name, file in names.items()})
    slices, total, last, current = [], 0, "", 0
    for name, group in groups.items():
        if group != last:  # a part of captions is in one slice
            current, last = total // _FRAMES_AT_ONCE, group
        slices.append(current)
        total += rows.get(names[name], 0)
    schema = pa.schema([("file", pa.string()), ("part", pa.string()), ("slice", pa.int32())])
    files = [names[name] for name in groups]
    table = pa.table({"file": files, "part": list(groups.values()), "slice": slices}, schema=schema)
    connection.register("groups", table)
    connection.execute("CREATE OR REPLACE TEMP TABLE numbered AS SELECT * FROM groups")
    connection.unregister("groups")
    return groups


def frame_groups(rows: Mapping[str, int]) -> dict[str, str]:
    """For each part of ``frames`` the part of ``captions`` that its frames' captions are in.

    Names decide where a group ends, so a part that is added or taken away changes the group it is in and, at most, a
    few behind it.

    Args:
        rows: frames by part.
    """
    return {name: group[0] for group in _groups(rows) for name in group}


def _groups(rows: Mapping[str, int]) -> Iterator[list[str]]:
    group: list[str] = []
    total = 0
    for name in sorted(rows):
        if group and total + rows[name] > _ROWS_MOST:
            yield group
            group, total = [], 0
        group.append(name)
        total += rows[name]
        if zlib.crc32(name.encode()) % _PARTS_MEAN == 0:
            yield group
            group, total = [], 0
    if group:
        yield group


_OUTLINED = """
CREATE OR REPLACE TEMP TABLE outlined AS
SELECT n.slice, r.frame_id, r.region_id, r.structure
FROM regions r JOIN frames f ON f.frame_id = r.frame_id JOIN numbered n ON n.file = f.file
WHERE r.status IN ('accepted', 'edited');
DROP TABLE regions
"""

_JOIN = f"""
WITH mine AS (SELECT f.*, n.part FROM frames f JOIN numbered n ON n.file = f.file WHERE n.slice = {{slice}}
), listed AS (
    SELECT frame_id, list({{{{'region_id': region_id, 'structure': structure}}}} ORDER BY region_id) AS regions
    FROM outlined WHERE slice = {{slice}} GROUP BY frame_id
)
SELECT f.part, f.source_key, f.frame_index, f.frame_id, f.patient_key, f.plane, f.plane_source, listed.regions,
    own.structures_seen AS seen_in_plane, own.laterality, own.provenance AS plane_provenance,
    f.study_key, whole.patient_key AS recorded_patient_key, whole.ga_days, whole.ga_conflict,
    {", ".join(f"whole.{name}" for name in BIOMETRY)},
    whole.presentation, whole.findings, whole.structures_seen AS seen_in_study, whole.laterality AS study_laterality,
    whole.identity, whole.provenance
FROM mine f
LEFT JOIN records own ON own.study_key = f.study_key AND own.plane = f.plane
LEFT JOIN records whole ON whole.study_key = f.study_key AND whole.plane IS NULL
LEFT JOIN listed ON listed.frame_id = f.frame_id
ORDER BY f.part, f.file, f.row
"""

_MATCHES = """
SELECT (SELECT count(DISTINCT study_key) FROM frames),
    (SELECT count(DISTINCT study_key) FROM frames WHERE study_key IN (SELECT study_key FROM records)),
    (SELECT count(DISTINCT study_key) FROM records WHERE study_key NOT IN (SELECT study_key FROM frames))
"""


def _matches(connection: duckdb.DuckDBPyConnection) -> Matches:
    (row,) = connection.execute(_MATCHES).fetchall()
    return Matches(*row)

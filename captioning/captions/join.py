"""Joins frames with their regions and records, part by part.

The join is DuckDB over the Parquet parts, which spills to disk; pixels and masks are not read.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa

from sono.captioning.exams.database import captions_database, load_table
from sono.manifests.handoff import empty_part, hand_off, handoff_file
from sono.manifests.schemas import BIOMETRY, CAPTIONS, FRAMES, RECORDS, REGIONS
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
"""What a study's record says: equal for all frames of the study."""

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
"""One row per frame: everything its captions are made from."""

_ROWS_MOST = 8_192
_PARTS_MEAN = 32
_FRAMES_AT_ONCE = 200_000


@dataclass(frozen=True)
class Matches:
    """How many records and images found each other.

    Attributes:
        studies: those with images.
        studies_with_record: those with images and a record.
        records_without_images: examinations in the records without any image here.
    """

    studies: int
    studies_with_record: int
    records_without_images: int


@contextmanager
def joined_parts(database: duckdb.DuckDBPyConnection, store: TableStore) -> Iterator[tuple[list[Part], Matches]]:
    """Every frame with its record and its accepted regions (``JOINED``), as the caption stage's parts.

    A part has the frames of several parts of ``frames``, which may be small, and is named like the first of them. Parts
    can be loaded inside the ``with`` block only: their rows pass through a temporary file.

    Args:
        database: from ``captions_database``.
    """
    groups = _number_slices(database, store)
    columns = [name for name in RECORDS.schema.names if name not in ("ga_source", "ga_formula")]
    load_table(database, store, RECORDS, ", ".join(columns))
    load_table(database, store, REGIONS, "frame_id, region_id, structure, status")
    database.execute(_OUTLINED)
    ((last,),) = database.execute("SELECT coalesce(max(slice), -1) FROM numbered").fetchall()
    with handoff_file(store.folder(CAPTIONS)) as path:
        parts = {part.name: part for part in hand_off(database, map(_joined, range(last + 1)), JOINED, path)}
        for name in groups.values():  # parts of frames without a row
            parts.setdefault(name, empty_part(name, JOINED))
        yield list(parts.values()), _count_matches(database)


@contextmanager
def joined_parts_of_last_run(store: TableStore) -> Iterator[list[Part]]:
    """``joined_parts`` from the records table as it is; nothing is written."""
    with captions_database(store) as database, joined_parts(database, store) as (parts, _):
        yield parts


def _number_slices(database: duckdb.DuckDBPyConnection, store: TableStore) -> dict[str, str]:
    """Make the table ``numbered``: each part of ``frames``, its part of ``captions``, and the slice that joins it.

    Returns:
        part of ``frames`` -> part of ``captions``.
    """
    rows = dict(database.execute("SELECT file, count(*) FROM frames GROUP BY file").fetchall())
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
    database.register("groups", table)
    database.execute("CREATE OR REPLACE TEMP TABLE numbered AS SELECT * FROM groups")
    database.unregister("groups")
    return groups


def frame_groups(rows: Mapping[str, int]) -> dict[str, str]:
    """For each part of ``frames``, the part of ``captions`` that holds the captions of its frames.

    Names decide where a group ends, so adding or removing a part changes its own group and at most a few after it.

    Args:
        rows: number of frames by part.
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


def _joined(number: int) -> str:
    """SQL for the rows of slice ``number``, part by part, in the order of the frames."""
    measurements = ", ".join(f"study.{name}" for name in BIOMETRY)
    return f"""
WITH sliced AS (SELECT f.*, n.part FROM frames f JOIN numbered n ON n.file = f.file WHERE n.slice = {number}
), listed AS (
    SELECT frame_id, list(struct_pack(region_id := region_id, structure := structure) ORDER BY region_id) AS regions
    FROM outlined WHERE slice = {number} GROUP BY frame_id
)
SELECT f.part, f.source_key, f.frame_index, f.frame_id, f.patient_key, f.plane, f.plane_source, listed.regions,
    own.structures_seen AS seen_in_plane, own.laterality, own.provenance AS plane_provenance,
    f.study_key, study.patient_key AS recorded_patient_key, study.ga_days, study.ga_conflict, {measurements},
    study.presentation, study.findings, study.structures_seen AS seen_in_study, study.laterality AS study_laterality,
    study.identity, study.provenance
FROM sliced f
LEFT JOIN records own ON own.study_key = f.study_key AND own.plane = f.plane
LEFT JOIN records study ON study.study_key = f.study_key AND study.plane IS NULL
LEFT JOIN listed ON listed.frame_id = f.frame_id
ORDER BY f.part, f.file, f.row
"""


_MATCHES = """
SELECT (SELECT count(DISTINCT study_key) FROM frames),
    (SELECT count(DISTINCT study_key) FROM frames WHERE study_key IN (SELECT study_key FROM records)),
    (SELECT count(DISTINCT study_key) FROM records WHERE study_key NOT IN (SELECT study_key FROM frames))
"""


def _count_matches(database: duckdb.DuckDBPyConnection) -> Matches:
    (row,) = database.execute(_MATCHES).fetchall()
    return Matches(*row)

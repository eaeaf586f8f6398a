"""What there is to propose: the structures of each frame without an accepted mask, and where to look for them.

The plan is SQL over complete tables, which spills to disk. No pixels are read, and nothing of masks but their digests.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from sono.curation.masks.decisions import ACCEPTED
from sono.manifests.handoff import hand_off, handoff_file
from sono.manifests.query import connect, view_table
from sono.manifests.schemas import FRAMES, QC, REGIONS, RLE
from sono.manifests.stages import Part
from sono.manifests.store import TableStore
from sono.manifests.vocabulary import Vocabulary

from .places import FIELD_MACRO, find_places

if TYPE_CHECKING:
    import duckdb

_REQUEST = pa.struct(
    {
        "structure": pa.string(),
        "typical": pa.list_(pa.float64()),  # as in ``places.PLACES``; null: nobody knows where
        "wide": pa.list_(pa.float64()),
        "origin": pa.string(),
        "region_id": pa.string(),  # of the accepted mask in the nearest frame of the cine; null if there is none
        "mask_digest": pa.string(),  # so that another mask in its place makes the proposal stale
        "distance": pa.int32(),  # in frames
    }
)

_PLANNED = pa.schema(
    {
        "source_key": pa.string(),  # this and what follows: null of decided regions whose frame is gone
        "frame_index": pa.int32(),
        "frame_id": pa.string(),
        "pixel_digest": pa.string(),
        "frames_part": pa.string(),
        "field": pa.list_(pa.int64()),  # x, y, width, height in px
        "requests": pa.list_(_REQUEST),
        "kept_ids": pa.list_(pa.string()),  # rows of the backend's that stay: decided ones, and of other structures
    }
)

INPUT = pa.schema(
    [
        *_PLANNED,
        pa.field("image", pa.binary()),
        FRAMES.schema.field("sectors"),
        pa.field("neighbours", pa.list_(pa.struct({"region_id": pa.string(), "mask": RLE}))),
        pa.field("kept", pa.list_(pa.struct(list(REGIONS.schema)))),
    ]
)
"""What the stage gets: one row per frame."""


@dataclass(frozen=True)
class Plan:
    """What a run has to do.

    Attributes:
        unknown_places: by structure, in how many frames nothing says where it might be.
        without_plane: frames that are left out because their plane, and so what they show, is not known.
        decided: how many structures of frames are left alone, because a mask of theirs is accepted or somebody has
            rejected this backend's.
    """

    parts: Sequence[Part]
    unknown_places: Mapping[str, int]
    without_plane: int
    decided: int


@contextmanager
def plan(
    store: TableStore,
    vocabulary: Vocabulary,
    *,
    prefix: str,
    structures: Sequence[str] | None,
    keep_others: bool,
    limit: int | None,
    folder: Path | None = None,
) -> Iterator[Plan]:
    """The parts of a run: one for each part of ``frames``. They can be loaded inside the ``with`` block only.

    What a person decided about the backend's proposals is in them as it is.

    Args:
        prefix: of the names of the backend's parts.
        structures: what to propose; None for all structures of each frame's plane.
        keep_others: earlier proposals for other structures stay.
        limit: frames at most, of those for which the backend has proposed nothing yet; None for all.
        folder: where the rows of the plan are until the end; that of the regions if omitted.
    """
    with connect() as database, handoff_file(folder or store.folder(REGIONS)) as path:
        _make_views(database, store, vocabulary, structures, prefix)
        database.register("places", find_places(database))
        database.execute(_WANTED)
        database.execute(_PLAN, {"prefix": prefix, "keep_others": keep_others})
        if limit is not None:
            _keep_first(database, limit)
        planned = hand_off(database, [_ROWS], _PLANNED, path)
        ((without_plane, decided),) = database.execute(_COUNTS).fetchall()
        unknown = dict(database.execute(_UNKNOWN).fetchall())
        region_parts = dict(database.execute(_REGION_PARTS).fetchall())
        parts = [
            Part(part.name, part.digest, partial(_load, store, region_parts[part.name], part.load)) for part in planned
        ]
        yield Plan(parts, unknown, without_plane, decided)


def _make_views(
    database: duckdb.DuckDBPyConnection,
    store: TableStore,
    vocabulary: Vocabulary,
    structures: Sequence[str] | None,
    prefix: str,
) -> None:
    for table in (FRAMES, QC, REGIONS):
        view_table(database, store, table)
    shown = [
        {"plane": plane.id, "structure": structure, "place": place}
        for plane in vocabulary.planes.values()
        for place, structure in enumerate(plane.structures)
        if structures is None or structure in structures
    ]
    schema = pa.schema({"plane": pa.string(), "structure": pa.string(), "place": pa.int32()})
    database.register("vocabulary", pa.Table.from_pylist(shown, schema=schema))
    database.execute(FIELD_MACRO)
    database.execute(_PART_MACRO)
    database.execute(_VIEWS)
    database.execute(_OWN, {"prefix": prefix})


_PART_MACRO = "CREATE OR REPLACE MACRO part_of(path) AS parse_filename(path, true)[6:]"
"""``store.part_name`` in SQL. Paths are in no digest: a workspace that was moved is not stale."""

_VIEWS = f"""
CREATE TEMP TABLE known_frames AS
SELECT f.frame_id, f.source_key, f.frame_index, f.frame_count, f.height, f.width, f.pixel_digest, f.plane,
    f.patient_key, field_of(f.sectors, f.height, f.width) AS field, part_of(f.filename) AS part,
    coalesce(q.verdict <> 'reject', false) AS usable
FROM frames f LEFT JOIN qc q ON q.frame_id = f.frame_id AND part_of(q.filename) = part_of(f.filename);
CREATE TEMP TABLE accepted AS
SELECT r.region_id, r.frame_id, r.structure, r.bbox, md5(r.mask.counts) AS mask_digest, part_of(r.filename) AS part
FROM regions r JOIN known_frames f ON f.frame_id = r.frame_id AND f.pixel_digest = r.pixel_digest
WHERE {ACCEPTED}
"""
"""A mask of other pixels than the frame has now counts as none, as in a dataset."""

_OWN = """
CREATE TEMP TABLE own AS
SELECT region_id, frame_id, structure, pixel_digest, status, part_of(filename) AS part
FROM regions WHERE starts_with(part_of(filename), $prefix)
"""
"""What the backend proposed earlier. A row that is not ``proposed`` any more is a person's decision."""

_WANTED = """
CREATE TEMP TABLE wanted AS
SELECT f.frame_id, f.source_key, f.frame_index, f.frame_count, v.structure, v.place,
    p.typical, p.wide, p.origin, d.frame_id IS NOT NULL AS done
FROM known_frames f
JOIN vocabulary v ON v.plane = f.plane
LEFT JOIN places p ON p.plane = f.plane AND p.structure = v.structure
LEFT JOIN (
    SELECT frame_id, structure FROM accepted UNION SELECT frame_id, structure FROM own WHERE status <> 'proposed'
) d ON d.frame_id = f.frame_id AND d.structure = v.structure
WHERE f.usable
"""

_PLAN = """
CREATE TEMP TABLE planned AS
WITH near AS (
    SELECT w.frame_id, w.structure, abs(w.frame_index - f.frame_index)::INTEGER AS distance,
        a.region_id, a.mask_digest, a.part,
        row_number() OVER (PARTITION BY w.frame_id, w.structure
                           ORDER BY abs(w.frame_index - f.frame_index), a.region_id) AS nth
    FROM wanted w
    JOIN known_frames f ON f.source_key = w.source_key AND f.frame_id <> w.frame_id
    JOIN accepted a ON a.frame_id = f.frame_id AND a.structure = w.structure
    WHERE NOT w.done AND w.frame_count > 1
), requested AS (
    SELECT w.frame_id, list({'structure': w.structure, 'typical': w.typical, 'wide': w.wide, 'origin': w.origin,
        'region_id': n.region_id, 'mask_digest': n.mask_digest, 'distance': n.distance} ORDER BY w.place) AS requests,
        list(n.part) FILTER (n.part IS NOT NULL) AS region_parts
    FROM wanted w LEFT JOIN near n ON n.frame_id = w.frame_id AND n.structure = w.structure AND n.nth = 1
    WHERE NOT w.done
    GROUP BY w.frame_id
), kept AS (
    -- A run that was ended between writing and removing has left rows in two parts.
    SELECT o.frame_id, list(DISTINCT o.region_id ORDER BY o.region_id) AS kept_ids, list(o.part) AS region_parts
    FROM own o LEFT JOIN known_frames f ON f.frame_id = o.frame_id AND f.pixel_digest = o.pixel_digest
    WHERE o.status <> 'proposed' OR (
        $keep_others AND f.usable AND o.structure NOT IN (SELECT structure FROM vocabulary)
        AND NOT EXISTS (SELECT 1 FROM accepted a WHERE a.frame_id = o.frame_id AND a.structure = o.structure))
    GROUP BY o.frame_id
)
SELECT $prefix || coalesce(f.part, 'gone') AS part, f.source_key, f.frame_index, f.frame_id, f.pixel_digest,
    f.part AS frames_part, f.field, coalesce(q.requests, []) AS requests, coalesce(k.kept_ids, []) AS kept_ids,
    list_concat(coalesce(q.region_parts, []), coalesce(k.region_parts, [])) AS region_parts
FROM known_frames f LEFT JOIN requested q ON q.frame_id = f.frame_id FULL JOIN kept k ON k.frame_id = f.frame_id
WHERE q.frame_id IS NOT NULL OR k.frame_id IS NOT NULL
"""

_ROWS = "SELECT * FROM planned ORDER BY part, source_key, frame_index, kept_ids"

_REGION_PARTS = "SELECT part, list_sort(list_distinct(flatten(list(region_parts)))) FROM planned GROUP BY part"
"""Where the masks of neighbours and the rows that stay are: not in the digest, because nothing depends on it."""

_COUNTS = """
SELECT (SELECT count(*) FROM known_frames WHERE usable AND plane IS NULL), (SELECT count(*) FROM wanted WHERE done)
"""

_UNKNOWN = """
SELECT r.structure, count(*) FROM (SELECT unnest(requests) AS r FROM planned)
WHERE r.typical IS NULL AND r.region_id IS NULL GROUP BY ALL ORDER BY count(*) DESC, r.structure
"""


def _keep_first(database: duckdb.DuckDBPyConnection, limit: int) -> None:
    """Leave the first frames of parts that are not there yet, so that trying a backend out loses nothing.

    Frames may have come into other parts since the backend proposed something for them.
    """
    database.execute("DELETE FROM planned WHERE part IN (SELECT part FROM own)")
    database.execute("DELETE FROM planned WHERE frame_id IS NULL OR frame_id IN (SELECT frame_id FROM own)")
    database.execute(
        "DELETE FROM planned WHERE frame_id NOT IN "
        "(SELECT frame_id FROM planned ORDER BY part, source_key, frame_index LIMIT $limit)",
        {"limit": limit},
    )


def _load(store: TableStore, region_parts: Sequence[str], load: Callable[[], pa.Table]) -> pa.Table:
    """The stage's input: the frames that were planned, with their pixels and masks; called in the worker."""
    rows = load().to_pylist()
    asked = {row["frame_id"]: row["frames_part"] for row in rows if row["requests"]}
    images = {
        found["frame_id"]: found
        for part in sorted(set(asked.values()))
        for found in store.find_rows(store.path(FRAMES, part), FRAMES, asked.keys(), ["image", "sectors"])
    }
    near = {request["region_id"] for row in rows for request in row["requests"]} - {None}
    ids = near.union(*(row["kept_ids"] for row in rows))
    columns = [name for name in REGIONS.schema.names if name != REGIONS.key]
    regions = {
        found["region_id"]: found
        for part in region_parts
        for found in store.find_rows(store.path(REGIONS, part), REGIONS, ids, columns)
    }
    for row in rows:
        wanted = {request["region_id"] for request in row["requests"]} - {None}
        row |= {
            "image": images[row["frame_id"]]["image"]["bytes"] if row["requests"] else None,
            "sectors": images[row["frame_id"]]["sectors"] if row["requests"] else None,
            "neighbours": [{"region_id": key, "mask": regions[key]["mask"]} for key in sorted(wanted)],
            "kept": [regions[key] for key in row["kept_ids"]],
        }
    return pa.Table.from_pylist(rows, schema=INPUT)

"""What there is to propose: the structures of each frame without an accepted mask, and where to look for them.

The plan is SQL over complete tables, which spills to disk; no pixels and no masks are read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import pyarrow as pa

from sono.manifests.handoff import hand_off, handoff_file
from sono.manifests.query import connect, view_table
from sono.manifests.schemas import ACCEPTED_STATUSES, FRAMES, QC, REGIONS
from sono.manifests.stages import Part
from sono.manifests.store import TableStore, part_name
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
        "region_file": pa.string(),  # the part that it is in
        "distance": pa.int32(),  # in frames
    }
)

_PLANNED = pa.schema(
    {
        "source_key": pa.string(),
        "frame_index": pa.int32(),
        "frame_id": pa.string(),
        "pixel_digest": pa.string(),
        "frames_file": pa.string(),
        "field": pa.list_(pa.int64()),  # x, y, width, height in px
        "requests": pa.list_(_REQUEST),
        "kept_ids": pa.list_(pa.string()),  # earlier proposals for other structures, which this run is not about
    }
)

INPUT = pa.schema(
    [
        *_PLANNED,
        pa.field("image", pa.binary()),
        FRAMES.schema.field("sectors"),
        pa.field(
            "neighbours", pa.list_(pa.struct({"region_id": pa.string(), "mask": REGIONS.schema.field("mask").type}))
        ),
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
        accepted: how many structures of frames are left alone because their masks are accepted.
    """

    parts: Sequence[Part]
    unknown_places: Mapping[str, int]
    without_plane: int
    accepted: int


@contextmanager
def plan(
    store: TableStore, vocabulary: Vocabulary, *, prefix: str, structures: Sequence[str] | None, limit: int | None
) -> Iterator[Plan]:
    """The parts of a run: one for each part of ``frames``. They can be loaded inside the ``with`` block only.

    Args:
        prefix: of the names of the backend's parts.
        structures: what to propose; None for all structures of each frame's plane.
        limit: frames at most, of parts of which the backend has proposed nothing yet; None for all.
    """
    with connect() as database, handoff_file(store.folder(REGIONS)) as path:
        _make_views(database, store, vocabulary, structures)
        database.register("places", find_places(database))
        database.execute(_WANTED)
        database.execute(_PLAN, {"prefix": prefix, "all": structures is None})
        if limit is not None:
            _keep_first(database, store, prefix, limit)
        planned = hand_off(database, [_ROWS], _PLANNED, path)
        ((without_plane, accepted),) = database.execute(_COUNTS).fetchall()
        unknown = dict(database.execute(_UNKNOWN).fetchall())
        parts = [Part(part.name, part.digest, partial(_load, store, part.load)) for part in planned]
        yield Plan(parts, unknown, without_plane, accepted)


def _make_views(
    database: duckdb.DuckDBPyConnection, store: TableStore, vocabulary: Vocabulary, structures: Sequence[str] | None
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
    statuses = ", ".join(f"'{status}'" for status in ACCEPTED_STATUSES)
    database.execute(_VIEWS.format(statuses=statuses))


_VIEWS = """
CREATE TEMP TABLE known_frames AS
SELECT f.frame_id, f.source_key, f.frame_index, f.frame_count, f.height, f.width, f.pixel_digest, f.plane,
    f.patient_key, field_of(f.sectors, f.height, f.width) AS field, f.filename AS file,
    coalesce(q.verdict <> 'reject', false) AS usable
FROM frames f LEFT JOIN qc q ON q.frame_id = f.frame_id AND parse_filename(q.filename) = parse_filename(f.filename);
CREATE TEMP TABLE accepted AS
SELECT r.region_id, r.frame_id, r.structure, r.bbox, r.filename AS file
FROM regions r JOIN known_frames f ON f.frame_id = r.frame_id AND f.pixel_digest = r.pixel_digest
WHERE r.status IN ({statuses})
"""
"""A mask of other pixels than the frame has now counts as none, as in a dataset."""

_WANTED = """
CREATE TEMP TABLE wanted AS
SELECT f.frame_id, f.source_key, f.frame_index, f.frame_count, v.structure, v.place,
    p.typical, p.wide, p.origin, a.frame_id IS NOT NULL AS done
FROM known_frames f
JOIN vocabulary v ON v.plane = f.plane
LEFT JOIN places p ON p.plane = f.plane AND p.structure = v.structure
LEFT JOIN (SELECT DISTINCT frame_id, structure FROM accepted) a
    ON a.frame_id = f.frame_id AND a.structure = v.structure
WHERE f.usable
"""

_PLAN = """
CREATE TEMP TABLE planned AS
WITH near AS (
    SELECT w.frame_id, w.structure, abs(w.frame_index - f.frame_index)::INTEGER AS distance, a.region_id, a.file,
        row_number() OVER (PARTITION BY w.frame_id, w.structure
                           ORDER BY abs(w.frame_index - f.frame_index), a.region_id) AS nth
    FROM wanted w
    JOIN known_frames f ON f.source_key = w.source_key AND f.frame_id <> w.frame_id
    JOIN accepted a ON a.frame_id = f.frame_id AND a.structure = w.structure
    WHERE NOT w.done AND w.frame_count > 1
), requested AS (
    SELECT w.frame_id, list({'structure': w.structure, 'typical': w.typical, 'wide': w.wide, 'origin': w.origin,
        'region_id': n.region_id, 'region_file': n.file, 'distance': n.distance} ORDER BY w.place) AS requests
    FROM wanted w LEFT JOIN near n ON n.frame_id = w.frame_id AND n.structure = w.structure AND n.nth = 1
    WHERE NOT w.done
    GROUP BY w.frame_id
), kept AS (
    SELECT r.frame_id, list(r.region_id ORDER BY r.region_id) AS kept_ids
    FROM regions r
    JOIN known_frames f ON f.frame_id = r.frame_id AND f.pixel_digest = r.pixel_digest
    WHERE NOT $all AND starts_with(parse_filename(r.filename), 'part-' || $prefix) AND f.usable
        AND r.structure NOT IN (SELECT structure FROM vocabulary)
        AND NOT EXISTS (SELECT 1 FROM accepted a WHERE a.frame_id = r.frame_id AND a.structure = r.structure)
    GROUP BY r.frame_id
)
SELECT $prefix || parse_filename(f.file, true)[6:] AS part, f.source_key, f.frame_index, f.frame_id, f.pixel_digest,
    f.file AS frames_file, f.field, coalesce(q.requests, []) AS requests, coalesce(k.kept_ids, []) AS kept_ids
FROM known_frames f LEFT JOIN requested q USING (frame_id) LEFT JOIN kept k USING (frame_id)
WHERE q.frame_id IS NOT NULL OR k.frame_id IS NOT NULL
"""

_ROWS = "SELECT * FROM planned ORDER BY part, source_key, frame_index"

_COUNTS = """
SELECT (SELECT count(*) FROM known_frames WHERE usable AND plane IS NULL), (SELECT count(*) FROM wanted WHERE done)
"""

_UNKNOWN = """
SELECT r.structure, count(*) FROM (SELECT unnest(requests) AS r FROM planned)
WHERE r.typical IS NULL AND r.region_id IS NULL GROUP BY ALL ORDER BY count(*) DESC, r.structure
"""


def _keep_first(database: duckdb.DuckDBPyConnection, store: TableStore, prefix: str, limit: int) -> None:
    """Leave the first frames of parts that are not there yet, so that trying a backend out loses nothing."""
    there = [part_name(path) for path in store.paths(REGIONS) if part_name(path).startswith(prefix)]
    database.execute("DELETE FROM planned WHERE list_contains($there, part)", {"there": there})
    database.execute(
        "DELETE FROM planned WHERE frame_id NOT IN "
        "(SELECT frame_id FROM planned ORDER BY part, source_key, frame_index LIMIT $limit)",
        {"limit": limit},
    )


def _load(store: TableStore, load: Callable[[], pa.Table]) -> pa.Table:
    """The stage's input: the frames that were planned, with their pixels and masks; called in the worker."""
    rows = load().to_pylist()
    files = {row["frames_file"] for row in rows}
    ids = {row["frame_id"] for row in rows}
    images = {
        found["frame_id"]: found
        for file in sorted(files)
        for found in store.find_rows(store.path(FRAMES, part_name(file)), FRAMES, ids, ["image", "sectors"])
    }
    masks = _masks(store, rows)
    kept = {row["region_id"]: row for row in _kept(store, rows)}
    for row in rows:
        found = images[row["frame_id"]]
        wanted = [request["region_id"] for request in row["requests"] if request["region_id"] is not None]
        row |= {
            "image": found["image"]["bytes"],
            "sectors": found["sectors"],
            "neighbours": [{"region_id": key, "mask": masks[key]} for key in wanted if key in masks],
            "kept": [kept[key] for key in row["kept_ids"] if key in kept],
        }
    return pa.Table.from_pylist(rows, schema=INPUT)


def _masks(store: TableStore, rows: Sequence[Mapping[str, object]]) -> dict[str, object]:
    """The masks of neighbouring frames, by region."""
    by_file: dict[str, set[str]] = {}
    for row in rows:
        for request in row["requests"]:  # type: ignore[attr-defined]
            if request["region_id"] is not None:
                by_file.setdefault(request["region_file"], set()).add(request["region_id"])
    return {
        found["region_id"]: found["mask"]
        for file, ids in sorted(by_file.items())
        for found in store.find_rows(store.path(REGIONS, part_name(file)), REGIONS, ids, ["mask"])
    }


def _kept(store: TableStore, rows: Sequence[Mapping[str, object]]) -> Iterator[dict[str, object]]:
    """The rows of earlier proposals that stay."""
    ids = {key for row in rows for key in row["kept_ids"]}  # type: ignore[attr-defined]
    if not ids:
        return
    columns = [name for name in REGIONS.schema.names if name != REGIONS.key]
    for path in store.paths(REGIONS):
        yield from store.find_rows(path, REGIONS, ids, columns)

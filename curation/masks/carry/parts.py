"""What there is to carry: one part for every part of ``frames`` that has cines with accepted masks."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence, Set
from functools import partial
from operator import itemgetter
from pathlib import Path
from typing import Any

import pyarrow as pa

from sono.curation.masks.decisions import ACCEPTED, ACCEPTED_BY_PERSON
from sono.manifests.query import connect, view_table
from sono.manifests.schemas import FRAMES, REGIONS
from sono.manifests.stages import Part
from sono.manifests.store import TableStore, part_name

from .stage import INPUT, SOURCE, CarryStage

SCOPE = "carry"
_ROWS_AT_ONCE = 10_000
_GONE = "carry-gone"  # the part of decided regions whose frames are gone


def carry_parts(store: TableStore, structures: Sequence[str] | None) -> Iterator[Part]:
    """Stale when frames, or decisions upon masks of their cines, change.

    Decided regions of this stage's own table are part of the input, and are kept: a run never removes a decision.
    Each part holds the ids of its own: whoever only asks for digests has one part in memory.
    """
    fingerprints = {name: info.fingerprint for name, info in store.parts(FRAMES).items()}
    for path, rows in _decided(store):
        # Without paths: a workspace that was moved is not stale.
        facts = [{name: value for name, value in row.items() if not name.endswith("_path")} for row in rows]
        name = f"carry-{part_name(path)}" if path else _GONE
        fingerprint = fingerprints[part_name(path)] if path else None
        digest = hashlib.sha256(json.dumps([fingerprint, facts]).encode()).hexdigest()
        yield Part(name, digest, partial(_load, store, name, path, rows, structures))


def _decided(store: TableStore) -> Iterator[tuple[str | None, list[dict[str, Any]]]]:
    """Every region that somebody decided upon, of cines with one to carry; and all that this stage once proposed.

    They are together with the others of the same part of ``frames``; of regions whose frames are gone, that is None.
    """
    own = [
        str(store.path(REGIONS, name)) for name, info in store.parts(REGIONS).items() if info.stage == CarryStage.name
    ]
    with connect() as database:
        view_table(database, store, FRAMES)
        view_table(database, store, REGIONS)
        batches = database.sql(_DECIDED, params={"own": own}).to_arrow_reader(_ROWS_AT_ONCE)
        rows = itertools.chain.from_iterable(batch.to_pylist() for batch in batches)
        for path, of_part in itertools.groupby(rows, key=itemgetter("frames_path")):
            yield path, list(of_part)


_DECIDED = f"""
WITH cine_frames AS (
    SELECT frame_id, source_key, filename AS frames_path FROM frames WHERE frame_count > 1
), decided AS (
    SELECT region_id, frame_id, structure, status, source, pixel_digest, md5(mask.counts) AS mask,
        {ACCEPTED_BY_PERSON} AS anchor, {ACCEPTED} AS accepted, updated_at::VARCHAR AS updated_at,
        list_contains($own, filename) AS own, filename AS region_path
    FROM regions WHERE status <> 'proposed'
    -- A run that was ended between writing and removing has left rows in two parts.
    QUALIFY row_number() OVER (PARTITION BY region_id ORDER BY own DESC, region_path) = 1
), cines AS (
    SELECT DISTINCT source_key FROM decided JOIN cine_frames USING (frame_id) WHERE anchor OR own
)
SELECT d.*, f.source_key, f.frames_path
FROM decided d LEFT JOIN cine_frames f USING (frame_id)
WHERE f.source_key IN (FROM cines) OR (own AND f.source_key IS NULL)
ORDER BY frames_path, source_key, region_id
"""


def _load(
    store: TableStore,
    name: str,
    path: str | None,
    rows: Sequence[Mapping[str, Any]],
    structures: Sequence[str] | None,
) -> pa.Table:
    """The stage's input: one row per cine."""
    if path is None:
        kept = _regions(store, rows)
        return pa.Table.from_pylist([{"kept": kept, "anchors": [], "settled": []}], schema=INPUT)
    others = _proposals_of_others(store, name, structures)
    cines: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        cines.setdefault(row["source_key"], []).append(row)
    frames = store.read(FRAMES, part_name(path), ["source_key", "frame_id", "frame_index"]).to_pylist()
    table = []
    for source_key, decided in cines.items():
        ids = {frame["frame_id"] for frame in frames if frame["source_key"] == source_key}
        anchors = [row for row in _anchors(decided) if structures is None or row["structure"] in structures]
        kept = _regions(store, [row for row in decided if row["own"]])
        kept_ids = {region["region_id"] for region in kept}
        kept += [row for row in others if row["frame_id"] in ids and row["region_id"] not in kept_ids]
        table.append(
            {
                "source_key": source_key,
                "frames_path": path,
                "frame_ids": sorted(ids),
                "anchors": _regions(store, anchors),
                "settled": [{"frame_id": row["frame_id"], "structure": row["structure"]} for row in _settled(decided)],
                "kept": kept,
            }
        )
    return pa.Table.from_pylist(table, schema=INPUT)


def _anchors(decided: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The masks to carry: of several of one structure in one frame, that of the latest decision, edited ones first."""
    best: dict[tuple[str, str], Mapping[str, Any]] = {}
    for row in decided:
        key = row["frame_id"], row["structure"]
        if row["anchor"] and (key not in best or _rank(row) > _rank(best[key])):
            best[key] = row
    return list(best.values())


def _rank(row: Mapping[str, Any]) -> tuple[bool, str, str]:
    return row["status"] == "edited", row["updated_at"] or "", row["region_id"]


def _settled(decided: Sequence[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    """Frames and structures that have an accepted mask, or of which a person rejected the carried one."""
    return (row for row in decided if row["accepted"] or row["source"] == SOURCE)


def _regions(store: TableStore, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Whole rows of ``regions``, each once."""
    wanted: dict[str, Set[str]] = {}
    for row in rows:
        wanted[row["region_path"]] = wanted.get(row["region_path"], frozenset()) | {row["region_id"]}
    columns = [name for name in REGIONS.schema.names if name != REGIONS.key]
    found = (
        region for path, ids in sorted(wanted.items()) for region in store.find_rows(Path(path), REGIONS, ids, columns)
    )
    return list({region["region_id"]: region for region in found}.values())


def _proposals_of_others(store: TableStore, name: str, structures: Sequence[str] | None) -> list[dict[str, Any]]:
    """What an earlier run proposed of structures that this one is not about."""
    if structures is None or not store.path(REGIONS, name).exists():
        return []
    return [row for row in store.read(REGIONS, name).to_pylist() if row["structure"] not in structures]

"""What there is to check: one part for every part of ``frames`` that has masks."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from functools import partial
from typing import Any

import pyarrow as pa

from sono.manifests.fingerprints import part_digest
from sono.manifests.query import connect, view_table
from sono.manifests.schemas import FRAMES, REGIONS
from sono.manifests.stages import Part
from sono.manifests.store import TableStore, part_name

from .stage import INPUT


def check_parts(store: TableStore) -> list[Part]:
    """Stale when the frames change, or any part that has masks of them."""
    if not store.paths(REGIONS):
        return []
    frames = store.parts(FRAMES)
    digests = {part_name(path): part_digest(path) for path in store.paths(REGIONS)}
    with connect() as database:
        view_table(database, store, FRAMES)
        view_table(database, store, REGIONS)
        pairs = database.sql(_PAIRS).fetchall()
    by_part: dict[str, list[str]] = {}
    for frames_path, regions_path in pairs:
        by_part.setdefault(part_name(frames_path), []).append(part_name(regions_path))
    return [
        Part(
            name,
            hashlib.sha256(
                json.dumps([frames[name].fingerprint, [digests[each] for each in of_regions]]).encode()
            ).hexdigest(),
            partial(_load, store, name, of_regions),
        )
        for name, of_regions in by_part.items()
    ]


_PAIRS = """
SELECT DISTINCT f.filename, r.filename FROM regions r JOIN frames f USING (frame_id)
WHERE r.status <> 'rejected' ORDER BY ALL
"""


def _load(store: TableStore, name: str, of_regions: Sequence[str]) -> pa.Table:
    """The stage's input: frames with their masks, which are small next to the images that are not read."""
    columns = [column for column in INPUT.names if column != "regions"]
    frames = {frame["frame_id"]: frame for frame in store.read(FRAMES, name, columns).to_pylist()}
    by_frame: dict[str, list[dict[str, Any]]] = {}
    for part in of_regions:
        found = store.read(REGIONS, part, ["region_id", "frame_id", "structure", "mask", "status"])
        for region in found.to_pylist():
            if region.pop("status") != "rejected" and region["frame_id"] in frames:
                by_frame.setdefault(region.pop("frame_id"), []).append(region)
    rows = [
        {**frames[frame_id], "regions": sorted(regions, key=lambda region: str(region["region_id"]))}
        for frame_id, regions in sorted(by_frame.items())
    ]
    return pa.Table.from_pylist(rows, schema=INPUT)

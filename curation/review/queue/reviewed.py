"""What reviewing has said so far: masks as they were before anybody decided, and whether they turned out to be bad.

Their signs are measured again, on the masks that were asked about: what the tables hold is what people made of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from sono.curation.cleaning.sectors.geometry import Sector
from sono.curation.masks.checks.measure import measure
from sono.curation.review.mask_iou import mask_iou
from sono.manifests.journal import Journal
from sono.manifests.journal_events import DECIDING
from sono.manifests.store import write_atomically

from .features import MEASURED, SHAPE, signs_of
from .order import Reviewed

if TYPE_CHECKING:
    import duckdb

ALIKE_IOU = 0.9
"""An edited mask was good if what was changed leaves at least this IoU of before and after."""

MOST_EVENTS, MOST_MASKS = 6000, 2000
"""The latest that are learned from: the order needs no more, and it should be there in seconds."""


@dataclass(frozen=True)
class Decided:
    """A mask as it was before anybody decided on it: a row of ``regions``, as event ``n`` of the journal keeps it."""

    n: int
    row: Mapping[str, Any]
    bad: bool


def decided_masks(journal: Journal) -> list[Decided]:
    """The latest decisions on masks that were there before, each mask once; undone decisions count as none."""
    last = journal.last()
    originals: dict[str, tuple[int, Mapping[str, Any]]] = {}
    standing: dict[str, Mapping[str, Any]] = {}
    for event in journal.events(after=max(last - MOST_EVENTS, 0)):
        if event.region_id is None or event.reading not in DECIDING:
            continue
        standing.pop(event.region_id, None)  # so that the dictionary is in the order of the latest decisions
        if event.before is not None and event.before.get("updated_at") is None and event.undoes is None:
            originals[event.region_id] = event.n, event.before
        if event.stands is not None and event.after is not None:
            standing[event.region_id] = event.after
    latest = [region_id for region_id in standing if region_id in originals][-MOST_MASKS:]
    return [
        Decided(n, row, is_bad(row, standing[str(row["region_id"])]))
        for n, row in (originals[region_id] for region_id in latest)
    ]


def is_bad(before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    """Whether a decision says that the mask before it was bad; both are rows of ``regions``."""
    if after["status"] == "rejected" or after["structure"] != before["structure"]:
        return True
    return after["status"] == "edited" and mask_iou(before["mask"], after["mask"]) < ALIKE_IOU


def reviewed_signs(database: duckdb.DuckDBPyConnection, decided: Sequence[Decided], cache: Path) -> Reviewed:
    """The signs of decided masks, measured on what was asked about.

    Other masks of their frames are taken as they were before they were decided on, too, rejected ones as well: that is
    what the signs of a mask are measured against while nobody has decided on anything in its frame.

    Args:
        database: after ``features.prepare``.
        cache: a file that keeps what was measured; it may be deleted at any time.
    """
    known = _read(cache)
    missing = {str(each.row["region_id"]): each for each in decided if each.n not in known}
    numbers = {region_id: each.n for region_id, each in missing.items()}
    fresh = {numbers[row["region_id"]]: row for row in _measured_rows(database, missing)} if missing else {}
    rows = {each.n: row for each in decided if (row := fresh.get(each.n) or known.get(each.n)) is not None}
    if fresh:
        _keep(cache, rows)
    database.register("measured", pa.Table.from_pylist(list(rows.values()), schema=MEASURED))
    database.execute(_REVIEWED)
    database.unregister("measured")
    signs = signs_of(database, "reviewed", ["patient_key"])
    by_id = {str(each.row["region_id"]): each.bad for each in decided}
    return Reviewed(signs, np.array([by_id[key] for key in signs.keys["region_id"].to_pylist()], np.bool_))


_REVIEWED = f"""
CREATE OR REPLACE TEMP TABLE reviewed AS
SELECT r.*, f.frame, f.patient_key, {SHAPE}
FROM measured r JOIN frame_fields f USING (frame_id, pixel_digest)
"""


def _read(cache: Path) -> dict[int, dict[str, Any]]:
    """What was measured earlier, by the number of the event; nothing if it cannot be read."""
    try:
        with pa.memory_map(str(cache)) as file:
            table = pa.ipc.open_file(file).read_all()
        if table.schema.names != ["n", *MEASURED.names]:
            return {}
        return {row.pop("n"): row for row in table.to_pylist()}
    except (OSError, pa.ArrowInvalid):
        return {}


def _keep(cache: Path, rows: Mapping[int, Mapping[str, Any]]) -> None:
    schema = pa.schema([pa.field("n", pa.int64()), *MEASURED])
    table = pa.Table.from_pylist([{"n": n, **row} for n, row in rows.items()], schema=schema)

    def write(file: Any) -> None:
        with pa.ipc.new_file(file, schema) as writer:
            writer.write_table(table)

    write_atomically(cache, write)


def _measured_rows(database: duckdb.DuckDBPyConnection, by_id: Mapping[str, Decided]) -> list[dict[str, Any]]:
    """Rows of ``MEASURED``; none for masks whose frame is not there any more, or has other pixels."""
    frame_ids = sorted({str(each.row["frame_id"]) for each in by_id.values()})
    frames = {
        frame["frame_id"]: frame
        for frame in database.sql(_FRAMES, params={"ids": frame_ids}).to_arrow_table().to_pylist()
    }
    in_frame: dict[str, dict[str, Mapping[str, Any]]] = {frame_id: {} for frame_id in frames}
    for region in database.sql(_REGIONS, params={"ids": frame_ids}).to_arrow_table().to_pylist():
        if region["frame_id"] in frames:
            in_frame[region["frame_id"]][region["region_id"]] = region
    usable: set[str] = set()
    for region_id, each in by_id.items():
        frame = frames.get(each.row["frame_id"])
        if frame is not None and frame["pixel_digest"] == each.row["pixel_digest"]:
            in_frame[frame["frame_id"]][region_id] = each.row
            usable.add(region_id)
    return [
        row
        for frame_id, regions in sorted(in_frame.items())
        for row in _measured(frames[frame_id], [regions[key] for key in sorted(regions)], usable)
    ]


_FRAMES = """
SELECT frame_id, height, width, sectors, pixel_digest FROM frames WHERE frame_id IN (SELECT unnest($ids))
"""
_REGIONS = """
SELECT region_id, frame_id, structure, mask FROM regions
WHERE frame_id IN (SELECT unnest($ids)) AND source <> 'manual'
"""


def _measured(
    frame: Mapping[str, Any], regions: Sequence[Mapping[str, Any]], decided: Set[str]
) -> Iterator[dict[str, Any]]:
    """The rows of a frame's decided masks, held against all of its masks."""
    asked = {str(region["region_id"]): region for region in regions if region["region_id"] in decided}
    sectors = [Sector.from_row(sector) for sector in frame["sectors"] or []]
    measured: list[Any] = measure(regions, frame["height"], frame["width"], sectors, wanted=asked.keys())
    others: dict[str, list[float]] = {}
    for row in measured:  # each pair is in one of both rows
        for pair in row["agreement"]:
            for region_id in (row["region_id"], pair["region_id"]):
                others.setdefault(region_id, []).append(pair["iou"])
    for row in measured:
        key = row["region_id"]
        if key in asked:
            yield {
                **{name: asked[key][name] for name in _OF_ROW},
                **{name: row[name] for name in ("specks", "holes", "outside_px")},
                "overlap": max((each["share"] for each in row["overlaps"]), default=0.0),
                "others": float(np.mean(others[key])) if key in others else None,
            }


_OF_ROW = ("region_id", "frame_id", "pixel_digest", "structure", "source", "area_px", "bbox", "scores")

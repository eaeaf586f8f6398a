"""The frames of a shard with their regions and captions, read from the workspace's tables a few at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow.compute as pc

from sono.manifests.schemas import ACCEPTED_STATUSES, CAPTIONS, FRAMES, REGIONS
from sono.manifests.store import TableStore

from .cut import Shard

_FRAME_COLUMNS = [
    *("image", "height", "width", "patient_key", "study_key"),
    *("center", "manufacturer", "model", "sectors", "pixel_mm_x", "pixel_mm_y", "pixel_digest"),
]


def joined_rows(store: TableStore, shard: Shard) -> Iterator[dict[str, Any]]:
    """The frames of a shard in order, each with ``regions`` and ``caption``, in the workspace's keys and pixels."""
    for name in pc.unique(shard.frames["part"]).to_pylist():
        rows = shard.frames.filter(pc.equal(shard.frames["part"], name)).to_pylist()
        chosen = {row["frame_id"]: row for row in rows}
        regions = _regions_of(store, shard.region_parts[name], chosen)
        captions = _captions_of(store, shard.caption_parts[name], chosen)
        for frame in store.find_rows(store.path(FRAMES, name), FRAMES, chosen.keys(), _FRAME_COLUMNS):
            frame_id = frame["frame_id"]
            frame |= {"plane": chosen[frame_id]["plane"], "ga_days": chosen[frame_id]["ga_days"]}
            frame |= captions[frame_id, None]
            frame["regions"] = [
                {**region, **captions[frame_id, region_id]}
                for region_id, region in regions.get((frame_id, frame.pop("pixel_digest")), ())
                if (frame_id, region_id) in captions
            ]
            yield frame


def _regions_of(
    store: TableStore, region_parts: Sequence[str], frames: Mapping[str, object]
) -> dict[tuple[str, str], list[tuple[str, dict[str, object]]]]:
    """The accepted regions by frame and by the pixels they were drawn on, which may not be the frame's any more."""
    columns = ["region_id", "frame_id", "pixel_digest", "structure", "mask", "bbox", "area_px", "source", "status"]
    found: dict[tuple[str, str], list[tuple[str, dict[str, object]]]] = {}
    for name in region_parts:
        for region in store.read(REGIONS, name, columns).to_pylist():
            status = region.pop("status")
            if region["frame_id"] in frames and status in ACCEPTED_STATUSES:
                if status == "edited":
                    region["source"] = "manual"  # a person drew what is there now, whatever proposed it
                key = region.pop("frame_id"), region.pop("pixel_digest")
                found.setdefault(key, []).append((region.pop("region_id"), region))
    for regions in found.values():
        regions.sort(key=lambda item: (str(item[1]["structure"]), item[0]))
    return found


def _captions_of(
    store: TableStore, caption_parts: Sequence[str], frames: Mapping[str, object]
) -> dict[tuple[str, str | None], dict[str, object]]:
    """Each caption and its id, by frame and region; the region is None for a caption of the whole frame."""
    columns = ["frame_id", "region_id", "text", "caption_id"]
    return {
        (row["frame_id"], row["region_id"]): {"caption": row["text"], "caption_id": row["caption_id"]}
        for name in caption_parts
        for row in store.read(CAPTIONS, name, columns).to_pylist()
        if row["frame_id"] in frames
    }

"""The frames of a shard with their regions and captions, read from the workspace's tables a few at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from sono.manifests.schemas import ACCEPTED_STATUSES, CAPTIONS, FRAMES, REGIONS
from sono.manifests.store import TableStore

from .cut import Shard

_FRAME_COLUMNS = [
    *("image", "height", "width", "patient_key", "study_key"),
    *("center", "manufacturer", "model", "sectors", "pixel_mm_x", "pixel_mm_y", "pixel_digest"),
]


@dataclass(frozen=True)
class JoinedFrames:
    """A few frames: what is said of them, and their PNGs.

    Attributes:
        images: Arrow's binary values, those of other frames among them.
        numbers: which of ``images`` is each row's.
    """

    rows: Sequence[dict[str, Any]]
    images: pa.Array
    numbers: Sequence[int]


def joined_frames(store: TableStore, shard: Shard) -> Iterator[JoinedFrames]:
    """The frames of a shard in order, each with ``regions`` and ``caption``, in the workspace's keys and pixels."""
    for name in pc.unique(shard.frames["part"]).to_pylist():
        in_part = shard.frames.filter(pc.equal(shard.frames["part"], name))
        chosen = {row["frame_id"]: row for row in in_part.to_pylist()}
        frame_ids = in_part["frame_id"].combine_chunks()
        regions = _regions_of(store, shard.region_parts[name], frame_ids)
        captions = _captions_of(store, shard.caption_parts[name], frame_ids)
        for batch, found in store.find_batches(store.path(FRAMES, name), FRAMES, chosen.keys(), _FRAME_COLUMNS):
            frames = batch.drop_columns(["image"]).take(pa.array(found)).to_pylist()
            for frame in frames:
                frame_id = frame["frame_id"]
                frame |= {"plane": chosen[frame_id]["plane"], "ga_days": chosen[frame_id]["ga_days"]}
                frame |= captions[frame_id, None]
                frame["regions"] = [
                    {**region, **captions[frame_id, region_id]}
                    for region_id, region in regions.get((frame_id, frame.pop("pixel_digest")), ())
                    if (frame_id, region_id) in captions
                ]
            images = pc.struct_field(batch["image"], "bytes")
            if 2 * len(found) < batch.num_rows:  # those of other frames would stay in memory with these few
                images, found = images.take(pa.array(found)), list(range(len(found)))
            yield JoinedFrames(frames, images, found)


def _regions_of(
    store: TableStore, region_parts: Sequence[str], frame_ids: pa.Array
) -> dict[tuple[str, str], list[tuple[str, dict[str, object]]]]:
    """The accepted regions by frame and by the pixels they were drawn on, which may not be the frame's any more."""
    columns = ["region_id", "frame_id", "pixel_digest", "structure", "mask", "bbox", "area_px", "source", "status"]
    found: dict[tuple[str, str], list[tuple[str, dict[str, object]]]] = {}
    for name in region_parts:
        rows = store.read(REGIONS, name, columns)
        accepted = pc.is_in(rows["status"], pa.array(ACCEPTED_STATUSES))
        for region in rows.filter(pc.and_(accepted, pc.is_in(rows["frame_id"], frame_ids))).to_pylist():
            if region.pop("status") == "edited":
                region["source"] = "manual"  # a person drew what is there now, whatever proposed it
            key = region.pop("frame_id"), region.pop("pixel_digest")
            found.setdefault(key, []).append((region.pop("region_id"), region))
    for regions in found.values():
        regions.sort(key=lambda item: (str(item[1]["structure"]), item[0]))
    return found


def _captions_of(
    store: TableStore, caption_parts: Sequence[str], frame_ids: pa.Array
) -> dict[tuple[str, str | None], dict[str, object]]:
    """Each caption and its id, by frame and region; the region is None for a caption of the whole frame."""
    columns = ["frame_id", "region_id", "text", "caption_id"]
    found: dict[tuple[str, str | None], dict[str, object]] = {}
    for name in caption_parts:
        rows = store.read(CAPTIONS, name, columns)
        for row in rows.filter(pc.is_in(rows["frame_id"], frame_ids)).to_pylist():
            found[row["frame_id"], row["region_id"]] = {"caption": row["text"], "caption_id": row["caption_id"]}
    return found

"""The shards of a dataset: which frames each holds, and their regions and captions joined."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from sono.manifests.dataset_keys import DatasetKeys
from sono.manifests.query import query
from sono.manifests.schemas import ACCEPTED_STATUSES, CAPTIONS, DATASET, FRAMES, REGIONS, SPLITS, TableSpec
from sono.manifests.stages import Part
from sono.manifests.store import TableStore
from sono.manifests.vocabulary import Vocabulary

from .accepted_regions import accepted_parts

_SHARD_ROWS = 1024


def cut_shards(
    store: TableStore,
    selection: pa.Table,
    splits: Mapping[str, str],
    vocabulary: Vocabulary,
    keys: DatasetKeys,
) -> list[Part]:
    """One part per shard. Frames stay in the order of the tables, so that a shard reads from few parts of them."""
    labels = {plane: index for index, plane in enumerate(vocabulary.plane_ids)}
    rows = selection.append_column("split", pa.array([splits[key] for key in selection["patient_key"].to_pylist()]))
    plane = pa.array([labels.get(name) for name in rows["plane"].to_pylist()], pa.int64())
    rows = rows.set_column(rows.schema.get_field_index("plane"), "plane", plane)
    region_parts = _parts_of(store, REGIONS, accepted_parts(store))
    caption_parts = _parts_of(store, CAPTIONS, list(store.parts(CAPTIONS)))
    fingerprints = {
        (table.name, name): info.content_id
        for table in (FRAMES, CAPTIONS, REGIONS)
        for name, info in store.parts(table).items()
    }
    parts = []
    for split in SPLITS:
        in_split = rows.filter(pc.equal(rows["split"], split))
        count = math.ceil(in_split.num_rows / _SHARD_ROWS)
        for number in range(count):
            shard = in_split.slice(number * _SHARD_ROWS, _SHARD_ROWS).select(["part", "frame_id", "plane", "ga_days"])
            names = pc.unique(shard["part"]).to_pylist()
            regions = sorted({name for part in names for name in region_parts.get(part, ())})
            captions = sorted({name for part in names for name in caption_parts.get(part, ())})
            inputs = [fingerprints[FRAMES.name, name] for name in names]
            inputs += [fingerprints[CAPTIONS.name, name] for name in captions]
            inputs += [fingerprints[REGIONS.name, name] for name in regions]
            digest = keys.content(json.dumps([inputs, shard.to_pylist()]))
            name = f"{split}-{number:05d}-of-{count:05d}"
            parts.append(Part(name, digest, partial(_load, store, shard.combine_chunks(), regions, captions)))
    return parts


def _parts_of(store: TableStore, table: TableSpec, names: Sequence[str]) -> dict[str, list[str]]:
    """For each part of ``frames``, those of ``names``, parts of regions or captions, that are about its frames."""
    if not names:
        return {}
    rows = query(
        """
        SELECT DISTINCT parse_filename(f.filename, true)[6:] AS part, parse_filename(t.filename, true)[6:] AS other
        FROM read_parquet($others, filename = true) t JOIN read_parquet($frames, filename = true) f USING (frame_id)
        ORDER BY ALL
        """,
        {
            "others": [str(store.path(table, name)) for name in names],
            "frames": [str(path) for path in store.paths(FRAMES)],
        },
    )
    others: dict[str, list[str]] = {}
    for row in rows.to_pylist():
        others.setdefault(row["part"], []).append(row["other"])
    return others


_FRAME_COLUMNS = [
    *("frame_id", "image", "height", "width", "patient_key", "study_key", "source_key", "frame_index"),
    *("center", "manufacturer", "model", "sectors", "pixel_mm_x", "pixel_mm_y", "pixel_digest"),
]


def _load(store: TableStore, shard: pa.Table, region_parts: Sequence[str], caption_parts: Sequence[str]) -> pa.Table:
    """The rows of a shard with everything joined; called in the worker."""
    rows: list[dict[str, Any]] = []
    chosen = {row["frame_id"]: row for row in shard.to_pylist()}
    regions = _regions_of(store, region_parts, chosen)
    captions = _captions_of(store, caption_parts, chosen)
    for name in pc.unique(shard["part"]).to_pylist():
        frames = store.read(FRAMES, name, _FRAME_COLUMNS)
        wanted = pc.is_in(frames["frame_id"], value_set=pa.array(list(chosen), pa.string()))
        for frame in frames.filter(wanted).to_pylist():
            frame_id = frame["frame_id"]
            frame |= {"plane": chosen[frame_id]["plane"], "ga_days": chosen[frame_id]["ga_days"]}
            frame |= captions[frame_id, None]
            frame["regions"] = [
                {**region, **captions[frame_id, region_id]}
                for region_id, region in regions.get((frame_id, frame["pixel_digest"]), ())
                if (frame_id, region_id) in captions
            ]
            rows.append(frame)
    return pa.Table.from_pylist(rows, schema=_JOINED)


_JOINED = pa.schema(
    [
        *(field for field in DATASET.schema if field.name != "pixel_mm"),
        *(
            FRAMES.schema.field(name)
            for name in ("height", "width", "source_key", "frame_index", "pixel_mm_x", "pixel_mm_y")
        ),
    ]
)


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

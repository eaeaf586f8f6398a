"""Cuts a dataset into shards: which frames each holds, and which parts of the workspace's tables they are read from.

Cuts are content-defined: where a shard ends depends on the keys of the frames there, so a frame more or less changes
the shard that it is in and no other.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from sono.curation.dataset.accepted_regions import accepted_parts
from sono.manifests.query import query
from sono.manifests.schemas import CAPTIONS, FRAMES, REGIONS, SPLITS, TableSpec
from sono.manifests.store import TableStore, damage_named
from sono.manifests.vocabulary import Vocabulary

from .rows import RowOptions

_MIN_SHARD_BYTES = 400 * 10**6
_MAX_SHARD_BYTES = 600 * 10**6
_END_ONE_IN = 256  # frames at which a shard may end, once it is large enough


@dataclass(frozen=True)
class Shard:
    """One file of every configuration.

    Attributes:
        name: of its files, ``train-00000``.
        digest: changes exactly when something that the shard is made from does.
        frames: part, frame_id, plane, ga_days, in the order of the shard.
        region_parts: by part of ``frames`` those of ``regions`` that are about its frames; ``caption_parts`` likewise.
    """

    name: str
    digest: str
    frames: pa.Table
    region_parts: Mapping[str, Sequence[str]]
    caption_parts: Mapping[str, Sequence[str]]


def cut_shards(
    store: TableStore, selection: pa.Table, splits: Mapping[str, str], vocabulary: Vocabulary, options: RowOptions
) -> list[Shard]:
    """The shards of a dataset, split by split; frames stay in the order of the tables.

    Args:
        selection: of ``select``; from here on its ``plane`` is the number of a class.
    """
    labels = {plane: index for index, plane in enumerate(vocabulary.plane_ids)}
    split_of = pa.array([splits[key] for key in selection["patient_key"].to_pylist()], pa.string())
    plane = pa.array([labels.get(name) for name in selection["plane"].to_pylist()], pa.int64())
    rows = selection.set_column(selection.schema.get_field_index("plane"), "plane", plane)
    region_parts = _parts_of(store, REGIONS, accepted_parts(store))
    caption_parts = _parts_of(store, CAPTIONS, list(store.parts(CAPTIONS)))
    fingerprints = {
        (table.name, name): info.content_id
        for table in (FRAMES, CAPTIONS, REGIONS)
        for name, info in store.parts(table).items()
    }
    png_bytes = _mean_image_bytes(store)
    shards = []
    for split in SPLITS:
        in_split = rows.filter(pc.equal(split_of, split))
        ends = _ends(in_split, png_bytes, options)
        for number, (start, end) in enumerate(zip([0, *ends], ends, strict=False)):
            frames = in_split.slice(start, end - start).select(["part", "frame_id", "plane", "ga_days"])
            names = pc.unique(frames["part"]).to_pylist()
            regions = {name: region_parts.get(name, ()) for name in names}
            captions = {name: caption_parts.get(name, ()) for name in names}
            inputs = [fingerprints[FRAMES.name, name] for name in names]
            for table, others in ((CAPTIONS, captions), (REGIONS, regions)):
                found = sorted({other for parts in others.values() for other in parts})
                inputs += [fingerprints[table.name, other] for other in found]
            digest = options.keys.content(json.dumps([inputs, frames.to_pylist()]))
            shards.append(Shard(f"{split}-{number:05d}", digest, frames.combine_chunks(), regions, captions))
    return shards


def _ends(rows: pa.Table, png_bytes: Mapping[str, float], options: RowOptions) -> list[int]:
    """Where shards end: after which number of rows."""
    ends: list[int] = []
    size = 0.0
    columns = (rows[name].to_pylist() for name in ("part", "frame_id", "height", "width"))
    for number, (part, frame_id, height, width) in enumerate(zip(*columns, strict=True)):
        may_end = size >= _MIN_SHARD_BYTES and is_end(options.keys.derive("frame", frame_id), _END_ONE_IN)
        if may_end or size >= _MAX_SHARD_BYTES:
            ends.append(number)
            size = 0.0
        size += png_bytes[part] * options.scale(height, width) ** 2 * options.image_format.size_of_png
    return [*ends, rows.num_rows] if rows.num_rows else []


def is_end(frame_id: str, one_in: int) -> bool:
    """Whether something may end before this frame, which one in so many frames allows."""
    return int(frame_id[:8], 16) % one_in == 0


def _mean_image_bytes(store: TableStore) -> dict[str, float]:
    """Of the images of each part of ``frames``, without reading them."""
    means = {}
    for name in store.parts(FRAMES):
        path = store.path(FRAMES, name)
        with damage_named(path):
            metadata = pq.read_metadata(path)
        groups = [metadata.row_group(index) for index in range(metadata.num_row_groups)]
        columns = [group.column(index) for group in groups for index in range(group.num_columns)]
        total = sum(column.total_compressed_size for column in columns if column.path_in_schema == "image.bytes")
        means[name] = total / max(1, metadata.num_rows)
    return means


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

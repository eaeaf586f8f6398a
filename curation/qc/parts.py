"""What quality control has to do: one part per part of ``frames``, with the duplicates of its frames."""

from __future__ import annotations

import hashlib
import json
from functools import partial

import pyarrow as pa

from sono.manifests.pulled import STAGE as PULLED
from sono.manifests.query import query
from sono.manifests.schemas import FRAMES
from sono.manifests.stages import Part
from sono.manifests.store import TableStore, part_name, read_info

Duplicate = tuple[str, str, str | None]
"""frame_id, duplicate_group, and the reason; None for the one frame of a group that is kept."""


def qc_parts(store: TableStore) -> list[Part]:
    """One part per part of ``frames``, stale when the frames or their duplicates change."""
    duplicates = _duplicates(store)
    parts = []
    for name, info in store.parts(FRAMES).items():
        in_part = duplicates.get(name, [])
        digest = hashlib.sha256(json.dumps([info.fingerprint, in_part]).encode()).hexdigest()
        parts.append(Part(name, digest, partial(_load, store, name, in_part)))
    return parts


def _duplicates(store: TableStore) -> dict[str, list[Duplicate]]:
    """Frames with equal pixels, by part name.

    Of a group from one patient, the frame with the lowest key is kept. A group that spans patients has at least one
    frame under the wrong name, and nobody knows which, so all of it goes to review.
    """
    paths = [str(path) for path in store.paths(FRAMES)]
    if not paths:
        return {}
    rows = query(
        """
        WITH grouped AS (
            SELECT parse_filename(filename, true) AS part, frame_id,
                   min(frame_id) OVER same AS first, count(*) OVER same AS n,
                   min(patient_key) OVER same <> max(patient_key) OVER same AS across
            FROM read_parquet($paths, filename = true)
            WINDOW same AS (PARTITION BY pixel_digest)
        )
        SELECT part, frame_id, first,
               CASE WHEN across THEN 'duplicate_across_patients' WHEN frame_id <> first THEN 'duplicate' END AS reason
        FROM grouped WHERE n > 1 ORDER BY part, frame_id
        """,
        {"paths": paths},
    ).to_pylist()
    by_part: dict[str, list[Duplicate]] = {}
    for row in rows:
        duplicate = (row["frame_id"], row["first"], row["reason"])
        by_part.setdefault(part_name(row["part"]), []).append(duplicate)
    return by_part


def _load(store: TableStore, name: str, duplicates: list[Duplicate]) -> pa.Table:
    """The stage's input: the frames of a part, each with its duplicate group and reason, and whether it was pulled."""
    columns = [
        *("frame_id", "source_key", "frame_index", "height", "width"),
        *("grey_histogram", "laplacian_energy", "cleaning_reasons"),
    ]
    frames = store.read(FRAMES, name, columns)
    pulled = read_info(store.path(FRAMES, name)).stage == PULLED
    groups = {frame_id: (group, reason) for frame_id, group, reason in duplicates}
    pairs = [groups.get(frame_id, (None, None)) for frame_id in frames["frame_id"].to_pylist()]
    return (
        frames.append_column("duplicate_group", pa.array([group for group, _ in pairs], pa.string()))
        .append_column("duplicate_reason", pa.array([reason for _, reason in pairs], pa.string()))
        .append_column("pulled", pa.array([pulled] * len(pairs), pa.bool_()))
    )

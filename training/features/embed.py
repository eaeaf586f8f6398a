"""Features of a dataset in a Parquet file."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sono.manifests.errors import UserError
from sono.manifests.outputs import refuse_inside_dataset
from sono.manifests.stages import Progress
from sono.manifests.store import write_atomically
from sono.training.data.dataset import Frames, open_split, read_description
from sono.training.data.visible_regions import are_visible, count_regions
from sono.training.model.transforms import PadToSquare
from sono.training.pretraining.failures import writing

from .encoder import Encoder
from .views import FrameViews

MASKS = ("none", "region")
FRAMES_PER_PART = 4096
METADATA = b"sono_embed"


def embed(
    run: Path,
    dataset: str,
    out: Path,
    *,
    split: str = "test",
    mask: str = "none",
    notice: Callable[[str], None] = print,
    progress: Callable[[Progress], None] = lambda _: None,
    frames_per_part: int = FRAMES_PER_PART,
) -> dict[str, Any]:
    """Write the features of a split to the Parquet file ``out``: one row per frame, or one row per region.

    Frames are processed in parts, which are kept beside ``out`` until all are complete; a killed run resumes with the
    part where it stopped. Memory does not grow with the dataset.

    Args:
        run: folder of the training run; its newest checkpoint is used.
        dataset: a folder that ``sono-curate build`` wrote, or a Hub id.
        split: of the dataset.
        mask: ``none``: frames through the mask of a whole image; ``region``: every region of every frame.
        frames_per_part: how many frames are in memory, and lost if the process is killed.

    Returns:
        How many rows and frames were written, how many frames have none, and the length of a feature vector.

    Raises:
        UserError: ``out`` is a folder, lies in a dataset, cannot be written, or exists and is not the result of this
            same call; the run has no checkpoint, the split is unknown or has no region, or a frame's image or mask is
            at fault.
    """
    assert mask in MASKS
    if out.is_dir():
        raise UserError("this is a folder", where=str(out), fix="name a file, such as features.parquet")
    refuse_inside_dataset(out)
    encoder = Encoder.load(run, notice)
    frames = open_split(read_description(dataset), split)
    chosen = _frames_with_views(frames, mask, encoder.transform)
    origin = {
        "checkpoint": encoder.checkpoint,
        "dataset": frames.description.identity,
        "split": split,
        "mask": mask,
        "frames_a_part": frames_per_part,
    }
    _refuse_other(out, origin)
    folder = out.absolute().with_name(f".tmp-{out.name}-{_digest(origin)}")
    starts = range(0, len(chosen), frames_per_part)
    for number, start in enumerate(starts, start=1):
        indices = chosen[start : start + frames_per_part]
        part = folder / f"part-{start:09d}.parquet"
        if not part.exists():  # a part gets its name only when it is complete
            _write_part(part, _features(encoder, frames, indices, mask), out)
        progress(Progress("embed", len(starts), number, start + len(indices), len(frames) - len(chosen)))
    with writing(out):
        rows = _join(folder, out, origin)
    shutil.rmtree(folder)
    return {
        "file": str(out),
        "rows": rows,
        "frames": len(chosen),
        "frames_without_rows": len(frames) - len(chosen),
        "dim": pq.read_schema(out).field("features").type.list_size,
        "origin": origin,
    }


def read_origin(file: Path) -> dict[str, Any]:
    """What a file of features says about its checkpoint and its dataset.

    Raises:
        UserError: ``embed`` did not write it.
    """
    try:
        origin: dict[str, Any] = json.loads((pq.read_schema(file).metadata or {})[METADATA])
    except (OSError, ValueError, KeyError) as error:
        raise UserError(
            "sono-train embed did not write this file", where=str(file), fix="make one with sono-train embed"
        ) from error
    return origin


def _refuse_other(out: Path, origin: Mapping[str, Any]) -> None:
    if not out.exists():
        return
    fix = "name another file, or delete this one first"
    try:
        found = read_origin(out)
    except UserError as error:
        raise UserError("this file exists, and sono-train embed did not write it", where=str(out), fix=fix) from error
    differing = [name for name in ("checkpoint", "dataset", "split", "mask") if found.get(name) != origin[name]]
    if differing:
        raise UserError(f"this file has the features of another {differing[0]}", where=str(out), fix=fix)


def _frames_with_views(frames: Frames, mask: str, transform: PadToSquare) -> np.ndarray[Any, np.dtype[np.int64]]:
    if mask == "none":
        return np.arange(len(frames))
    chosen = np.flatnonzero(count_regions(frames, transform)[0])
    if not len(chosen):
        raise UserError(
            f"no frame of the {frames.split} split has a region that the model can see",
            where=frames.description.source,
            fix="choose another split, or --mask none",
        )
    return chosen


def _features(encoder: Encoder, frames: Frames, indices: np.ndarray[Any, Any], mask: str) -> pa.Table:
    """The part's rows: features in the order of frames and of their regions."""
    views = FrameViews(frames, indices, [mask], encoder.transform)
    batches = encoder.batches("embed", views, 0, lambda _: None)
    features_VD = np.concatenate([encoder.view_features(batch, mask)[0].float().numpy() for batch in batches])
    described = [row for index in indices for row in _describe(frames, int(index), mask, encoder.transform)]
    values = pa.array(features_VD.reshape(-1), pa.float32())
    vectors = pa.FixedSizeListArray.from_arrays(values, features_VD.shape[1])
    return pa.Table.from_pylist(described, schema=_DESCRIBED).append_column("features", vectors)


def _write_part(part: Path, table: pa.Table, out: Path) -> None:
    with writing(out):
        write_atomically(part, lambda file: pq.write_table(table, file))


_DESCRIBED = pa.schema(
    [
        pa.field("frame_id", pa.string()),
        pa.field("region", pa.int32()),  # its place among the frame's regions; null for a whole image
        pa.field("structure", pa.string()),
        pa.field("caption", pa.string()),
        pa.field("plane", pa.string()),
    ]
)


def _describe(frames: Frames, index: int, mask: str, transform: PadToSquare) -> Iterator[dict[str, Any]]:
    def value(column: str) -> Any:
        return frames.column(column)[index].as_py()

    plane = value("plane")
    shared = {"frame_id": value("frame_id"), "plane": None if plane is None else frames.planes[plane]}
    if mask == "none":
        yield {**shared, "region": None, "structure": None, "caption": value("caption")}
        return
    visible = are_visible(frames.column("regions").take([index]).combine_chunks(), transform)
    for number in np.flatnonzero(visible).tolist():
        region = value("regions")[number]
        yield {**shared, "region": number, "structure": region["structure"], "caption": region["caption"]}


def _join(folder: Path, out: Path, origin: Mapping[str, Any]) -> int:
    """Join all parts into one file, a row group each, so that only one is in memory."""
    parts = sorted(folder.glob("part-*.parquet"))
    schema = pq.read_schema(parts[0]).with_metadata({METADATA: json.dumps(origin).encode()})
    rows = 0

    def write(file: IO[bytes]) -> None:
        nonlocal rows
        with pq.ParquetWriter(file, schema, compression="zstd") as writer:
            for part in parts:
                table = pq.read_table(part, partitioning=None)
                writer.write_table(table.replace_schema_metadata(schema.metadata))
                rows += len(table)

    write_atomically(out, write)
    return rows


def _digest(origin: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(origin, sort_keys=True).encode()).hexdigest()[:16]

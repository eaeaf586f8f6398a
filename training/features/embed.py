"""Features of a dataset in a Parquet file, and a search in it by text."""

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
from sono.manifests.stages import Progress
from sono.manifests.store import write_atomically
from sono.training.data.dataset import Frames, open_split, read_description
from sono.training.pretraining.failures import writing

from .encoder import Encoder
from .views import FrameViews

MASKS = ("none", "region")
FRAMES_A_PART = 4096
_METADATA = b"sono_embed"


def embed(
    run: Path,
    dataset: str,
    out: Path,
    *,
    split: str = "test",
    mask: str = "none",
    notice: Callable[[str], None] = print,
    progress: Callable[[Progress], None] = lambda _: None,
    frames_a_part: int = FRAMES_A_PART,
) -> dict[str, Any]:
    """Write the features of a split to the Parquet file ``out``: a row a frame, or a row a region.

    Frames are done in parts, which lie beside ``out`` until it is whole; a run that was killed goes on with the part it
    was at. Memory does not grow with the dataset.

    Args:
        run: folder of the training run; its newest checkpoint is taken.
        dataset: folder of a finished build, or a dataset on the Hub.
        split: of the dataset.
        mask: ``none``, frames through the mask of a whole image; or ``region``, every region of every frame.
        frames_a_part: how many frames are in memory and lost at most.

    Returns:
        How many rows and frames were written, how many frames have none, and the length of a feature.

    Raises:
        UserError: ``out`` is a folder, or cannot be written; there is no checkpoint, no such split or no region in it;
            or a frame's image or mask is at fault.
    """
    assert mask in MASKS
    if out.is_dir():
        raise UserError("this is a folder", where=str(out), fix="name a file, such as features.parquet")
    encoder = Encoder.load(run, notice)
    frames = open_split(read_description(dataset), split)
    chosen = _frames_with_views(frames, mask)
    origin = {
        "checkpoint": encoder.checkpoint,
        "dataset": {"fingerprint": frames.description.fingerprint},
        "split": split,
        "mask": mask,
        "frames_a_part": frames_a_part,
    }
    folder = out.absolute().with_name(f".tmp-{out.name}-{_digest(origin)}")
    starts = range(0, len(chosen), frames_a_part)
    done = 0
    for number, start in enumerate(starts, start=1):
        part = folder / f"part-{start:09d}.parquet"
        indices = chosen[start : start + frames_a_part]
        if not part.exists():  # a part takes its name only when it is whole
            table = _features(encoder, frames, indices, mask)
            with writing(out):
                write_atomically(part, lambda file, table=table: pq.write_table(table, file))  # type: ignore[misc]
        done += len(indices)
        progress(Progress("embed", len(starts), number, done, len(frames) - len(chosen)))
    with writing(out):
        rows = _join(folder, out, origin)
    shutil.rmtree(folder)
    dim = pq.read_schema(out).field("features").type.list_size
    return {
        "file": str(out),
        "rows": rows,
        "frames": len(chosen),
        "frames_without_rows": len(frames) - len(chosen),
        "dim": dim,
        "origin": origin,
    }


def search(
    file: Path, query: str, run: Path, *, count: int = 10, notice: Callable[[str], None] = print
) -> list[dict[str, Any]]:
    """The rows of ``file`` whose features are nearest to those of a text, best first, each with its cosine ``score``.

    Raises:
        UserError: the file is none of ours, its features are another checkpoint's than the newest of ``run``, or the
            text has more tokens than the text tower reads.
    """
    import duckdb

    origin = _origin(file)
    encoder = Encoder.load(run, notice)
    if origin["checkpoint"]["sha256"] != encoder.checkpoint["sha256"]:
        raise UserError(
            f"its features are of the checkpoint {origin['checkpoint']['file']}, and those of "
            f"{encoder.checkpoint['file']} cannot be compared with them",
            where=str(file),
            fix="name the run that they were made with, or run sono-train embed again",
        )
    wanted = encoder.sentences([query], fix="search with a shorter text")[0].tolist()
    with duckdb.connect() as connection:
        found = connection.execute(
            f"""
            select frame_id, region, structure, plane, caption,
                   array_inner_product(features::float[{len(wanted)}], $wanted::float[{len(wanted)}]) as score
            from read_parquet($file) order by score desc, frame_id, region limit $count
            """,
            {"wanted": wanted, "file": str(file), "count": count},
        )
        names = [column[0] for column in found.description or ()]
        return [dict(zip(names, row, strict=True)) for row in found.fetchall()]


def _frames_with_views(frames: Frames, mask: str) -> np.ndarray[Any, np.dtype[np.int64]]:
    if mask == "none":
        return np.arange(len(frames))
    import pyarrow.compute as pc

    chosen = np.flatnonzero(pc.fill_null(pc.list_value_length(frames.column("regions")), 0).to_numpy())
    if not len(chosen):
        raise UserError(
            f"no frame of the {frames.split} split has a region",
            where=frames.description.source,
            fix="take another split, or --mask none",
        )
    return chosen


def _features(encoder: Encoder, frames: Frames, indices: np.ndarray[Any, Any], mask: str) -> pa.Table:
    """The part's rows: features in the order of frames and of their regions."""
    views = FrameViews(frames, indices, [mask], encoder.transform)
    batches = encoder.batches("embed", views, 0, lambda _: None)
    features_VD = np.concatenate([encoder.view_features(batch, mask)[0].float().numpy() for batch in batches])
    described = [row for index in indices for row in _describe(frames, int(index), mask)]
    values = pa.array(features_VD.reshape(-1), pa.float32())
    vectors = pa.FixedSizeListArray.from_arrays(values, features_VD.shape[1])
    return pa.Table.from_pylist(described, schema=_DESCRIBED).append_column("features", vectors)


_DESCRIBED = pa.schema(
    [
        pa.field("frame_id", pa.string()),
        pa.field("region", pa.int32()),  # its place among the frame's regions; null is the whole image
        pa.field("structure", pa.string()),
        pa.field("caption", pa.string()),
        pa.field("plane", pa.string()),
    ]
)


def _describe(frames: Frames, index: int, mask: str) -> Iterator[dict[str, Any]]:
    def value(column: str) -> Any:
        return frames.column(column)[index].as_py()

    plane = value("plane")
    shared = {"frame_id": value("frame_id"), "plane": None if plane is None else frames.planes[plane]}
    if mask == "none":
        yield {**shared, "region": None, "structure": None, "caption": value("caption")}
        return
    for number, region in enumerate(value("regions")):
        yield {**shared, "region": number, "structure": region["structure"], "caption": region["caption"]}


def _join(folder: Path, out: Path, origin: Mapping[str, Any]) -> int:
    """All parts in one file, a row group for each, so that only one is in memory."""
    parts = sorted(folder.glob("part-*.parquet"))
    schema = pq.read_schema(parts[0]).with_metadata({_METADATA: json.dumps(origin).encode()})
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


def _origin(file: Path) -> dict[str, Any]:
    try:
        origin: dict[str, Any] = json.loads((pq.read_schema(file).metadata or {})[_METADATA])
    except (OSError, ValueError, KeyError) as error:
        raise UserError(
            "no file that sono-train embed wrote", where=str(file), fix="make one with sono-train embed"
        ) from error
    return origin


def _digest(origin: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(origin, sort_keys=True).encode()).hexdigest()[:16]

"""The rows of the queue file, in order: the frame with the worst mask first, then frames to be judged themselves."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from .features import Signs
from .queue_file import NAME, QUEUE

Integers = npt.NDArray[np.int64]


def queue_rows(frames: pa.Table, signs: Signs, p_bad: npt.NDArray[np.float32]) -> pa.Table:
    """Order masks within their frames, and frames by their worst mask; a table of ``QUEUE``.

    Args:
        frames: columns frame_id, part, plane, center, verdict; row ``n`` is the frame of number ``n``.
        signs: of the masks, with ``part`` among the keys.
        p_bad: how likely each of them is bad.
    """
    frame = signs.keys["frame"].to_numpy().astype(np.int64)
    by_frame = np.lexsort((_ranks(signs.keys["region_id"]), -p_bad, frame))
    counts = np.bincount(frame, minlength=frames.num_rows)
    starts = np.cumsum(counts) - counts
    ranks = _ranks(frames["frame_id"])
    worst = np.full(frames.num_rows, np.nan, np.float32)
    has_masks = counts > 0
    worst[has_masks] = p_bad[by_frame][starts[has_masks]]
    shown = np.flatnonzero(has_masks | _equal(frames["verdict"], "review"))
    shown = shown[np.lexsort((ranks[shown], -np.nan_to_num(worst[shown], nan=-1.0)))]
    offsets = np.concatenate([[0], np.cumsum(counts[shown])]).astype(np.int32)
    members = by_frame[np.repeat(starts[shown] - offsets[:-1], counts[shown]) + np.arange(offsets[-1])]
    masks, chosen = signs.keys.take(members), frames.take(shown)

    def lists(values: pa.Array) -> pa.ListArray:
        return pa.ListArray.from_arrays(pa.array(offsets), values)

    columns = {
        "frame_id": chosen["frame_id"],
        "frame_part": _named(chosen["part"]),
        "regions": lists(masks["region_id"].combine_chunks()),
        "region_parts": lists(_named(masks["part"])),
        "structures": lists(_named(masks["structure"])),
        "p_bad": lists(pa.array(p_bad[members])),
        "frame_p_bad": pa.array(worst[shown], from_pandas=True),
        "plane": _named(chosen["plane"]),
        "center": _named(chosen["center"]),
        "verdict": _named(chosen["verdict"]),
        "by_frame_id": pa.array(np.argsort(ranks[shown]).astype(np.int32)),
    }
    return pa.table([columns[name] for name in QUEUE.names], schema=QUEUE)


def _ranks(ids: pa.ChunkedArray) -> Integers:
    """The place of each value if they were sorted."""
    import pyarrow.compute as pc

    order = pc.sort_indices(ids).to_numpy()
    ranks = np.empty(len(order), np.int64)
    ranks[order] = np.arange(len(order))
    return ranks


def _equal(values: pa.ChunkedArray, value: str) -> npt.NDArray[np.bool_]:
    names = _named(values)
    codes = {name: code for code, name in enumerate(names.dictionary.to_pylist())}
    indices = names.indices.to_numpy(zero_copy_only=False)
    return np.asarray(indices == codes.get(value, -1))


def _named(values: pa.ChunkedArray) -> pa.DictionaryArray:
    return values.combine_chunks().dictionary_encode().cast(NAME)

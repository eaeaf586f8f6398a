"""Which regions are still there at the size of a model's input: scaling wipes out the smallest.

A mask of which nothing is left says "nowhere": seen through it, a frame is not seen at all.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sono.manifests import masks
from sono.training.arrays import Booleans, Floats, Integers
from sono.training.model.transforms import PadToSquare

from .dataset import Frames

_LEVELS = 255  # the transform's masks are 8-bit areas


def are_visible(lists: pa.ListArray, transform: PadToSquare | None) -> Booleans:
    """For all members of lists of regions, whether their masks have a pixel left.

    Args:
        lists: the column ``regions``, or a part of it.
        transform: of the model's input; if None, only masks that are empty in their image's own pixels are invisible.
    """
    regions = pc.list_flatten(lists)
    if not len(regions):
        return np.zeros(0, dtype=np.bool_)
    area_M = _numbers(pc.struct_field(regions, "area_px"))
    visible_M: Booleans = area_M > 0
    if transform is None:
        return visible_M
    encoded = pc.struct_field(regions, "mask")
    for place in np.flatnonzero(visible_M & _may_vanish(regions, area_M, transform.size)).tolist():
        visible_M[place] = transform.mask(masks.decode(encoded[place].as_py())).any()
    return visible_M


def count_regions(frames: Frames, transform: PadToSquare) -> tuple[Integers, Integers]:
    """For every frame the number of its regions that are visible to a model, captioned or not, and of the others."""
    counts = []
    for lists in frames.column("regions").chunks:
        parents_M, visible_M = pc.list_parent_indices(lists).to_numpy(), are_visible(lists, transform)
        counts.append([np.bincount(parents_M[which], minlength=len(lists)) for which in (visible_M, ~visible_M)])
    visible_F, others_F = (np.concatenate(parts) for parts in zip(*counts, strict=True))
    return visible_F, others_F


def _may_vanish(regions: pa.StructArray, area_M: Floats, size: int) -> Booleans:
    """Whether the mask covers so little of the pixels that its box touches that all of them may round to 0.

    It is resized in two passes, and each may round down by half a level: an average above one level remains.
    """
    sides = pc.struct_field(regions, ["mask", "size"])
    side_M = np.maximum(_numbers(pc.list_element(sides, 0)), _numbers(pc.list_element(sides, 1)))
    scale_M = size / np.maximum(side_M, 1)
    box = pc.struct_field(regions, "bbox")
    width_M, height_M = (_numbers(pc.list_element(box, number)) for number in (2, 3))
    touched_M = (np.ceil(width_M * scale_M) + 1) * (np.ceil(height_M * scale_M) + 1)
    small_M: Booleans = (area_M * scale_M**2 <= touched_M / _LEVELS) & (scale_M < 1)
    return small_M


def _numbers(values: pa.Array) -> Floats:
    """As floats; null, which only a dataset of another program has, is 0."""
    numbers: Floats = pc.fill_null(pc.cast(values, pa.float64()), 0.0).to_numpy(zero_copy_only=False)
    return numbers

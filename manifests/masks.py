"""Masks as COCO run-length encoding, bit-exact both ways, including holes, separate parts and empty masks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco

from .errors import UserError

Mask = npt.NDArray[np.bool_]


class Rle(TypedDict):
    """A value of the ``mask`` column: ``size`` is [height, width] in px."""

    size: list[int]
    counts: str


def encode(mask: Mask) -> Rle:
    """Encode a boolean mask of shape [height, width].

    Raises:
        ValueError: the array is not two-dimensional and boolean.
    """
    if mask.ndim != 2 or mask.dtype != np.bool_:
        raise ValueError(f"a mask is a 2-D boolean array, not {mask.dtype} of shape {mask.shape}")
    encoded = coco.encode(np.asfortranarray(mask, dtype=np.uint8))
    return Rle(size=[int(side) for side in encoded["size"]], counts=encoded["counts"].decode("ascii"))


def decode(rle: Rle, expected_size: Sequence[int] | None = None) -> Mask:
    """Decode to a boolean array of shape [height, width].

    Args:
        rle: the encoded mask.
        expected_size: [height, width] of the image the mask belongs to.

    Raises:
        UserError: mask and image differ in size. A mask is never rotated, cropped or stretched to fit.
    """
    height, width = rle["size"]
    if expected_size is not None and [height, width] != [int(side) for side in expected_size]:
        raise UserError(
            f"the mask is {width}x{height} px but its image is {expected_size[1]}x{expected_size[0]} px",
            fix="draw the mask on the image itself; masks are never rotated or stretched to fit",
        )
    mask: Mask = coco.decode({"size": [height, width], "counts": rle["counts"].encode("ascii")}).astype(np.bool_)
    return mask


def area_px(mask: Mask) -> int:
    return int(np.count_nonzero(mask))


def bbox(mask: Mask) -> tuple[int, int, int, int]:
    """The tight box as x, y, width, height in px; all zero for an empty mask."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if rows.size == 0:
        return 0, 0, 0, 0
    x, y = int(columns[0]), int(rows[0])
    return x, y, int(columns[-1]) - x + 1, int(rows[-1]) - y + 1

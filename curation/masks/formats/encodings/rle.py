"""Run lengths of masks, checked before anything is allocated: they may add up to anything, or to less than nothing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from sono.curation.images.bounds import check_size
from sono.curation.masks.reasons import excluded
from sono.manifests import masks
from sono.manifests.masks import Mask

Counts = npt.NDArray[np.int64]


def mask_of_coco(rle: object) -> Mask:
    """The mask of a COCO RLE, compressed (``counts`` is a string) or not (a list); shape [height, width].

    Raises:
        ExcludedError: it is malformed, or its runs do not add up to its size.
    """
    if not isinstance(rle, dict):
        raise excluded("malformed_mask")
    size, counts = rle.get("size"), rle.get("counts")
    if not isinstance(size, list) or len(size) != 2 or not all(_is_whole(side) for side in size):
        raise excluded("malformed_mask")
    height, width = size
    check_size(height, width)
    if isinstance(counts, str):
        try:
            return masks.decode(masks.Rle(size=[height, width], counts=counts))
        except ValueError:
            raise excluded("malformed_mask") from None
    return mask_of_counts(_listed(counts), width, height).T


def mask_of_counts(counts: Counts, height: int, width: int) -> Mask:
    """The mask of run lengths by rows, the first of them background; shape [height, width].

    Raises:
        ExcludedError: they do not add up to its size.
    """
    if (counts.size and (counts.min() < 0 or counts.max() > height * width)) or counts.sum() != height * width:
        raise excluded("malformed_mask")
    inside = np.zeros(counts.size, dtype=np.bool_)
    inside[1::2] = True
    return np.repeat(inside, counts).reshape(height, width)


def counts_of_mask(mask: Mask) -> list[int]:
    """Run lengths by rows, the first of them background, which may be 0."""
    flat = mask.ravel()
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    counts = np.diff(np.concatenate([[0], changes, [flat.size]])).tolist()
    return [0, *counts] if flat.size and flat[0] else counts


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _listed(counts: object) -> Counts:
    if not isinstance(counts, list) or not all(_is_whole(count) and 0 <= count < 2**40 for count in counts):
        raise excluded("malformed_mask")
    return np.asarray(counts, dtype=np.int64)


def whole_numbers(text: str, separator: str | None = ",") -> Sequence[int]:
    """Numbers of a text.

    Raises:
        ExcludedError: something else is among them.
    """
    try:
        return [int(word) for word in text.split(separator)]
    except ValueError:
        raise excluded("malformed_mask") from None

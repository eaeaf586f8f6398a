"""Run lengths of masks, checked before anything is allocated: they may add up to anything, or to less than nothing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from sono.curation.images.bounds import check_size
from sono.curation.masks.reasons import excluded
from sono.manifests.masks import Mask

Counts = npt.NDArray[np.int64]
_CHARACTERS_OF_A_RUN = 8  # five bits each: more than any image has pixels


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
        return mask_of_counts(_decompressed(counts), width, height).T
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


def _decompressed(text: str) -> Counts:
    """The counts of a COCO string: five bits per character from 48 on, the sixth bit says that more follow.

    From the fourth on, a count is the difference to the one before the last (``rleFrString`` in cocoapi's maskApi.c).
    """
    try:
        values = np.frombuffer(text.encode("ascii"), np.uint8).astype(np.int64) - 48
    except UnicodeEncodeError:
        raise excluded("malformed_mask") from None
    if not values.size:
        return np.zeros(0, np.int64)
    ends = np.flatnonzero((values & 0x20) == 0)
    if values.min() < 0 or values.max() > 63 or ends.size == 0 or ends[-1] != values.size - 1:
        raise excluded("malformed_mask")
    starts = np.concatenate([[0], ends[:-1] + 1])
    lengths = ends - starts + 1
    if lengths.max() > _CHARACTERS_OF_A_RUN:
        raise excluded("malformed_mask")
    place = np.arange(values.size) - np.repeat(starts, lengths)
    counts = np.add.reduceat((values & 0x1F) << (5 * place), starts)
    negative = (values[ends] & 0x10) != 0
    counts[negative] -= 1 << (5 * lengths[negative])
    counts[1::2] = np.cumsum(counts[1::2])
    counts[2::2] = np.cumsum(counts[2::2])
    return counts


def whole_numbers(text: str, separator: str | None = ",") -> Sequence[int]:
    """Numbers of a text.

    Raises:
        ExcludedError: something else is among them.
    """
    try:
        return [int(word) for word in text.split(separator)]
    except ValueError:
        raise excluded("malformed_mask") from None

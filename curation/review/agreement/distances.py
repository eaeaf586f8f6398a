"""How far two masks agree: Dice, IoU, and the 95th percentile of the Hausdorff distance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from sono.manifests import masks
from sono.manifests.errors import import_extra
from sono.manifests.masks import Mask

EXTRA = "review"

_PERCENTILE = 95


@dataclass(frozen=True)
class Likeness:
    """Of two masks of one size.

    Attributes:
        dice, iou: 1 if both are empty, 0 if one of them is.
        hausdorff_95: in the unit of the spacing; None if one or both are empty: there is no outline to measure from.
        empty: how many of the two are.
    """

    dice: float
    iou: float
    hausdorff_95: float | None
    empty: int


def likeness(one: Mask, other: Mask, spacing: tuple[float, float] = (1.0, 1.0)) -> Likeness:
    """Compare two masks of shape [height, width].

    Args:
        spacing: width and height of a pixel.

    Raises:
        ValueError: they differ in size.
        UserError: scipy is not installed.
    """
    if one.shape != other.shape:
        raise ValueError(f"masks of {one.shape} and {other.shape} px")
    areas = np.count_nonzero(one), np.count_nonzero(other)
    shared = np.count_nonzero(one & other)
    total = sum(areas)
    dice, iou = (2 * shared / total, shared / (total - shared)) if total else (1.0, 1.0)
    return Likeness(dice, iou, _hausdorff_95(one, other, spacing) if all(areas) else None, areas.count(0))


def _hausdorff_95(one: Mask, other: Mask, spacing: tuple[float, float]) -> float:
    """The greater of both directed distances, each the 95th percentile over a mask's outline pixels.

    Outlines are the mask's own pixels that touch one outside of it by a side (as in MONAI's
    ``compute_hausdorff_distance``); distances are Euclidean, between pixel centres.
    """
    ndimage = import_extra("scipy.ndimage", EXTRA)
    x, y, width, height = masks.bbox(one | other)
    window = (slice(y, y + height), slice(x, x + width))
    outlines = [_outline(ndimage, mask[window]) for mask in (one, other)]
    away = [ndimage.distance_transform_edt(~outline, sampling=spacing[::-1]) for outline in outlines]
    directed = [np.percentile(away[1][outlines[0]], _PERCENTILE), np.percentile(away[0][outlines[1]], _PERCENTILE)]
    return float(max(directed))


def _outline(ndimage: Any, mask: Mask) -> Mask:
    return np.asarray(mask & ~ndimage.binary_erosion(mask))

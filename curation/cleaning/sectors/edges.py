"""Where a sector's edges are in the pixels at full size, and how much of each edge the pixels show."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from sono.curation.images.pixels import Mask, Pixels

from .geometry import Floats

_BESIDE = 6  # px on either side of an edge that are compared
_SMOOTHED = 5  # neighbouring points of an edge whose profiles are averaged: single speckles are no edge
_LIT_INSIDE = 0.45  # share of the px inside an edge that are lit where the edge is seen
_LIT_OUTSIDE = 0.2  # at most, of the px outside
_NEAREST = 1e-3  # contrast that a px of distance costs, so that of equal steps the nearest is taken


@dataclass(frozen=True)
class EdgeProfile:
    """What lies across points of an edge; each array has one value per point.

    Attributes:
        offset: px from the point outwards to where the pixels have their edge.
        seen: lit inside and dark outside.
        lit_outside: share of the px just beyond the point itself that are lit.
        on_image: false where the image ends at the point.
    """

    offset: Floats
    seen: Mask
    lit_outside: npt.NDArray[np.float32]
    on_image: Mask


def edge_profile(pixels: Pixels, level: int, points: Floats, outwards: Floats, reach: int) -> EdgeProfile:
    """Look for an edge across each of ``points``.

    Args:
        pixels: [height, width].
        level: grey level above which a pixel is lit.
        points: [n, 2] x, y in px, in their order along the edge.
        outwards: [n, 2] unit vectors, away from the sector.
        reach: px before and beyond each point in which the edge is looked for.
    """
    height, width = pixels.shape
    steps = np.arange(-reach - _BESIDE, reach + _BESIDE, dtype=np.float32) + 0.5
    x = (points[:, :1] + outwards[:, :1] * steps).astype(np.int32)  # points outside are negative by a px or more
    y = (points[:, 1:] + outwards[:, 1:] * steps).astype(np.int32)
    on_image = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    at = np.where(on_image, y * width + x, 0)
    lit = ((pixels.ravel()[at] > level) & on_image).astype(np.float32)
    lit = cv2.blur(lit, (1, _SMOOTHED), borderType=cv2.BORDER_REPLICATE)
    beside = cv2.blur(lit, (_BESIDE, 1), anchor=(0, 0), borderType=cv2.BORDER_CONSTANT)
    # Shares of the px just inside and just outside of every place that the edge may be at.
    inner, outer = beside[:, : 2 * reach + 1], beside[:, _BESIDE : _BESIDE + 2 * reach + 1]
    contrast = inner - outer - np.float32(_NEAREST) * np.abs(np.arange(-reach, reach + 1, dtype=np.float32))
    best = contrast.argmax(axis=1)
    rows = np.arange(len(lit))
    border = on_image[:, reach : reach + 2 * _BESIDE].all(axis=1)
    return EdgeProfile(
        offset=(best - reach).astype(np.float64),
        seen=border & (inner[rows, best] >= _LIT_INSIDE) & (outer[rows, best] <= _LIT_OUTSIDE),
        lit_outside=outer[:, reach],
        on_image=border,
    )

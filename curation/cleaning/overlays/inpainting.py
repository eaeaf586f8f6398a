"""Filling of what was removed from a frame with what surrounds it."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

RADIUS_PX = 3
"""Of the neighbourhood that a filled pixel is computed from."""


def inpaint(pixels: npt.NDArray[np.uint8], mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint8]:
    """A copy of ``pixels`` [height, width] or [height, width, 3] filled where ``mask`` is set; the rest is unchanged.

    By fast marching: Telea A, J Graphics Tools 2004;9(1):23-34. Nothing of the pixels under ``mask`` is used.
    """
    filled = pixels.copy()
    count, _, boxes, _ = cv2.connectedComponentsWithStats(_joined(mask), connectivity=8)
    margin = 2 * RADIUS_PX + 2
    for x, y, width, height, _ in boxes[1:count]:
        window = np.s_[max(y - margin, 0) : y + height + margin, max(x - margin, 0) : x + width + margin]
        part = mask[window]
        result = cv2.inpaint(pixels[window], part.view(np.uint8), RADIUS_PX, cv2.INPAINT_TELEA)
        filled[window][part] = result[part]
    return filled


def _joined(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint8]:
    """The mask with neighbouring pieces in one, so that each window is computed once."""
    side = 2 * RADIUS_PX + 1
    return np.asarray(cv2.dilate(mask.view(np.uint8), np.ones((side, side), np.uint8)), np.uint8)

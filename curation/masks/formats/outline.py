"""Images of closed lines, which are filled: what sonographers' tools often draw."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from sono.curation.masks.reasons import excluded
from sono.manifests import masks

from . import png

_MAX_LINE_PX = 6  # an outline may be this thick
_MAX_LOOSE_FRACTION = 0.1  # of the line may lie away from the area


def read_mask(path: Path) -> masks.Mask:
    """The area that the drawn line encloses, including the line, as a boolean array of shape [height, width].

    Raises:
        ExcludedError: the file cannot be used, the drawing is a filled area, or the line does not enclose an area.
    """
    drawn = png.read_mask(path)
    return fill_outline(drawn) if drawn.any() else drawn


def fill_outline(outline: npt.NDArray[np.bool_]) -> masks.Mask:
    """The area that a drawn outline encloses, including the outline. Shape [height, width] in and out.

    Raises:
        ExcludedError: the drawing is a filled area, or the outline does not enclose an area.
    """
    # The background is filled over four neighbours, so it cannot slip through a line one pixel wide.
    walls = cv2.copyMakeBorder(outline.astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    cv2.floodFill(walls, None, (0, 0), 2, flags=4)
    outside = walls[1:-1, 1:-1] == 2
    inside = ~outside & ~outline
    thick = np.ones((2 * _MAX_LINE_PX + 3, 2 * _MAX_LINE_PX + 3), np.uint8)
    if cv2.erode(outline.astype(np.uint8), thick).any():
        raise excluded("outline_is_filled")
    if not inside.any():
        raise excluded("outline_not_closed")
    # A small loop on an open line encloses something, too, so nearly all of the line must border on the area.
    side = 2 * _MAX_LINE_PX + 1
    near = cv2.dilate(inside.astype(np.uint8), np.ones((side, side), np.uint8)).astype(bool)
    if np.count_nonzero(outline & ~near) > _MAX_LOOSE_FRACTION * np.count_nonzero(outline):
        raise excluded("outline_not_closed")
    return np.asarray(~outside, dtype=np.bool_)

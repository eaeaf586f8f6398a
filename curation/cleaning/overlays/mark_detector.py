"""Marks of measurements, looked for a second time in windows around everything that may be one.

The text detector sees a whole frame in little time; a thin cross on bone or on flow is to it hardly more than what else
is there. Where it sees the least sign of a mark, a network that looks closer decides.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from sono.curation.images.pixels import Mask, Pixels

from .networks import session
from .text_detector import STRIDE
from .views import STROKE_PX, network_input

WINDOW_PX, CORE_PX = 64, 32
"""Sides of what the network looks at, and of what it judges, in the middle of it."""

CORE, EDGE = CORE_PX // STRIDE, (WINDOW_PX - CORE_PX) // 2 // STRIDE
"""The core's side and what is around it, in cells."""

MARGIN_PX = WINDOW_PX // 2 + STROKE_PX
"""From a window's middle to the end of what its strokes are computed from."""

WORTH_A_LOOK = 0.33
"""What the text detector gives a cell that is looked at again: in a frame without marks three or four windows."""

GOES_ON, GOES_ON_CELLS = 0.15, 3
"""The same within as many cells of a mark: the rest of a line or of an outline."""

IS_MARK = 0.5
"""What the network gives a cell from which a mark may go on."""

MOST_WINDOWS = 4000
"""Of a frame: seconds. What is left then is taken for marks, so that somebody looks at a frame that is full of them."""

AT_ONCE = 64
"""Windows that the network is given together: a frame that is all marks takes no more memory than another."""

Probabilities = npt.NDArray[np.float32]


def look_again(pixels: Pixels, possible: Probabilities, only_along: Mask | None = None) -> Probabilities:
    """That each cell shows a mark, [rows, columns] as ``possible``; 0 where it was not worth a second look.

    Args:
        pixels: [height, width] grey, or [height, width, 3] RGB, black where the frame shows no ultrasound.
        possible: what the text detector gives each cell of 4 x 4 px for marks, [ceil(height / 4), ceil(width / 4)].
        only_along: cells, as ``possible``, that are looked at only where a mark elsewhere goes on.
    """
    marks = np.zeros_like(possible)
    looked_at = np.zeros(possible.shape, np.bool_)
    worth = possible > WORTH_A_LOOK
    if only_along is not None:
        worth &= ~only_along
    windows = 0
    while middles := middles_of(np.where(worth & ~looked_at, possible, 0)):
        windows += len(middles)
        if windows > MOST_WINDOWS:
            marks[worth & ~looked_at] = 1.0
            break
        for first in range(0, len(middles), AT_ONCE):
            some = middles[first : first + AT_ONCE]
            for (row, column), core in zip(some, _cores(pixels, some), strict=True):
                here = np.s_[max(row - CORE // 2, 0) : row + CORE // 2, max(column - CORE // 2, 0) : column + CORE // 2]
                down, across = marks[here].shape
                shown = core[max(CORE // 2 - row, 0) :, max(CORE // 2 - column, 0) :][:down, :across]
                np.maximum(marks[here], shown, out=marks[here])
                looked_at[here] = True
        near = cv2.dilate((marks > IS_MARK).view(np.uint8), np.ones((2 * GOES_ON_CELLS + 1,) * 2, np.uint8)) > 0
        worth = near & (possible > GOES_ON)
    return marks


def middles_of(worth: Probabilities) -> list[tuple[int, int]]:
    """Cells, row and column, whose windows' cores cover all that is worth a look: the likeliest first."""
    cells = np.flatnonzero(worth)
    rows, columns = np.divmod(cells[np.argsort(-worth.ravel()[cells], kind="stable")], worth.shape[1])
    left = worth > 0
    middles = []
    for row, column in zip(rows.tolist(), columns.tolist(), strict=True):
        if left[row, column]:
            middles.append((row, column))
            left[max(row - CORE // 2, 0) : row + CORE // 2, max(column - CORE // 2, 0) : column + CORE // 2] = False
    return middles


def window_views(part: Pixels) -> Pixels:
    """What the network is given of a window cut with ``MARGIN_PX`` around its middle: [3 or 6, 64, 64].

    Args:
        part: [72, 72] grey, or [72, 72, 3] RGB: strokes at a window's edge are what they are in the frame.
    """
    views = network_input(part, once=part.ndim == 2)
    return views[:, STROKE_PX:-STROKE_PX, STROKE_PX:-STROKE_PX]


def _cores(pixels: Pixels, middles: Sequence[tuple[int, int]]) -> Probabilities:
    """That the cells around the middles show a mark: [windows, 8, 8]."""
    windows = np.stack([window_views(_cut(pixels, row * STRIDE, column * STRIDE)) for row, column in middles])
    (found,) = session("mark_detector", grey=pixels.ndim == 2).run(None, {"image": windows})
    return np.asarray(found[:, 0, EDGE : EDGE + CORE, EDGE : EDGE + CORE], np.float32)


def _cut(pixels: Pixels, y: int, x: int) -> Pixels:
    """The square with ``MARGIN_PX`` around a place, black beyond the frame."""
    height, width = pixels.shape[:2]
    part = pixels[max(y - MARGIN_PX, 0) : y + MARGIN_PX, max(x - MARGIN_PX, 0) : x + MARGIN_PX]
    above, below = max(MARGIN_PX - y, 0), max(y + MARGIN_PX - height, 0)
    left, right = max(MARGIN_PX - x, 0), max(x + MARGIN_PX - width, 0)
    if above or below or left or right:
        part = np.asarray(cv2.copyMakeBorder(part, above, below, left, right, cv2.BORDER_CONSTANT), np.uint8)
    return np.ascontiguousarray(part)

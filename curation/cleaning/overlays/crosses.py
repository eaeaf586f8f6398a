"""Crosses at the ends of a measured distance: four arms of one ink, equally long, with darker pixels on their sides."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from sono.curation.images.pixels import Mask, Pixels

from .text_detector import bright_strokes, largest_and_smallest

Steps = tuple[tuple[int, int], ...]

INK = 20
"""Grey levels by which a cross stands out from what is around it, at least; twice its own unevenness, too."""

FAINTEST = 90
"""The darkest level of ink."""

ARMS_PX = (3, 14)
"""Length of arms, shortest and longest."""

UNEVEN = 16
"""Grey levels by which a cross's ink may vary: JPEG's noise."""

COLORS_UNEVEN = 80
"""Levels by which its other channels may vary: JPEG's colours are coarse; cells of flow beside tissue do more."""

DARKER_SHARE = 0.85
"""Of the pixels beside the arms, which must be darker than all of the ink."""

STRAIGHT: Steps = ((1, 0), (-1, 0), (0, 1), (0, -1))
DIAGONAL: Steps = ((1, 1), (-1, -1), (1, -1), (-1, 1))


def find_crosses(pixels: Pixels, within: Mask) -> list[tuple[int, int]]:
    """Middles, x and y, of crosses, + or x, of one colour that lie in ``within``.

    Args:
        pixels: [height, width] grey, or [height, width, 3] RGB.
        within: [height, width].
    """
    if pixels.ndim == 2:
        return _find(pixels, pixels, within)
    largest, smallest = largest_and_smallest(pixels)
    crosses = _find(largest, smallest, within)
    if not np.array_equal(largest, smallest):  # white ink over flow stands out in the smallest channel alone
        crosses += _find(smallest, largest, within)
    return crosses


def _find(grey: Pixels, second: Pixels, within: Mask) -> list[tuple[int, int]]:
    """Crosses that stand out in ``grey`` and are of one level in ``second``, too."""
    ink = ((bright_strokes(grey) > INK) & (grey > FAINTEST)).view(np.uint8)
    shortest = 2 * ARMS_PX[0] + 1
    slanted = np.eye(shortest, dtype=np.uint8)
    crosses: list[tuple[int, int]] = []
    upright, level = np.ones((shortest, 1), np.uint8), np.ones((1, shortest), np.uint8)
    for one, other, steps in (level, upright, STRAIGHT), (slanted, np.ascontiguousarray(slanted[::-1]), DIAGONAL):
        middles = cv2.bitwise_and(
            cv2.erode(ink, one), cv2.erode(ink, other), mask=np.ascontiguousarray(within).view(np.uint8)
        )
        places = cv2.findNonZero(middles)  # numpy's takes ten times as long
        if places is not None:
            found = [(int(x), int(y)) for x, y in places.reshape(-1, 2) if _is_cross(grey, int(x), int(y), steps)]
            crosses += [(x, y) for x, y in found if _spread(second, x, y, steps) <= COLORS_UNEVEN]
    return crosses


def _is_cross(grey: Pixels, x: int, y: int, steps: Steps) -> bool:
    """Whether a cross has its middle there.

    One arm may be longer: the other cross of a short distance, or the line between both, goes on from it.
    """
    shortest = ARMS_PX[0]
    near = [_along(grey, x, y, step, shortest + 1) for step in steps]
    if any(len(arm) <= shortest for arm in near):
        return False
    level = int(np.median(np.concatenate(near)))
    uneven = max(int(np.abs(arm - level).max()) for arm in near)
    if uneven > UNEVEN:
        return False
    arms = sorted(_reach(_along(grey, x, y, step, ARMS_PX[1] + 3), level, max(uneven, 6)) for step in steps)
    # strokes of two pixels have no middle: one side is a pixel longer
    if arms[0] < shortest or arms[2] > ARMS_PX[1] or arms[2] - arms[0] > 2:
        return False
    sides = _beside(grey, x, y, steps, arms[0])
    contrast = level - float(np.median(sides))
    return contrast >= max(INK, 2 * uneven) and float(np.mean(sides < level - uneven - 4)) >= DARKER_SHARE


def _spread(grey: Pixels, x: int, y: int, steps: Steps) -> int:
    """Of the levels near the middle of a cross."""
    return int(np.ptp(np.concatenate([_along(grey, x, y, step, ARMS_PX[0] + 1) for step in steps])))


def _along(grey: Pixels, x: int, y: int, step: tuple[int, int], length: int) -> npt.NDArray[np.int64]:
    """Levels of up to ``length`` pixels from (x, y) on."""
    height, width = grey.shape
    dx, dy = step
    room = [length]
    room += [width - x if dx > 0 else x + 1] if dx else []
    room += [height - y if dy > 0 else y + 1] if dy else []
    count = np.arange(min(room))
    return grey[y + dy * count, x + dx * count].astype(np.int64)


def _reach(levels: npt.NDArray[np.int64], ink: int, uneven: int) -> int:
    """For how many pixels after the first the ink goes on."""
    other = np.flatnonzero(np.abs(levels[1:] - ink) > uneven)
    return int(other[0]) if len(other) else len(levels) - 1


def _beside(grey: Pixels, x: int, y: int, steps: Steps, arm: int) -> npt.NDArray[np.int64]:
    """Levels on both sides of the arms, three or four pixels away."""
    height, width = grey.shape
    levels = []
    for dx, dy in steps:
        straight = 0 in (dx, dy)
        apart = 3 if straight else 4
        for along in range(apart, arm + 1):
            for ax, ay in ((-dy, dx), (dy, -dx)) if straight else ((-dx, 0), (0, -dy)):
                px, py = x + along * dx + apart * ax, y + along * dy + apart * ay
                if 0 <= px < width and 0 <= py < height:
                    levels.append(int(grey[py, px]))
    return np.array(levels or [255], np.int64)

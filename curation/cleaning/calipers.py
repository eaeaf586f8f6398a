"""Marks of a measurement over the ultrasound, found and removed: they tell a model what the caption says.

The detector says in which cells crosses, dotted outlines and caliper lines are. There only the ink is removed, strokes
that stand out by brightness or colour, so that the anatomy below a dotted outline stays.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from .crosses import has_cross
from .inpainting import inpaint
from .text_detector import STROKE_PX, Overlays, boxes_of, find_overlays, largest_and_smallest

Pixels = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]

AROUND_PX = 24
"""Looked at around a piece for a cross: its arms may leave the piece."""

INK = 24
"""Levels, of brightness or colourfulness, by which ink stands out from what is around it, within cells with a mark."""

MARGIN_PX = 1
"""Removed around ink: where it was smoothed into its surroundings."""

REASONS: Mapping[str, str] = {"calipers_remain": "marks of a measurement were found again after they had been removed"}


@dataclass(frozen=True)
class CaliperFinding:
    """A frame without its measurement marks.

    Attributes:
        pixels: as they came, except where ``edited`` is set.
        edited: [height, width], what was removed and filled from its surroundings; nothing where no mark was found.
        reasons: keys of ``REASONS``, for which a person should look at the frame.
    """

    pixels: Pixels
    edited: Mask
    reasons: tuple[str, ...]

    @property
    def found(self) -> bool:
        return bool(np.any(self.edited))


def remove_calipers(pixels: Pixels, sector_mask: Mask, overlays: Overlays | None = None) -> CaliperFinding:
    """Find marks of measurements within the sector, remove them, and fill what they covered.

    Args:
        pixels: [height, width] grey, or [height, width, 3] RGB.
        sector_mask: [height, width], where the frame shows ultrasound; the rest is not looked at.
        overlays: what the detector found in exactly these pixels; looked for if omitted.
    """
    marks = _marks(pixels, overlays or find_overlays(pixels, sector_mask))
    if not np.any(marks):
        return CaliperFinding(pixels, marks, ())
    edited = _ink(pixels, marks) & sector_mask
    cleaned = inpaint(pixels, edited)
    remaining = _marks(cleaned, find_overlays(cleaned, sector_mask))
    if np.any(remaining):  # ink that does not stand out as strokes do
        edited |= remaining
        cleaned = inpaint(pixels, edited)
        remaining = _marks(cleaned, find_overlays(cleaned, sector_mask))
    return CaliperFinding(cleaned, edited, ("calipers_remain",) if np.any(remaining) else ())


def _marks(pixels: Pixels, overlays: Overlays) -> Mask:
    """Where the detector is sure, and pieces of which it is not but which have a cross."""
    marks = overlays.marks.copy()
    unsure = overlays.possible_marks & ~marks
    if not np.any(unsure):
        return marks
    for x, y, width, height in boxes_of(overlays.possible_marks):
        piece = np.s_[y : y + height, x : x + width]
        around = np.s_[max(y - AROUND_PX, 0) : y + height + AROUND_PX, max(x - AROUND_PX, 0) : x + width + AROUND_PX]
        if np.any(unsure[piece]) and any(has_cross(view, unsure[around]) for view in _views(pixels[around])):
            marks[piece] |= unsure[piece]
    return marks


def _ink(pixels: Pixels, marks: Mask) -> Mask:
    """The strokes within ``marks``."""
    ink = np.zeros(marks.shape, np.bool_)
    for view in _views(pixels):
        ink |= cv2.morphologyEx(view, cv2.MORPH_TOPHAT, np.ones((STROKE_PX + 1,) * 2, np.uint8)) > INK
    ink &= marks
    return np.asarray(cv2.dilate(ink.view(np.uint8), np.ones((2 * MARGIN_PX + 1,) * 2, np.uint8)), dtype=np.bool_)


def _views(pixels: Pixels) -> list[Pixels]:
    """Images in one of which ink stands out: white ink over flow in the smallest channel, colour by being colourful."""
    if pixels.ndim == 2:
        return [pixels]
    largest, smallest = largest_and_smallest(pixels)
    colorfulness = np.asarray(cv2.subtract(largest, smallest), np.uint8)
    return [largest, smallest, colorfulness] if np.any(colorfulness) else [largest]

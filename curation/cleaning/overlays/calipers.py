"""Marks of a measurement over the ultrasound, found and removed: they tell a model what the caption says.

The detector says in which cells crosses, dotted outlines and caliper lines are. There only the ink is removed, strokes
that stand out by brightness or colour, so that the anatomy below a dotted outline stays.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from sono.curation.images.pixels import Mask, Pixels

from .find import Overlays, find_overlays
from .inpainting import inpaint
from .views import bright_strokes, largest_and_smallest

INK = 24
"""Levels, of brightness or colourfulness, by which ink stands out from what is around it, within cells with a mark."""

MARGIN_PX = 1
"""Removed around ink: where it was smoothed into its surroundings."""


@dataclass(frozen=True)
class CaliperFinding:
    """A frame without its measurement marks.

    Attributes:
        pixels: as they came, except where ``edited`` is set.
        edited: [height, width], what was removed and filled from its surroundings; nothing where no mark was found.
        reasons: keys of ``reasons.CALIPERS``, for which a person should look at the frame.
        overlays: what the detector sees in ``pixels``.
    """

    pixels: Pixels
    edited: Mask
    reasons: tuple[str, ...]
    overlays: Overlays

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
    overlays = overlays or find_overlays(pixels, sector_mask)
    if not np.any(overlays.marks):
        return CaliperFinding(pixels, overlays.marks, (), overlays)
    edited = _ink(pixels, overlays.marks) & sector_mask
    cleaned = inpaint(pixels, edited)
    left = find_overlays(cleaned, sector_mask)
    if np.any(left.marks):  # ink that does not stand out as strokes do
        edited |= left.marks
        cleaned = inpaint(pixels, edited)
        left = find_overlays(cleaned, sector_mask)
    return CaliperFinding(cleaned, edited, ("calipers_remain",) if np.any(left.marks) else (), left)


def _ink(pixels: Pixels, marks: Mask) -> Mask:
    """The strokes within ``marks``: bright in the largest or the smallest channel, or colourful."""
    views = [pixels]
    if pixels.ndim == 3:
        largest, smallest = largest_and_smallest(pixels)
        views = [largest, smallest, np.asarray(cv2.subtract(largest, smallest), np.uint8)]
    ink = np.zeros(marks.shape, np.bool_)
    for view in views:
        ink |= bright_strokes(view) > INK
    ink &= marks
    return np.asarray(cv2.dilate(ink.view(np.uint8), np.ones((2 * MARGIN_PX + 1,) * 2, np.uint8)), dtype=np.bool_)

"""What the frames table says was done to a frame's pixels, and the areas of the frame that follow from it.

The geometry is computed here once more: an audit that used the code which it audits would share its faults.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Mask = npt.NDArray[np.bool_]
Box = tuple[int, int, int, int]
"""x, y, width, height in px."""


@dataclass(frozen=True)
class Cleaning:
    """What was done to one frame, in px of the stored image.

    Attributes:
        sectors: rows of ``manifests.schemas.SECTOR``.
        text_boxes, mark_boxes: what was painted over lies in them.
        edited_fraction: share of the sectors' pixels that was painted over.
        shown_clean: the table says so, and names no reason why a person should look.
    """

    crop: Box  # in px of the source
    sectors: Sequence[Mapping[str, Any]]
    text_boxes: Sequence[Box]
    mark_boxes: Sequence[Box]
    edited_fraction: float
    shown_clean: bool


def cleaning_of(row: Mapping[str, Any]) -> Cleaning:
    """A row of ``frames``."""
    return Cleaning(
        crop=_box(row["crop"]),
        sectors=row["sectors"] or [],
        text_boxes=[_box(box) for box in row["text_boxes"] or []],
        mark_boxes=[_box(box) for box in row["mark_boxes"] or []],
        edited_fraction=row["edited_fraction"] or 0.0,
        shown_clean=row["burned_in_text"] in ("none", "removed") and not row["cleaning_reasons"],
    )


def sector_area(sectors: Sequence[Mapping[str, Any]], height: int, width: int) -> Mask:
    """Shape [height, width]: pixels whose centre is in a sector's box, between its outer beams and its radii."""
    area = np.zeros((height, width), np.bool_)
    for sector in sectors:
        inside = boxes_area([_box(sector["box"])], height, width) if sector["box"] else np.ones_like(area)
        if sector["apex"] and sector["angles"]:
            x = np.arange(width)[None, :] + 0.5 - sector["apex"][0]
            y = np.arange(height)[:, None] + 0.5 - sector["apex"][1]
            if sector["kind"] in ("convex", "phased") and sector["radii"]:
                radius = np.hypot(x, y)
                inside &= (radius >= sector["radii"][0]) & (radius <= sector["radii"][1])
            left, right = map(math.radians, sector["angles"])
            if left < right:
                inside &= x * math.cos(left) - y * math.sin(left) >= 0
                inside &= x * math.cos(right) - y * math.sin(right) <= 0
        area |= inside
    return area


def boxes_area(boxes: Sequence[Box], height: int, width: int) -> Mask:
    """Shape [height, width]: pixels in any of the boxes."""
    area = np.zeros((height, width), np.bool_)
    for x, y, across, down in boxes:
        area[max(y, 0) : max(y + down, 0), max(x, 0) : max(x + across, 0)] = True
    return area


def _box(values: Sequence[int]) -> Box:
    x, y, width, height = (int(value) for value in values)
    return x, y, width, height

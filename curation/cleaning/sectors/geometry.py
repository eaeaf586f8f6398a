"""The geometry of a sector: where its beams start, how far they reach, and which pixels of a frame they cover."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from sono.curation.images.pixels import Box, Mask

Floats = npt.NDArray[np.float64]

KINDS = ("convex", "phased", "linear", "unknown")

_ARC_STEP = 2.0  # degrees, between the points of an outline

_STEEPEST = 80.0  # degrees of a side that crosses a row of pixels at one place

_PHASED_NEAR_MOST = 0.14  # of the far radius: a phased array is small, its beams start close to one point


@dataclass(frozen=True)
class Sector:
    """The part of a frame that shows ultrasound.

    Pixel (i, j) covers i to i + 1, and belongs to the sector if its centre lies in the box, between the outer beams,
    and, if the sector is convex or phased, between the radii.

    Attributes:
        kind: one of ``KINDS``. A linear sector is a rectangle, or a trapezoid if its outer beams are steered; unknown
            is an area whose sides are not visible.
        apex: where the outer beams meet, in px; of a rectangle the middle of its upper side.
        angles: of the left and the right outer beam, in degrees from straight down, positive to the right.
        radii: of the first and the last echo, in px from the apex (of a linear sector straight down).
        box: the smallest around the sector, cut where the screen cuts the sector.
        confidence: from 0 to 1: the share of the outline that pixels confirm.
    """

    kind: str
    apex: tuple[float, float]
    angles: tuple[float, float]
    radii: tuple[float, float]
    box: Box
    confidence: float

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"a sector of kind {self.kind!r}, not one of {KINDS}")

    @property
    def has_arcs(self) -> bool:
        return self.kind in ("convex", "phased")

    @property
    def parallel(self) -> bool:
        """Whether its sides are those of the box."""
        return self.angles == (0.0, 0.0)

    def moved(self, x: int, y: int) -> Sector:
        """The same sector where the frame begins elsewhere: after cropping at (left, top), moved by their negatives."""
        left, top, width, height = self.box
        apex = (self.apex[0] + x, self.apex[1] + y)
        return replace(self, apex=apex, box=(left + x, top + y, width, height))

    def row(self) -> dict[str, object]:
        """As ``manifests.schemas.SECTOR`` stores it; a rectangle is its box alone."""
        return {
            "kind": self.kind,
            "apex": None if self.parallel else list(self.apex),
            "angles": None if self.parallel else list(self.angles),
            "radii": None if self.parallel else list(self.radii),
            "box": list(self.box),
            "confidence": self.confidence,
        }

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Sector:
        """The sector that ``row`` gave; of a rectangle, apex and radii follow from its box."""
        x, y, width, height = (int(value) for value in row["box"])
        rectangle = row["apex"] is None
        return cls(
            kind=row["kind"],
            apex=(x + width / 2, float(y)) if rectangle else tuple(row["apex"]),
            angles=(0.0, 0.0) if rectangle else tuple(row["angles"]),
            radii=(0.0, float(height)) if rectangle else tuple(row["radii"]),
            box=(x, y, width, height),
            confidence=row["confidence"],
        )


def sector_mask(sectors: Sequence[Sector], height: int, width: int) -> Mask:
    """Shape [height, width]: which pixels of a frame show ultrasound."""
    mask = np.zeros((height, width), np.bool_)
    for sector in sectors:
        x, y, across, down = sector.box
        x0, y0, x1, y1 = max(x, 0), max(y, 0), min(x + across, width), min(y + down, height)
        if x0 < x1 and y0 < y1:
            mask[y0:y1, x0:x1] |= _window_mask(sector, (x0, y0, x1, y1))
    return mask


def _window_mask(sector: Sector, window: tuple[int, int, int, int]) -> Mask:
    """As ``contains`` at the centres of pixels: left, top, right and bottom of a window within the sector's box.

    The pixels of a row lie between two places, and beside two others where the near arc crosses it, which takes a third
    of the time that testing each pixel takes.
    """
    left, top, right, bottom = window
    columns, rows = np.arange(left, right, dtype=np.float32) + 0.5, np.arange(top, bottom, dtype=np.float32) + 0.5
    if sector.parallel or max(map(abs, sector.angles)) > _STEEPEST:
        return contains(sector, columns, rows)
    at = [np.clip(np.ceil(place - left - 0.5), 0, right - left).astype(np.int32) for place in _crossed(sector, rows)]
    column = np.arange(right - left, dtype=np.int32)
    start, end, hole, hole_end = (place[:, None] for place in at)
    within = (column >= start) & (column < end)
    last = int(np.count_nonzero(rows < sector.apex[1] + sector.radii[0])) if sector.has_arcs else 0
    within[:last] &= (column < hole[:last]) | (column >= hole_end[:last])
    return within


def _crossed(sector: Sector, y: npt.NDArray[np.float32]) -> tuple[Floats, Floats, Floats, Floats]:
    """x where each row enters and leaves the sector, and where the near arc parts it; equal where it does not."""
    dy = y.astype(np.float64) - sector.apex[1]
    start, end = (sector.apex[0] + dy * math.tan(math.radians(angle)) for angle in sector.angles)
    if not sector.has_arcs:
        return start, end, start, start
    near, far = (np.sqrt(np.maximum(radius**2 - dy * dy, 0.0)) for radius in sector.radii)
    start, end = np.maximum(start, sector.apex[0] - far), np.minimum(end, sector.apex[0] + far)
    return start, end, sector.apex[0] - near, sector.apex[0] + near


def contains(sector: Sector, x: npt.NDArray[np.float32], y: npt.NDArray[np.float32]) -> Mask:
    """Shape [len(y), len(x)]: which points of a grid, in px, lie in a sector."""
    left, top, width, height = sector.box
    across, down = (x >= left) & (x < left + width), (y >= top) & (y < top + height)
    within = down[:, None] & across[None, :]
    if sector.parallel:
        return within
    dx, dy = (x - np.float32(sector.apex[0]))[None, :], (y - np.float32(sector.apex[1]))[:, None]
    if sector.has_arcs:
        square = dx * dx + dy * dy
        within &= (square >= np.float32(sector.radii[0] ** 2)) & (square <= np.float32(sector.radii[1] ** 2))
    # Sides as lines, which costs less than an angle for every pixel.
    for angle, sign in zip(sector.angles, (-1, 1), strict=True):
        sin, cos = math.sin(math.radians(angle)), math.cos(math.radians(angle))
        within &= sign * (dx * np.float32(cos) - dy * np.float32(sin)) <= 0
    return np.asarray(within)


def outline(sector: Sector) -> list[tuple[float, float]]:
    """The corners, (x, y) in px, of a polygon along a sector's edge; arcs in steps of at most two degrees."""
    x, y, width, height = sector.box
    corners = [(float(x), float(y)), (float(x + width), float(y)), (float(x + width), float(y + height)),
               (float(x), float(y + height))]  # fmt: skip
    if sector.parallel:
        return corners
    if not sector.has_arcs:
        for angle, sign in zip(sector.angles, (-1, 1), strict=True):
            across, down = sign * math.cos(math.radians(angle)), -sign * math.sin(math.radians(angle))
            corners = _cut(corners, across, down, across * sector.apex[0] + down * sector.apex[1])
        return corners
    left, right = sector.angles
    fan = [*_arc(sector, sector.radii[1], left, right), *_arc(sector, sector.radii[0], right, left)]
    for across, down, most in ((-1, 0, -x), (1, 0, x + width), (0, -1, -y), (0, 1, y + height)):
        fan = _cut(fan, across, down, most)
    return fan


def _arc(sector: Sector, radius: float, start: float, end: float) -> Iterator[tuple[float, float]]:
    steps = max(math.ceil(abs(end - start) / _ARC_STEP), 1) if radius > 0 else 0
    for step in range(steps + 1):
        angle = math.radians(start + (end - start) * step / max(steps, 1))
        yield sector.apex[0] + radius * math.sin(angle), sector.apex[1] + radius * math.cos(angle)


def _cut(corners: Sequence[tuple[float, float]], across: float, down: float, most: float) -> list[tuple[float, float]]:
    """The part of a polygon where ``across * x + down * y <= most`` (Sutherland and Hodgman, CACM 1974)."""
    kept: list[tuple[float, float]] = []
    beyond = [across * x + down * y - most for x, y in corners]
    for index, (x, y) in enumerate(corners):
        (x0, y0), before, here = corners[index - 1], beyond[index - 1], beyond[index]
        if (before <= 0) != (here <= 0):
            share = before / (before - here)
            kept.append((x0 + share * (x - x0), y0 + share * (y - y0)))
        if here <= 0:
            kept.append((x, y))
    return kept


def fan_kind(near: float, far: float) -> str:
    """``convex`` or ``phased``, by how far from the apex the beams start."""
    return "phased" if near < _PHASED_NEAR_MOST * far else "convex"


def iou(a: Mask, b: Mask) -> float:
    """Intersection over union; 1 where both are empty."""
    union = np.count_nonzero(a | b)
    return np.count_nonzero(a & b) / union if union else 1.0

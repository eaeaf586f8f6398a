"""The geometry of a sector: which pixels show ultrasound, and which beam and depth each of them comes from."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from sono.curation.phantom.scenes.shapes import Points
from sono.manifests.masks import Mask

Floats = npt.NDArray[np.float64]
Bytes = npt.NDArray[np.uint8]
Box = tuple[int, int, int, int]
"""x, y, width, height in px."""

DEPTHS, BEAMS = 448, 224
"""Samples along a beam, and beams in a sector."""


@dataclass(frozen=True)
class Sector:
    """The part of a screen that shows ultrasound.

    Attributes:
        kind: convex, phased or linear. A linear sector is a rectangle, or a trapezoid if its outer beams are steered.
        box: x, y, width, height in px of the screen; what lies outside it is not shown, and cuts a sector that is
            larger.
        apex: where the outer beams meet, in px of the screen; of a rectangle the middle of its upper side.
        half_angle: from the middle beam to the outermost, in degrees; 0 for a rectangle.
        near, far: distances of first and last echo from the apex, in px (for linear straight down).
        mm_per_px: of the screen, in both directions.
    """

    kind: str
    box: Box
    apex: tuple[float, float]
    half_angle: float
    near: float
    far: float
    mm_per_px: float

    @property
    def depth_mm(self) -> float:
        return (self.far - self.near) * self.mm_per_px

    @property
    def parallel(self) -> bool:
        """Whether all beams run straight down: a rectangle."""
        return self.half_angle == 0

    def cut(self, area: Box) -> Sector:
        """What of it an area of the screen shows."""
        left, top = max(self.box[0], area[0]), max(self.box[1], area[1])
        right = min(self.box[0] + self.box[2], area[0] + area[2])
        bottom = min(self.box[1] + self.box[3], area[1] + area[3])
        return replace(self, box=(left, top, right - left, bottom - top))

    def moved(self, x: int, y: int) -> Sector:
        left, top, width, height = self.box
        return replace(self, box=(left + x, top + y, width, height), apex=(self.apex[0] + x, self.apex[1] + y))

    def inside(self) -> Mask:
        """Shape [height, width] of ``box``: which of its pixels show ultrasound."""
        return sampling_grid(self).inside

    def beam_coordinates(self, x: Floats, y: Floats) -> tuple[Floats, Floats]:
        """Depth from 0 to 1 and position across from -1 to 1 of points in px of ``box``; echoes lie within these."""
        dx, dy = x - (self.apex[0] - self.box[0]), y - (self.apex[1] - self.box[1])
        if self.parallel:
            return (dy - self.near) / (self.far - self.near), dx / (self.box[2] / 2)
        distance = dy if self.kind == "linear" else np.sqrt(dx**2 + dy**2)
        return (distance - self.near) / (self.far - self.near), np.arctan2(dx, dy) / math.radians(self.half_angle)

    def point(self, depth: float, across: float) -> tuple[float, float]:
        """px in ``box`` of a depth from 0 (near) to 1 (far) and a position across from -1 (left) to 1 (right)."""
        x0, y0 = self.apex[0] - self.box[0], self.apex[1] - self.box[1]
        distance, angle = self.near + depth * (self.far - self.near), math.radians(self.half_angle * across)
        if self.parallel:
            return x0 + across * self.box[2] / 2, y0 + distance
        if self.kind == "linear":
            return x0 + distance * math.tan(angle), y0 + distance
        return x0 + distance * math.sin(angle), y0 + distance * math.cos(angle)


def fan(kind: str, width: int, height: int, half_angle: float, probe_radius_mm: float, depth_mm: float) -> Sector:
    """The largest convex or phased sector of that depth that fits into the area, at its upper left corner."""
    sin, cos = math.sin(math.radians(half_angle)), math.cos(math.radians(half_angle))
    widest = 2 * (probe_radius_mm + depth_mm) * sin
    tallest = probe_radius_mm + depth_mm - probe_radius_mm * cos
    mm_per_px = max(widest / (width - 2), tallest / (height - 2))
    near, far = probe_radius_mm / mm_per_px, (probe_radius_mm + depth_mm) / mm_per_px
    box_width, box_height = math.ceil(widest / mm_per_px) + 1, math.ceil(tallest / mm_per_px) + 1
    return Sector(
        kind, (0, 0, box_width, box_height), (box_width / 2, 0.5 - near * cos), half_angle, near, far, mm_per_px
    )


def rectangle(width: int, height: int, width_mm: float, depth_mm: float) -> Sector:
    """The largest linear sector of that size that fits into the area, at its upper left corner."""
    mm_per_px = max(width_mm / width, depth_mm / height)
    box = (0, 0, round(width_mm / mm_per_px), round(depth_mm / mm_per_px))
    return Sector("linear", box, (box[2] / 2, 0.0), 0.0, 0.0, float(box[3]), mm_per_px)


def trapezoid(width: int, height: int, face_mm: float, half_angle: float, depth_mm: float) -> Sector:
    """The largest linear sector with steered outer beams that fits into the area, at its upper left corner.

    ``face_mm`` is the length of the probe, ``half_angle`` how far its outermost beams are steered, in degrees.
    """
    slope = math.tan(math.radians(half_angle))
    widest = face_mm + 2 * depth_mm * slope
    mm_per_px = max(widest / width, depth_mm / height)
    near = face_mm / 2 / slope / mm_per_px
    box = (0, 0, round(widest / mm_per_px), round(depth_mm / mm_per_px))
    return Sector("linear", box, (box[2] / 2, -near), half_angle, near, near + box[3], mm_per_px)


@dataclass(frozen=True)
class Pose:
    """Where the scene is: its middle in px of the sector's box, turned clockwise by ``degrees``, perhaps mirrored."""

    x: float
    y: float
    degrees: float
    flipped: bool
    px_per_mm: float

    def px(self, points: Points) -> Floats:
        """From mm of the scene to px of the box."""
        angle = math.radians(self.degrees)
        cos, sin = math.cos(angle), math.sin(angle)
        x = -points[:, 0] if self.flipped else points[:, 0]
        y = points[:, 1]
        return np.stack(
            [self.x + self.px_per_mm * (x * cos - y * sin), self.y + self.px_per_mm * (x * sin + y * cos)], axis=1
        )


@dataclass(frozen=True)
class SamplingGrid:
    """Which pixel each sample of each beam reads, and which samples each pixel is interpolated from."""

    sample: npt.NDArray[np.int64]  # [depths, beams]: flat index into the box
    inside: Mask  # [height, width]
    base: npt.NDArray[np.int32]  # [pixels inside]: flat index into [depths, beams] of the upper left neighbour
    down: npt.NDArray[np.float32]  # [pixels inside]: weight of the lower neighbours
    right: npt.NDArray[np.float32]


def sampling_grid(sector: Sector) -> SamplingGrid:
    """Computed once for all sectors of one shape, wherever they are on the screen."""
    return _grid_at_origin(sector.moved(-sector.box[0], -sector.box[1]))


@functools.lru_cache(maxsize=24)
def _grid_at_origin(sector: Sector) -> SamplingGrid:
    width, height = sector.box[2:]
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float64)
    depth, across = sector.beam_coordinates(columns + 0.5, rows + 0.5)
    inside = np.asarray((depth >= 0) & (depth <= 1) & (np.abs(across) <= 1), dtype=np.bool_)
    i = depth[inside] * (DEPTHS - 1)
    j = (across[inside] + 1) / 2 * (BEAMS - 1)
    row, column = np.minimum(i.astype(np.int32), DEPTHS - 2), np.minimum(j.astype(np.int32), BEAMS - 2)
    beam_x, beam_y = _beams(sector)
    sample = np.clip(np.floor(beam_y), 0, height - 1).astype(np.int64) * width + np.clip(
        np.floor(beam_x), 0, width - 1
    ).astype(np.int64)
    return SamplingGrid(
        sample, inside, row * BEAMS + column, (i - row).astype(np.float32), (j - column).astype(np.float32)
    )


def _beams(sector: Sector) -> tuple[Floats, Floats]:
    """px in the box of every sample, each [depths, beams]."""
    x0, y0 = sector.apex[0] - sector.box[0], sector.apex[1] - sector.box[1]
    distance = np.linspace(sector.near, sector.far, DEPTHS)[:, None]
    across = np.linspace(-1, 1, BEAMS)[None, :]
    ones = np.ones((DEPTHS, BEAMS))
    if sector.parallel:
        return x0 + across * (sector.box[2] / 2) * ones, (y0 + distance) * ones
    angles = math.radians(sector.half_angle) * across
    if sector.kind == "linear":
        return x0 + distance * np.tan(angles), (y0 + distance) * ones
    return x0 + distance * np.sin(angles), y0 + distance * np.cos(angles)


def scan_convert(samples: Floats, grid: SamplingGrid) -> Bytes:
    """Grey levels by [depth, beam] as an image of the sector's box, 0 outside the sector."""
    flat = samples.ravel()
    base = grid.base
    upper = flat[base] * (1 - grid.right) + flat[base + 1] * grid.right
    lower = flat[base + BEAMS] * (1 - grid.right) + flat[base + BEAMS + 1] * grid.right
    image = np.zeros(grid.inside.shape, np.uint8)
    image[grid.inside] = np.rint(upper * (1 - grid.down) + lower * grid.down).astype(np.uint8)
    return image

"""From shapes to the grey levels of a sector: drawn in the probe's coordinates, as a scanner sees them.

Along every beam the tissue's scatter is multiplied by complex Gaussian noise and blurred by a point spread that widens
away from the focus, which gives Rayleigh-distributed speckle (Wagner RF et al., IEEE Trans Sonics Ultrason
1983;30:156-63); surfaces add a mirror-like echo where the beam meets them at a right angle; what lies in front takes
its share (shadow behind bone, enhancement behind fluid). Then gain over depth, log compression, and scan conversion.

All of it is computed in 64 bits: processors differ in the last bits of a result, and only so do these never reach the
8 bits of a grey level, so that a seed gives the same bytes on any machine.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
import numpy.typing as npt

from sono.curation.phantom.scenes.shapes import Points, Shape
from sono.manifests.masks import Mask

Floats = npt.NDArray[np.float64]
Bytes = npt.NDArray[np.uint8]
Box = tuple[int, int, int, int]

DEPTHS, BEAMS = 448, 224
WHITE_DB = 25.0
"""The level that is white at a gain of 0, against soft tissue of amplitude 1."""
_SUBPIXEL_BITS = 4


@dataclass(frozen=True)
class Sector:
    """The part of a screen that shows ultrasound.

    Attributes:
        kind: convex, phased or linear.
        box: x, y, width, height in px of the screen.
        apex: where the outer beams meet, in px of the screen; of a linear sector the middle of its upper side.
        half_angle: from the middle beam to the outermost, in degrees; 0 for linear.
        near, far: distances of first and last echo from the apex, in px (for linear from its upper side).
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

    def moved(self, x: int, y: int) -> Sector:
        left, top, width, height = self.box
        return replace(self, box=(left + x, top + y, width, height), apex=(self.apex[0] + x, self.apex[1] + y))

    def inside(self) -> Mask:
        """Shape [height, width] of ``box``: which of its pixels show ultrasound."""
        return _geometry(self).inside

    def beam_coordinates(self, x: Floats, y: Floats) -> tuple[Floats, Floats]:
        """Depth from 0 to 1 and position across from -1 to 1 of points in px of ``box``; beyond these lies no echo."""
        dx, dy = x - (self.apex[0] - self.box[0]), y - (self.apex[1] - self.box[1])
        if self.kind == "linear":
            return (dy - self.near) / (self.far - self.near), dx / (self.box[2] / 2)
        radius = np.sqrt(dx**2 + dy**2)
        return (radius - self.near) / (self.far - self.near), np.arctan2(dx, dy) / math.radians(self.half_angle)

    def point(self, depth: float, across: float) -> tuple[float, float]:
        """px in ``box`` of a depth from 0 (near) to 1 (far) and a position across from -1 (left) to 1 (right)."""
        x0, y0 = self.apex[0] - self.box[0], self.apex[1] - self.box[1]
        if self.kind == "linear":
            return x0 + across * self.box[2] / 2, y0 + self.near + depth * (self.far - self.near)
        radius, angle = self.near + depth * (self.far - self.near), math.radians(self.half_angle * across)
        return x0 + radius * math.sin(angle), y0 + radius * math.cos(angle)


def fan(kind: str, width: int, height: int, half_angle: float, probe_radius_mm: float, depth_mm: float) -> Sector:
    """The largest convex or phased sector of that depth in an area of that many px, at its upper left corner."""
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
    """The largest linear sector of that size in an area of that many px, at its upper left corner."""
    mm_per_px = max(width_mm / width, depth_mm / height)
    box = (0, 0, round(width_mm / mm_per_px), round(depth_mm / mm_per_px))
    return Sector("linear", box, (box[2] / 2, 0.0), 0.0, 0.0, float(box[3]), mm_per_px)


@dataclass(frozen=True)
class Settings:
    """How a scanner is set.

    Attributes:
        gain_db: of everything.
        range_db: from black to white.
        noise_db: electronic noise at the near end, against soft tissue; it is amplified with depth.
        axial_mm: length of the pulse, as a standard deviation.
        lateral_beams: width of a beam at the focus, as a standard deviation, in beams.
        focus: depth of the focus, from 0 to 1.
        compensation_db_mm: by how much echoes are amplified for every millimetre of depth.
        gamma: of the grey map; below 1 it lifts the middle.
        looks: images averaged from different angles (spatial compounding): more is smoother.
    """

    gain_db: float = 0.0
    range_db: float = 60.0
    noise_db: float = -62.0
    axial_mm: float = 0.24
    lateral_beams: float = 1.0
    focus: float = 0.5
    compensation_db_mm: float = 0.11
    gamma: float = 1.0
    looks: int = 1


@dataclass(frozen=True)
class Pose:
    """Where the scene stands: its middle in px of the sector's box, turned clockwise, with left and right exchanged."""

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
class Surroundings:
    """The mother around the fetus, by depth along each beam, from 0 to 1: shape [beams] each.

    Attributes:
        wall: where the abdominal wall ends and the uterus begins.
        fluid: where the fluid begins.
        back: where it ends.
        placenta: thickness of the placenta on the front wall (positive) or the back wall (negative).
    """

    wall: Floats
    fluid: Floats
    back: Floats
    placenta: Floats


@dataclass(frozen=True)
class Drawing:
    """Shapes on the pixels of a sector's box."""

    tissues: Bytes  # [height, width]: 0 for what surrounds the fetus, else the number of the shape's tissue + 1
    rims: Bytes  # [height, width]: dB above -40, 0 where there is no surface
    echo_db: Floats  # by tissue number
    loss_db_mm: Floats


def draw(shapes: Sequence[Shape], pose: Pose, sector: Sector) -> Drawing:
    """Fill shapes in their order, and trace the surfaces that face the probe."""
    height, width = sector.box[3], sector.box[2]
    tissues, rims = np.zeros((height, width), np.uint8), np.zeros((height, width), np.uint8)
    drawn = list(dict.fromkeys(shape.tissue for shape in shapes if shape.tissue is not None))
    numbers = {tissue: number for number, tissue in enumerate(drawn, 1)}
    for shape in shapes:
        if shape.tissue is None:
            continue
        points = pose.px(shape.outline)
        corners = _fixed(points)
        cv2.fillPoly(tissues, [corners], numbers[shape.tissue], shift=_SUBPIXEL_BITS)
        cv2.fillPoly(rims, [corners], 0, shift=_SUBPIXEL_BITS)
        if shape.tissue.rim_db is not None:
            _trace(
                rims, points, corners, shape.tissue.rim_db, max(1, round(shape.tissue.rim_mm * pose.px_per_mm)), sector
            )
    return Drawing(
        tissues,
        rims,
        np.array([0.0, *(tissue.echo_db for tissue in drawn)]),
        np.array([0.0, *(tissue.loss_db_mm for tissue in drawn)]),
    )


def outline_mask(outlines: Sequence[Points], pose: Pose, sector: Sector) -> Mask:
    """Shape [height, width] of the sector's box: the union of the outlines, as far as the sector shows them."""
    filled = np.zeros((sector.box[3], sector.box[2]), np.uint8)
    for outline in outlines:
        cv2.fillPoly(filled, [_fixed(pose.px(outline))], 1, shift=_SUBPIXEL_BITS)
    return np.asarray((filled != 0) & sector.inside(), dtype=np.bool_)


def visible_share(outlines: Sequence[Points], pose: Pose, sector: Sector) -> float:
    """The share of the outlines' points that lie in the sector."""
    points = np.concatenate([pose.px(outline) for outline in outlines])
    depth, across = sector.beam_coordinates(points[:, 0], points[:, 1])
    return float(np.mean((depth >= 0) & (depth <= 1) & (np.abs(across) <= 1)))


def insonify(
    drawing: Drawing, around: Surroundings, sector: Sector, settings: Settings, random: np.random.Generator
) -> Bytes:
    """Grey levels of the sector's box, shape [height, width]; exactly 0 outside the sector."""
    geometry = _geometry(sector)
    tissue = drawing.tissues.ravel()[geometry.sample]
    step_mm = sector.depth_mm / (DEPTHS - 1)
    echo_db, loss_db_mm, surface_db = _mother(around, step_mm, random)
    fetal = tissue > 0
    echo_db = np.where(fetal, drawing.echo_db[tissue], echo_db) + _unevenness(random)
    loss_db_mm = np.where(fetal, drawing.loss_db_mm[tissue], loss_db_mm)
    rims = drawing.rims.ravel()[geometry.sample]
    mirror_db = np.where(rims > 0, rims - 40.0, np.where(fetal, -90.0, surface_db))

    depth_mm = np.arange(DEPTHS)[:, None] * step_mm
    travelled_db = np.cumsum(loss_db_mm, axis=0) * step_mm
    amplified_db = settings.compensation_db_mm * depth_mm - travelled_db
    scatter = _amplitude(np.asarray(echo_db + amplified_db, dtype=np.float64))
    mirror = _amplitude(mirror_db + amplified_db)
    noise = _amplitude(np.asarray(settings.noise_db + 1.15 * settings.compensation_db_mm * depth_mm, dtype=np.float64))

    power = np.zeros((DEPTHS, BEAMS))
    for _ in range(settings.looks):
        real, imaginary = random.standard_normal((2, DEPTHS, BEAMS))
        blurred_real = _spread(real * scatter, settings, step_mm) + _surfaces(mirror, settings, step_mm)
        blurred_imaginary = _spread(imaginary * scatter, settings, step_mm)
        real, imaginary = random.standard_normal((2, DEPTHS, BEAMS)) * noise
        power += (blurred_real + real) ** 2 + (blurred_imaginary + imaginary) ** 2
    level_db = 10 * np.log10(power / settings.looks + 1e-12) + settings.gain_db
    level = np.clip(1 + (level_db - WHITE_DB) / settings.range_db, 0.0, 1.0) ** settings.gamma
    return _scan_convert(255.0 * level, geometry)


@dataclass(frozen=True)
class _Geometry:
    """Which pixel each sample of each beam reads, and which samples each pixel is interpolated from."""

    sample: npt.NDArray[np.int64]  # [depths, beams]: flat index into the box
    inside: Mask  # [height, width]
    base: npt.NDArray[np.int32]  # [pixels inside]: flat index into [depths, beams] of the upper left neighbour
    down: npt.NDArray[np.float32]  # [pixels inside]: weight of the lower neighbours
    right: npt.NDArray[np.float32]


@functools.lru_cache(maxsize=24)
def _shape(sector: Sector) -> _Geometry:
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
    return _Geometry(
        sample, inside, row * BEAMS + column, (i - row).astype(np.float32), (j - column).astype(np.float32)
    )


def _geometry(sector: Sector) -> _Geometry:
    """Where the sector stands on the screen does not matter here, so that equal ones share what was computed."""
    return _shape(sector.moved(-sector.box[0], -sector.box[1]))


def _beams(sector: Sector) -> tuple[Floats, Floats]:
    """px in the box of every sample, each [depths, beams]."""
    x0, y0 = sector.apex[0] - sector.box[0], sector.apex[1] - sector.box[1]
    distance = np.linspace(sector.near, sector.far, DEPTHS)[:, None]
    across = np.linspace(-1, 1, BEAMS)[None, :]
    if sector.kind == "linear":
        ones = np.ones((DEPTHS, BEAMS))
        return x0 + across * (sector.box[2] / 2) * ones, (y0 + distance) * ones
    angles = math.radians(sector.half_angle) * across
    return x0 + distance * np.sin(angles), y0 + distance * np.cos(angles)


def _scan_convert(polar: Floats, geometry: _Geometry) -> Bytes:
    flat = polar.ravel()
    base = geometry.base
    upper = flat[base] * (1 - geometry.right) + flat[base + 1] * geometry.right
    lower = flat[base + BEAMS] * (1 - geometry.right) + flat[base + BEAMS + 1] * geometry.right
    image = np.zeros(geometry.inside.shape, np.uint8)
    image[geometry.inside] = np.rint(upper * (1 - geometry.down) + lower * geometry.down).astype(np.uint8)
    return image


def _fixed(points: Floats) -> npt.NDArray[np.int32]:
    """Fixed-point corners for OpenCV, whose integer arithmetic is the same everywhere."""
    return np.rint(np.clip(points, -4000, 4000) * (1 << _SUBPIXEL_BITS)).astype(np.int32)


def _trace(
    rims: Bytes, points: Floats, corners: npt.NDArray[np.int32], rim_db: float, thickness: int, sector: Sector
) -> None:
    """A surface is brightest where its normal points along the beam, and nearly gone where it runs with the beam."""
    ends = np.roll(points, -1, axis=0)
    along = ends - points
    middle = (points + ends) / 2
    beam = middle - np.array([sector.apex[0] - sector.box[0], sector.apex[1] - sector.box[1]])
    if sector.kind == "linear":
        beam = np.broadcast_to([0.0, 1.0], beam.shape)
    lengths = np.hypot(along[:, 0], along[:, 1]) * np.hypot(beam[:, 0], beam[:, 1])
    facing = np.abs(along[:, 0] * beam[:, 1] - along[:, 1] * beam[:, 0]) / np.maximum(lengths, 1e-9)
    levels = np.rint(40 + rim_db - 22 * (1 - facing) ** 1.5).astype(int)
    for start, end, level in zip(corners.tolist(), np.roll(corners, -1, axis=0).tolist(), levels.tolist(), strict=True):
        cv2.line(rims, start, end, max(level, 1), thickness, shift=_SUBPIXEL_BITS)


def _mother(around: Surroundings, step_mm: float, random: np.random.Generator) -> tuple[Floats, Floats, Floats]:
    """Echo, loss and surfaces of what lies around the fetus, each [depths, beams]."""
    depth = np.linspace(0, 1, DEPTHS)[:, None]
    wall, fluid, back = (line[None, :] for line in (around.wall, around.fluid, around.back))
    placenta = around.placenta[None, :]
    layer = depth / np.maximum(wall, 1e-6)
    fascia = np.maximum.reduce(
        [np.exp(-(((layer - place) / 0.035) ** 2)) for place in (0.12, random.uniform(0.4, 0.5), 0.78, 0.97)]
    )
    echo = np.full((DEPTHS, BEAMS), -46.0)
    echo = np.where(depth < wall, -8.0 + 17.0 * fascia, echo)
    echo = np.where((depth >= wall) & (depth < fluid), -3.0, echo)
    front = (depth >= fluid) & (depth < fluid + np.maximum(placenta, 0))
    rear = (depth <= back) & (depth > back + np.minimum(placenta, 0))
    echo = np.where(front | rear, 0.5, echo)
    echo = np.where(depth > back, -4.0, echo)
    loss = np.where(echo > -40, 0.16, 0.0)
    near_field = 10.0 * np.exp(-((depth / 0.02) ** 2))
    surface = np.full((DEPTHS, BEAMS), -90.0)
    thickness = 0.8 / (step_mm * DEPTHS)
    for line, level in ((fluid, 6.0), (back, 10.0)):
        surface = np.where(np.abs(depth - line) < thickness, level, surface)
    return echo + near_field, loss, surface


def _unevenness(random: np.random.Generator) -> Floats:
    """Tissue is not the same everywhere: slow waves of a few dB, shape [depths, beams]."""
    return _waves(random, 14, 9) * 1.6 + _waves(random, 56, 30) * 1.0


def _waves(random: np.random.Generator, rows: int, columns: int) -> Floats:
    grid = random.standard_normal((rows, columns))
    i, j = np.linspace(0, rows - 1, DEPTHS), np.linspace(0, columns - 1, BEAMS)
    r, c = np.minimum(i.astype(int), rows - 2), np.minimum(j.astype(int), columns - 2)
    down, right = (i - r)[:, None], (j - c)[None, :]
    tall = grid[r] * (1 - down) + grid[r + 1] * down
    return np.asarray(tall[:, c] * (1 - right) + tall[:, c + 1] * right)


def _amplitude(level_db: Floats) -> Floats:
    return np.asarray(np.exp(level_db * (math.log(10) / 20)))


def _spread(field: Floats, settings: Settings, step_mm: float) -> Floats:
    """The point spread: as long as the pulse everywhere, narrow at the focus and wider away from it.

    Normalised so that noise keeps its power.
    """
    axial = _gaussian(settings.axial_mm / step_mm)
    narrow, wide = _gaussian(settings.lateral_beams), _gaussian(2.2 * settings.lateral_beams)
    short = cv2.sepFilter2D(field, cv2.CV_64F, narrow / np.sqrt(np.sum(narrow**2)), axial / np.sqrt(np.sum(axial**2)))
    long = cv2.sepFilter2D(field, cv2.CV_64F, wide / np.sqrt(np.sum(wide**2)), axial / np.sqrt(np.sum(axial**2)))
    away = np.clip(np.abs(np.linspace(0, 1, DEPTHS) - settings.focus) / 0.6, 0, 1)[:, None] ** 1.5
    reach = (len(wide) - len(narrow)) // 2
    alike = np.sum(narrow * wide[reach : reach + len(narrow)]) / np.sqrt(np.sum(narrow**2) * np.sum(wide**2))
    power = 1 + 2 * alike * np.sqrt(away * (1 - away))
    return np.asarray((short * np.sqrt(1 - away) + long * np.sqrt(away)) / np.sqrt(power))


def _surfaces(mirror: Floats, settings: Settings, step_mm: float) -> Floats:
    return np.asarray(
        cv2.sepFilter2D(mirror, cv2.CV_64F, _gaussian(settings.lateral_beams), _gaussian(settings.axial_mm / step_mm))
    )


def _gaussian(sigma: float) -> Floats:
    reach = max(1, math.ceil(2.5 * sigma))
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / max(sigma, 1e-6)) ** 2)
    return np.asarray(weights / weights.sum())

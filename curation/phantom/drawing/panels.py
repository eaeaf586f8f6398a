"""Where the scenes of one image are on its screen: sector, depth and pose."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import numpy as np

from sono.curation.phantom.anatomy import Fetus
from sono.curation.phantom.hospitals import Scanner
from sono.curation.phantom.image_plans import ImagePlan
from sono.curation.phantom.scenes.by_plane import SCENES
from sono.curation.phantom.scenes.shapes import Scene

from .outlines import visible_share
from .screen import Layout
from .sector import BEAMS, Box, Floats, Pose, Sector, fan, rectangle, trapezoid
from .speckle import Settings, Surroundings

SECTOR_SHARES = {"m_mode": {"below": 0.58, "beside": 0.46}, "spectral": {"below": 0.5, "beside": 0.42}}
"""Of the area with a sector and a trace, what the sector has, by where the trace is."""

MULTIPLANAR_SHARE = 0.35
"""Of renderings with the planes through their volume."""


@dataclass(frozen=True)
class Panel:
    """One scanned scene on a screen: a dual screen has two."""

    scene: Scene
    sector: Sector
    pose: Pose
    around: Surroundings
    settings: Settings

    def moved(self, by: Floats) -> Pose:
        """The pose after the fetus has moved by px to the right, px down, and degrees."""
        return dataclasses.replace(
            self.pose, x=self.pose.x + by[0], y=self.pose.y + by[1], degrees=self.pose.degrees + by[2]
        )


def place_panels(
    fetus: Fetus, image: ImagePlan, scanner: Scanner, layout: Layout, random: np.random.Generator
) -> list[Panel]:
    """One panel; two side by side on a dual screen; with a rendering none, or the three planes through its volume."""
    panels: list[Panel] = []
    for area in _areas(layout, image.mode, random):
        given = panels[0].sector.moved(area[0] - layout.area[0], area[1] - layout.area[1]) if panels else None
        panels.append(_panel(fetus, image, scanner, area, given, random))
    return panels


def rendering_area(layout: Layout, *, with_planes: bool) -> Box:
    """The area of a rendering: all of the screen's, or the quarter that the planes leave."""
    return _quarters(layout)[3] if with_planes else layout.area


def _areas(layout: Layout, mode: str, random: np.random.Generator) -> list[Box]:
    x, y, width, height = layout.area
    if mode == "dual":
        half = width // 2 - 6
        return [(x, y, half, height), (x + width - half, y, half, height)]
    if mode in SECTOR_SHARES:
        share = SECTOR_SHARES[mode][layout.trace]
        beside = layout.trace == "beside"
        return [(x, y, int(share * width), height) if beside else (x, y, width, int(share * height))]
    if mode == "volume":
        return _quarters(layout)[:3] if random.random() < MULTIPLANAR_SHARE else []
    return [layout.area]


def _quarters(layout: Layout) -> list[Box]:
    x, y, width, height = layout.area
    half = (width // 2 - 4, height // 2 - 4)
    return [
        (x + right * (width - half[0]), y + down * (height - half[1]), *half) for down in (0, 1) for right in (0, 1)
    ]


def _panel(
    fetus: Fetus, image: ImagePlan, scanner: Scanner, area: Box, given: Sector | None, random: np.random.Generator
) -> Panel:
    """``given`` is the sector if the scene may not choose it: both halves of a dual screen have the same depth."""
    scene = SCENES[image.plane](fetus, random)
    probe = "reslice" if image.mode == "volume" else image.probe
    turn, flipped = random.uniform(-scene.turn, scene.turn), bool(random.random() < 0.5)
    across, deeper = random.uniform(-0.12, 0.12), random.uniform(-0.05, 0.05)
    zoom = random.uniform(1.0, 1.25)
    place = (scene.depth + deeper, across)
    if given is None:
        sector, pose = _zoomed(scene, probe, scanner, area, turn, flipped, place, zoom)
    else:
        sector, pose = given, Pose(*given.point(*place), turn, flipped, 1 / given.mm_per_px)
    return Panel(scene, sector, pose, _surroundings(random, sector), _settings(scanner, image, sector, random))


def _zoomed(
    scene: Scene,
    probe: str,
    scanner: Scanner,
    area: Box,
    turn: float,
    flipped: bool,
    place: tuple[float, float],
    zoom: float,
) -> tuple[Sector, Pose]:
    """The shallowest depth, in steps of a centimetre, that shows nearly all of the scene's structures."""
    outlines = [outline for found in scene.structures.values() for outline in found]
    depth_mm = 30.0
    while True:
        sector = _sector(probe, scanner, area, depth_mm)
        pose = Pose(*sector.point(*place), turn, flipped, 1 / sector.mm_per_px)
        wide = dataclasses.replace(pose, px_per_mm=zoom * 1.08 / sector.mm_per_px)
        if visible_share(outlines, wide, sector) > 0.97 or depth_mm >= 240:
            return sector, pose
        depth_mm += 10.0


def _sector(probe: str, scanner: Scanner, area: Box, depth_mm: float) -> Sector:
    x, y, width, height = area
    wide, tall = round(width * scanner.overscan[0]), round(height * scanner.overscan[1])
    if probe == "reslice":
        sector = rectangle(width, height, depth_mm * width / height, depth_mm)
    elif probe == "linear":
        sector = rectangle(width, height, min(max(0.9 * depth_mm, 38.0), 60.0) if depth_mm < 60 else depth_mm, depth_mm)
    elif probe == "trapezoid":
        sector = trapezoid(width, height, min(max(0.7 * depth_mm, 38.0), 60.0), scanner.steered, depth_mm)
    else:
        half_angle, radius_mm = scanner.phased if probe == "phased" else scanner.convex
        sector = fan(probe, wide, tall, half_angle, radius_mm, depth_mm)
    left, top = (width - sector.box[2]) // 2, max(height - sector.box[3], 0) // 4  # a cut sector begins at the top
    return sector.moved(x + left, y + top).cut(area)


def _surroundings(random: np.random.Generator, sector: Sector) -> Surroundings:
    across = np.linspace(-1, 1, BEAMS)

    def wave(size: float) -> Floats:
        return np.asarray(size * np.cos(across * random.uniform(0.8, 3.0) + random.uniform(0, 2 * math.pi)))

    wall = np.clip(random.uniform(9, 17) / sector.depth_mm + wave(0.012), 0.04, 0.24)
    fluid = wall + np.clip(random.uniform(3, 6) / sector.depth_mm + wave(0.012), 0.01, 0.1)
    back = np.clip(random.uniform(0.84, 0.95) + wave(0.03), fluid + 0.3, 1.1)
    thickness = np.clip(random.uniform(0, 20) / sector.depth_mm * (0.4 + wave(0.8)), 0, 0.16)
    return Surroundings(wall, fluid, back, thickness * random.choice([-1.0, 1.0]))


def _settings(scanner: Scanner, image: ImagePlan, sector: Sector, random: np.random.Generator) -> Settings:
    return Settings(
        gain_db=scanner.gain_db + image.gain_db,
        range_db=scanner.range_db,
        noise_db=scanner.noise_db,
        axial_mm=0.16 + 0.0009 * sector.depth_mm,
        lateral_beams=0.8 if sector.kind == "linear" else 1.0,
        focus=float(random.uniform(0.4, 0.65)),
        compensation_db_mm=0.11,
        gamma=scanner.gamma,
        looks=scanner.looks,
    )

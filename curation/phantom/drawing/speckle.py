"""From tissues to the grey levels of a sector, computed in the probe's coordinates, as a scanner sees them.

Along every beam the tissue's scatter is multiplied by complex Gaussian noise and blurred by a point spread that widens
away from the focus, which gives Rayleigh-distributed speckle (Wagner RF et al., IEEE Trans Sonics Ultrason
1983;30:156-63); surfaces add a mirror-like echo where the beam meets them at a right angle; what lies in front takes
its share (shadow behind bone, enhancement behind fluid). Then gain over depth, log compression, and scan conversion.

All of it is computed in 64 bits: processors differ in the last bits of a result, and in 64 bits these never reach the
8 bits of a grey level, so a seed gives the same bytes on any machine.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

from .outlines import TissueMap
from .sector import BEAMS, DEPTHS, Bytes, Floats, Sector, sampling_grid, scan_convert

WHITE_DB = 25.0
"""The level that is white at a gain of 0, against soft tissue of amplitude 1."""


@dataclass(frozen=True)
class Settings:
    """A scanner's settings.

    Attributes:
        gain_db: added to every echo.
        range_db: from black to white.
        noise_db: electronic noise at the near end, against soft tissue; it is amplified with depth.
        axial_mm: length of the pulse, as a standard deviation.
        lateral_beams: width of a beam at the focus, as a standard deviation, in beams.
        focus: depth of the focus, from 0 to 1.
        compensation_db_mm: by how much echoes are amplified for every millimetre of depth.
        gamma: of the grey map; below 1 brightens the middle greys.
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


def insonify(
    tissue_map: TissueMap, around: Surroundings, sector: Sector, settings: Settings, random: np.random.Generator
) -> Bytes:
    """Grey levels of the sector's box, shape [height, width]; exactly 0 outside the sector."""
    grid = sampling_grid(sector)
    tissue = tissue_map.numbers.ravel()[grid.sample]
    step_mm = sector.depth_mm / (DEPTHS - 1)
    echo_db, loss_db_mm, surface_db = _surroundings_db(around, step_mm, random)
    fetal = tissue > 0
    echo_db = np.where(fetal, tissue_map.echo_db[tissue], echo_db) + _unevenness(random)
    loss_db_mm = np.where(fetal, tissue_map.loss_db_mm[tissue], loss_db_mm)
    rims = tissue_map.rims.ravel()[grid.sample]
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
    return scan_convert(255.0 * level, grid)


def _surroundings_db(
    around: Surroundings, step_mm: float, random: np.random.Generator
) -> tuple[Floats, Floats, Floats]:
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
    """Tissue varies slowly by a few dB, shape [depths, beams]."""
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

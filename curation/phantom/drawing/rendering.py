"""3-D rendering: the lit surface of a fetal part, from a volume that the probe swept.

The surface is a height over the screen: smooth bodies joined where they meet, roughened as speckle roughens a real
surface, lit from one side, and coloured like skin as scanners do. A face, a hand, or the entire fetus; it looks like
one from a distance, and no plane or measurement can be told from it.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import cv2
import numpy as np

from .sector import Bytes, Floats

PALETTES = {
    "sepia": ((0.0, 0.0, 0.0), (0.42, 0.22, 0.1), (0.86, 0.6, 0.36), (1.0, 0.92, 0.76)),
    "skin": ((0.03, 0.0, 0.0), (0.5, 0.2, 0.14), (0.92, 0.62, 0.5), (1.0, 0.93, 0.88)),
    "gold": ((0.0, 0.0, 0.0), (0.5, 0.34, 0.05), (0.9, 0.72, 0.25), (1.0, 0.97, 0.8)),
    "grey": ((0.0, 0.0, 0.0), (0.33, 0.33, 0.33), (0.7, 0.7, 0.7), (1.0, 1.0, 1.0)),
    "blue": ((0.0, 0.0, 0.02), (0.12, 0.24, 0.4), (0.45, 0.66, 0.85), (0.92, 0.97, 1.0)),
}
"""Colours from dark to bright, each as shares of red, green and blue."""

_NOTHING = -1e3

Body = tuple[float, float, float, float, float, float]
"""x, y of the middle, half widths along and across, degrees clockwise, and height towards the viewer."""


def draw_rendering(width: int, height: int, random: np.random.Generator) -> Bytes:
    """A rendering of that size in px, RGB [height, width, 3], black where there is no surface."""
    part = _PARTS[int(random.integers(len(_PARTS)))]
    x, y = _coordinates(width, height, random.uniform(-0.6, 0.6), zoom=random.uniform(0.75, 1.05))
    surface = np.maximum(part(x, y, random), _debris(x, y, random))
    if random.random() < 0.5:
        surface = np.maximum(surface, _wall(height, width, random))
    solid = surface > _NOTHING / 2
    surface = cv2.GaussianBlur(np.where(solid, surface, -0.1), (0, 0), 0.006 * min(width, height))
    light = _lit(surface + _roughness(height, width, random), min(width, height), random)
    light = light * cv2.GaussianBlur(solid.astype(np.float64), (0, 0), 1.2)
    palette = list(PALETTES)[int(random.choice(len(PALETTES), p=[0.42, 0.2, 0.16, 0.12, 0.1]))]
    stops = np.array(PALETTES[palette])
    colors = np.stack([np.interp(light, np.linspace(0, 1, 4), stops[:, channel]) for channel in range(3)], axis=2)
    shown = light[:, :, None] > 0.02
    return np.asarray(np.rint(255 * np.clip(colors, 0, 1) * shown), dtype=np.uint8)


def _coordinates(width: int, height: int, turn: float, zoom: float) -> tuple[Floats, Floats]:
    """Where each pixel is, in halves of the shorter side from the middle, turned clockwise by radians."""
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float64)
    unit = min(width, height) / 2 * zoom
    x, y = (columns + 0.5 - width / 2) / unit, (rows + 0.5 - height / 2) / unit
    return x * math.cos(turn) + y * math.sin(turn), y * math.cos(turn) - x * math.sin(turn)


def _face(x: Floats, y: Floats, random: np.random.Generator) -> Floats:
    """A head from the front or half from the side, with brows, eyes, nose and mouth; perhaps a hand before it."""
    aside = random.uniform(-0.22, 0.22)
    bodies: list[Body] = [
        (0, -0.08, 0.52, 0.66, 0, 0.5),
        (0.5 * aside, 0.42, 0.34, 0.3, 0, 0.46),
        (0, 1.0, 0.75, 0.42, 0, 0.26),
    ]
    if random.random() < 0.5:
        side = float(random.choice([-1, 1]))
        bodies += _hand(side * random.uniform(0.3, 0.5), random.uniform(0.25, 0.6), side, random)
    surface = _joined(x, y, bodies)
    eye, lips = random.uniform(0.16, 0.2), random.uniform(0.4, 0.46)
    bumps = [
        (aside, 0.1, 0.075, 0.2, 0.15), (aside, 0.22, 0.12, 0.06, 0.1), (aside - eye, 0.0, 0.12, 0.07, -0.1),
        (aside + eye, 0.0, 0.12, 0.07, -0.1), (aside - eye, 0.01, 0.08, 0.035, 0.05),
        (aside + eye, 0.01, 0.08, 0.035, 0.05), (aside, -0.14, 0.34, 0.06, 0.04),
        (aside - 0.22, 0.24, 0.13, 0.14, 0.06), (aside + 0.22, 0.24, 0.13, 0.14, 0.06),
        (aside, lips - 0.035, 0.13, 0.035, 0.06),
        (aside, lips + 0.045, 0.1, 0.035, 0.06), (aside, lips + 0.005, 0.12, 0.014, -0.06),
        (aside, lips + 0.17, 0.1, 0.07, 0.06),
    ]  # fmt: skip
    for at_x, at_y, along, across, rise in bumps:
        surface = surface + rise * np.exp(-(((x - at_x) / along) ** 2) - ((y - at_y) / across) ** 2)
    return surface


def _whole_fetus(x: Floats, y: Floats, random: np.random.Generator) -> Floats:
    """Head, bent trunk, arms and legs, as in the first trimester."""
    bend = random.uniform(-12, 12)
    bodies: list[Body] = [
        (-0.46, -0.18, 0.34, 0.3, bend, 0.34),
        (-0.3, 0.04, 0.18, 0.16, bend, 0.28),
        (0.16, 0.02, 0.42, 0.25, 8 + bend, 0.32),
    ]
    for at_x, at_y, size, degrees in (
        (-0.04, 0.24, 0.24, 70), (-0.18, 0.34, 0.17, 150), (0.46, 0.2, 0.26, 60), (0.56, 0.42, 0.2, 130),
        (0.62, 0.02, 0.2, 20),
    ):  # fmt: skip
        bodies.append((at_x, at_y, size, 0.075, degrees + random.uniform(-20, 20), 0.2))
    return _joined(x, y, bodies)


def _limb(x: Floats, y: Floats, random: np.random.Generator) -> Floats:
    """A hand with its fingers, or a foot with its toes, at the end of a limb."""
    side = float(random.choice([-1, 1]))
    bodies: list[Body] = [(0.0, 0.62, 0.45, 0.17, 90 + 10 * side, 0.24)]
    if random.random() < 0.5:
        return _joined(x, y, [*bodies, *_hand(0.0, 0.1, side, random, scale=1.7)])
    bodies.append((0.02 * side, 0.05, 0.5, 0.2, 90 + 14 * side, 0.24))
    toes: list[Body] = [(side * (-0.2 + 0.1 * toe), -0.47 + 0.04 * toe, 0.1, 0.055, 90, 0.2) for toe in range(5)]
    return _joined(x, y, [*bodies, *toes])


_PARTS: tuple[Callable[[Floats, Floats, np.random.Generator], Floats], ...] = (_face, _face, _whole_fetus, _limb)


def _hand(x: float, y: float, side: float, random: np.random.Generator, scale: float = 1.0) -> list[Body]:
    """Palm and fingers around (x, y), reaching up."""
    bodies: list[Body] = [
        (x, y, 0.13 * scale, 0.12 * scale, 0, 0.62),
        (x, y + 0.3 * scale, 0.24 * scale, 0.09 * scale, 90, 0.5),
    ]
    spread = random.uniform(8, 16)
    for finger in range(4):
        degrees = -90 + side * spread * (finger - 1.5)
        reach = 0.2 * scale
        bodies.append(
            (
                x + 0.06 * scale * (finger - 1.5) + reach * math.cos(math.radians(degrees)),
                y + reach * math.sin(math.radians(degrees)),
                0.13 * scale, 0.035 * scale, degrees, 0.6,
            )
        )  # fmt: skip
    return [*bodies, (x + side * 0.17 * scale, y + 0.03 * scale, 0.11 * scale, 0.04 * scale, -50 * side, 0.58)]


def _joined(x: Floats, y: Floats, bodies: list[Body]) -> Floats:
    """The front of ellipsoids that melt into one another where they meet; ``_NOTHING`` beside them."""
    sharpness = 14.0
    total = np.zeros_like(x)
    for at_x, at_y, along, across, degrees, towards in bodies:
        angle = math.radians(degrees)
        dx, dy = x - at_x, y - at_y
        u = (dx * math.cos(angle) + dy * math.sin(angle)) / along
        v = (dy * math.cos(angle) - dx * math.sin(angle)) / across
        inside = 1 - u**2 - v**2
        front = towards * np.sqrt(np.maximum(inside, 0.0))
        total += np.where(inside > 0, np.exp(sharpness * front), 0.0)
    return np.where(total > 0, np.log(np.maximum(total, 1e-9)) / sharpness, _NOTHING)


def _debris(x: Floats, y: Floats, random: np.random.Generator) -> Floats:
    """Placenta and wall at the edges of the volume, which the sonographer did not cut away."""
    bodies: list[Body] = []
    for _ in range(int(random.integers(2, 7))):
        angle, away = random.uniform(0, 2 * math.pi), random.uniform(0.85, 1.25)
        bodies.append(
            (
                away * math.cos(angle), away * math.sin(angle), random.uniform(0.1, 0.45), random.uniform(0.06, 0.2),
                math.degrees(angle) + 90 + random.uniform(-30, 30), random.uniform(0.1, 0.4),
            )
        )  # fmt: skip
    return _joined(x, y, bodies)


def _wall(height: int, width: int, random: np.random.Generator) -> Floats:
    """What lies behind the fetus, where the volume reaches that far."""
    hills = _waves(height, width, 90, random)
    reach = _waves(height, width, 160, random)
    return np.where(reach > random.uniform(-0.6, 0.5), -0.05 + 0.05 * hills, _NOTHING)


def _roughness(height: int, width: int, random: np.random.Generator) -> Floats:
    """Waves of several sizes, in halves of the shorter side."""
    sizes = ((60, 0.02), (20, 0.006), (7, 0.002))
    return np.asarray(sum(depth * _waves(height, width, size, random) for size, depth in sizes))


def _waves(height: int, width: int, size: int, random: np.random.Generator) -> Floats:
    """Smooth noise whose bumps are about ``size`` px wide, [height, width]."""
    small = random.standard_normal((max(height // size, 2) + 1, max(width // size, 2) + 1))
    return np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC))


def _lit(surface: Floats, unit_px: int, random: np.random.Generator) -> Floats:
    """Brightness from 0 to 1: Lambert's cosine under a lamp above, darker in hollows and far from the viewer."""
    down, right = np.gradient(surface * unit_px / 2)
    angle, raised = math.radians(random.uniform(-150, -30)), random.uniform(0.55, 0.9)
    aside = math.sqrt(1 - raised**2)
    towards = (math.cos(angle) * aside, math.sin(angle) * aside, raised)
    cosine = (-right * towards[0] - down * towards[1] + towards[2]) / np.sqrt(1 + right**2 + down**2)
    hollow = np.clip(1 + 4 * (surface - cv2.GaussianBlur(surface, (0, 0), 0.03 * unit_px)), 0.4, 1.2)
    near = np.clip(0.6 + 0.8 * surface, 0.4, 1.1)
    return np.asarray(np.clip(1.05 * np.clip(cosine, 0.05, 1) * hollow * near, 0, 1))

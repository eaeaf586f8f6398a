"""What phantoms are drawn with: outlines in mm, each filled with a tissue; later ones cover earlier ones."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from sono.curation.phantom.anatomy import Fetus

Points = npt.NDArray[np.float64]
"""Shape [points, 2]: x to the right and y downwards, in mm, around the middle of what is drawn."""

Controls = Sequence[tuple[float, float]]
"""Points that a curve is drawn through, as shares of a structure's size: see ``scaled``."""


@dataclass(frozen=True)
class Tissue:
    """How a tissue responds to ultrasound.

    Attributes:
        echo_db: scattered amplitude against that of soft tissue.
        loss_db_mm: loss per millimetre, there and back, at the scanner's frequency.
        rim_db: amplitude of the mirror-like echo of its surface where the beam meets it at a right angle, against
            soft tissue; None where there is none.
        rim_mm: that surface's thickness.
    """

    echo_db: float
    loss_db_mm: float
    rim_db: float | None = None
    rim_mm: float = 0.6


SOFT_LOSS_DB_MM = 0.16
"""Of soft tissue at 0.5 dB/cm/MHz, there and back, at a little under 2 MHz effective; scanners amplify it away."""

FLUID = Tissue(-46.0, 0.0)
VESSEL = Tissue(-38.0, 0.03, rim_db=5.0, rim_mm=0.5)
CHAMBER = Tissue(-36.0, 0.04, rim_db=6.0, rim_mm=0.6)
SOFT = Tissue(-2.0, SOFT_LOSS_DB_MM)
SKIN = Tissue(-1.0, SOFT_LOSS_DB_MM, rim_db=9.0, rim_mm=0.5)
MUSCLE = Tissue(-7.0, SOFT_LOSS_DB_MM)
MYOCARDIUM = Tissue(-4.0, SOFT_LOSS_DB_MM, rim_db=8.0, rim_mm=0.7)
LUNG = Tissue(1.5, SOFT_LOSS_DB_MM)
LIVER = Tissue(-3.0, SOFT_LOSS_DB_MM)
KIDNEY = Tissue(-11.0, SOFT_LOSS_DB_MM, rim_db=3.0, rim_mm=0.5)
BRAIN = Tissue(-14.0, 0.1)
GREY_MATTER = Tissue(-20.0, 0.1, rim_db=3.0, rim_mm=0.4)
PLEXUS = Tissue(3.0, SOFT_LOSS_DB_MM)
CEREBELLUM = Tissue(-18.0, 0.12, rim_db=12.0, rim_mm=0.5)
CARTILAGE = Tissue(-12.0, 0.12, rim_db=2.0, rim_mm=0.4)
BONE = Tissue(13.0, 8.0, rim_db=23.0, rim_mm=0.6)
THIN_BONE = Tissue(9.0, 0.7, rim_db=21.0, rim_mm=0.5)
"""A calvarium lets enough through to see the brain; a shaft does not."""
FACIAL_BONE = Tissue(12.0, 1.8, rim_db=20.0, rim_mm=0.5)
"""Small and full of marrow: its shadow is not black."""
BRIGHT = Tissue(13.0, 0.2)
"""Membranes and fat planes: bright without a shadow."""


@dataclass(frozen=True)
class Shape:
    """One closed outline.

    Attributes:
        outline: shape [points, 2], mm.
        tissue: what it is filled with; None draws nothing and only marks a structure.
        structure: the vocabulary's id of the structure that the outline belongs to.
        flow: colour Doppler shows flow in it; its direction in mm/s along x and y, by any scale.
    """

    outline: Points
    tissue: Tissue | None
    structure: str | None = None
    flow: tuple[float, float] | None = None

    def moved(self, x: float, y: float) -> Shape:
        return replace(self, outline=shifted(self.outline, x, y))


def ellipse(x: float, y: float, width: float, height: float, degrees: float = 0.0, points: int = 72) -> Points:
    """An ellipse with these diameters, turned clockwise as seen on the screen."""
    t = np.linspace(0, 2 * math.pi, points, endpoint=False)
    around_middle = np.stack([width / 2 * np.cos(t), height / 2 * np.sin(t)], axis=1)
    return shifted(turned(around_middle, degrees), x, y)


def blob(
    random: np.random.Generator,
    x: float,
    y: float,
    width: float,
    height: float,
    degrees: float = 0.0,
    rough: float = 0.04,
) -> Points:
    """An ellipse whose radius wavers by about the share ``rough``."""
    points = ellipse(0, 0, width, height)
    t = np.linspace(0, 2 * math.pi, len(points), endpoint=False)
    wave = np.ones(len(points))
    for order in range(2, 6):
        wave += rough / order * 2 * random.normal() * np.cos(order * t + random.uniform(0, 2 * math.pi))
    return shifted(turned(points * wave[:, None], degrees), x, y)


def curve(controls: Controls | Points, *, closed: bool = True, per_segment: int = 8) -> Points:
    """A smooth line through the points (Catmull and Rom's spline)."""
    p = np.asarray(controls, dtype=np.float64)
    before, after = (p[-1:], p[:2]) if closed else (2 * p[:1] - p[1:2], 2 * p[-1:] - p[-2:-1])
    padded = np.concatenate([before, p, after])
    t = np.linspace(0, 1, per_segment, endpoint=False)[:, None]
    pieces = []
    for p0, p1, p2, p3 in zip(padded, padded[1:], padded[2:], padded[3:], strict=False):
        pieces.append(
            0.5 * (2 * p1 + (p2 - p0) * t + (2 * p0 - 5 * p1 + 4 * p2 - p3) * t**2 + (3 * p1 - p0 - 3 * p2 + p3) * t**3)
        )
    if not closed:
        pieces.append(p[-1:])
    return np.concatenate(pieces)


def tube(line: Points, width: float | Sequence[float], unit_mm: float = 1.0) -> Points:
    """The outline of a tube along an open line; ``width`` in units, one for all or evenly along it. Round ends."""
    given = np.atleast_1d(np.asarray(width, dtype=np.float64)) * unit_mm
    widths = np.interp(np.linspace(0, 1, len(line)), np.linspace(0, 1, len(given)), given)
    along = np.gradient(line, axis=0)
    along /= np.maximum(np.hypot(along[:, 0], along[:, 1]), 1e-9)[:, None]
    across = np.stack([-along[:, 1], along[:, 0]], axis=1) * (widths / 2)[:, None]
    t = np.linspace(0, math.pi, 8)[1:-1, None]
    start = line[0] - np.cos(t) * across[0] - np.sin(t) * along[0] * widths[0] / 2
    end = line[-1] + np.cos(t) * across[-1] + np.sin(t) * along[-1] * widths[-1] / 2
    return np.concatenate([line + across, end, (line - across)[::-1], start])


def straight(x0: float, y0: float, x1: float, y1: float, points: int = 12) -> Points:
    """An open straight line."""
    t = np.linspace(0, 1, points)[:, None]
    return np.asarray(np.array([x0, y0]) * (1 - t) + np.array([x1, y1]) * t)


def arc(x: float, y: float, width: float, height: float, start: float, end: float, points: int = 28) -> Points:
    """An open part of an ellipse, between two angles in degrees, clockwise on the screen from the right."""
    t = np.radians(np.linspace(start, end, points))
    return np.stack([x + width / 2 * np.cos(t), y + height / 2 * np.sin(t)], axis=1)


def turned(points: Points, degrees: float) -> Points:
    """Turned around the origin, clockwise as seen on the screen."""
    angle = math.radians(degrees)
    cos, sin = math.cos(angle), math.sin(angle)
    return np.asarray(points @ np.array([[cos, sin], [-sin, cos]]))


def shifted(points: Points, x: float, y: float) -> Points:
    """Moved to the right and downwards."""
    return np.asarray(points + np.array([x, y]))


def scaled(points: Controls | Points, size: float | tuple[float, float]) -> Points:
    """Stretched away from the origin by one size, or by one along x and one along y; a negative one mirrors.

    Control points in units of a structure's size become mm by it.
    """
    return np.asarray(points, dtype=np.float64) * np.asarray(size, dtype=np.float64)


@dataclass(frozen=True)
class Scene:
    """What one plane shows: shapes in the order in which they are drawn, around the middle.

    Attributes:
        shapes: without those of missing structures.
        width_mm, height_mm: extent.
        turn: by how many degrees it may be turned either way.
        depth: where its middle lies best, from 0 (near) to 1 (far).
    """

    shapes: tuple[Shape, ...]
    width_mm: float
    height_mm: float
    turn: float
    depth: float

    @classmethod
    def of(
        cls,
        fetus: Fetus,
        shapes: Sequence[Shape],
        width_mm: float,
        height_mm: float,
        *,
        turn: float,
        middle: tuple[float, float] = (0.0, 0.0),
        depth: float = 0.52,
    ) -> Scene:
        """A scene around ``middle``, without the structures that cannot be seen in this fetus."""
        kept = [shape.moved(-middle[0], -middle[1]) for shape in shapes if shape.structure not in fetus.missing]
        return cls(tuple(kept), width_mm, height_mm, turn, depth)

    @property
    def structures(self) -> dict[str, list[Points]]:
        """The outlines of every structure."""
        found: dict[str, list[Points]] = {}
        for shape in self.shapes:
            if shape.structure is not None:
                found.setdefault(shape.structure, []).append(shape.outline)
        return found

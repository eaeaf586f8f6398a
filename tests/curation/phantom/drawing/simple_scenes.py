"""Scenes of one or two tissues, in sectors of every kind."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest

from sono.curation.phantom.drawing.outlines import rasterize
from sono.curation.phantom.drawing.sector import BEAMS, Pose, Sector, fan, rectangle
from sono.curation.phantom.drawing.speckle import Settings, Surroundings, insonify
from sono.curation.phantom.scenes.shapes import FLUID, SOFT, Shape, Tissue, ellipse

Floats = npt.NDArray[np.float64]
Bytes = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]

CONVEX = fan("convex", 640, 560, 34.0, 50.0, 120.0)
PHASED = fan("phased", 640, 560, 40.0, 4.0, 120.0)
LINEAR = rectangle(560, 560, 50.0, 50.0)
SECTORS = {"convex": CONVEX, "phased": PHASED, "linear": LINEAR}
# No noise, no tissue's loss amplified away, and from black to white more decibels than speckle has.
PLAIN = Settings(range_db=160.0, noise_db=-200.0, compensation_db_mm=0.0)

every_sector = pytest.mark.parametrize("sector", SECTORS.values(), ids=SECTORS.keys())


def nothing_around() -> Surroundings:
    """A mother of amniotic fluid alone."""
    none = np.zeros(BEAMS)
    return Surroundings(none, none, none + 2.0, none)


def everywhere(tissue: Tissue) -> Shape:
    return Shape(ellipse(0, 0, 2000, 2000), tissue)


def in_the_middle(sector: Sector, degrees: float = 0.0, flipped: bool = False) -> Pose:
    return Pose(*sector.point(0.5, 0.0), degrees, flipped, 1 / sector.mm_per_px)


def grey(
    shapes: Sequence[Shape], sector: Sector, pose: Pose | None = None, settings: Settings = PLAIN, seed: int = 0
) -> Bytes:
    tissue_map = rasterize(shapes, pose or in_the_middle(sector), sector)
    return insonify(tissue_map, nothing_around(), sector, settings, np.random.default_rng(seed))


LOPSIDED = [
    everywhere(SOFT),
    Shape(ellipse(14, -6, 16, 10), FLUID, "stomach"),
    Shape(ellipse(4, 12, 8, 8), FLUID, "stomach"),
]
OUTLINES = [shape.outline for shape in LOPSIDED if shape.structure]

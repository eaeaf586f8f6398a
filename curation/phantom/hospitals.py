"""The two made-up hospitals, and how each of them scans."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pydicom.uid import (
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLSLossless,
    RLELossless,
)


@dataclass(frozen=True)
class Center:
    """A hospital and its scanner. ``center`` names the folder, ``hospital`` is written on the screen."""

    center: str
    hospital: str
    manufacturer: str
    model: str
    software: str


@dataclass(frozen=True)
class Scanner:
    """How one hospital scans: what its images look like, apart from the layout of its screen.

    Attributes:
        convex: half of the opening angle in degrees, radius of the probe in mm.
        phased_for_heart, linear_for_small: share of such planes scanned with that probe.
        colored: the screen is always in colour, not only under Doppler.
        gain_db, range_db, noise_db, gamma, looks: as in ``drawing.speckle.Settings``.
        syntaxes: share of each DICOM transfer syntax among stills.
        phased: as ``convex``.
        steered: of a trapezoid's outermost beams, in degrees.
        overscan: width and height of the area that a sector is fitted into, as shares of what the screen shows of it;
            above 1 the screen cuts the sector.
        tint: shares of red, green and blue that white echoes have on a screen in colour.
    """

    convex: tuple[float, float]
    phased_for_heart: float
    linear_for_small: float
    colored: bool
    gain_db: float
    range_db: float
    noise_db: float
    gamma: float
    looks: int
    syntaxes: Mapping[str, float]
    phased: tuple[float, float] = (40.0, 4.0)
    steered: float = 15.0
    overscan: tuple[float, float] = (1.0, 1.0)
    tint: tuple[float, float, float] | None = None


CENTERS: Mapping[str, Center] = {
    "north": Center("north", "Nordhaven Women's Clinic", "Aurelia Imaging", "Aurelia A9", "A9.4.2"),
    "south": Center("south", "St. Brigid Hospital South", "Borealis Medical", "Borealis B20", "20.1"),
}

SCANNERS: Mapping[str, Scanner] = {
    "north": Scanner(
        convex=(34.0, 50.0),
        phased_for_heart=0.3,
        linear_for_small=0.25,
        colored=True,
        gain_db=0.0,
        range_db=60.0,
        noise_db=-58.0,
        gamma=1.0,
        looks=1,
        syntaxes={
            JPEGBaseline8Bit: 0.62,
            JPEGLSLossless: 0.12,
            ExplicitVRLittleEndian: 0.1,
            RLELossless: 0.1,
            JPEG2000Lossless: 0.06,
        },
    ),
    "south": Scanner(
        convex=(29.0, 60.0),
        phased_for_heart=0.7,
        linear_for_small=0.1,
        colored=False,
        gain_db=3.0,
        range_db=66.0,
        noise_db=-46.0,
        gamma=1.15,
        looks=2,
        syntaxes={
            ExplicitVRLittleEndian: 0.35,
            ImplicitVRLittleEndian: 0.1,
            JPEGBaseline8Bit: 0.3,
            RLELossless: 0.1,
            JPEGLSLossless: 0.1,
            JPEG2000Lossless: 0.05,
        },
    ),
}

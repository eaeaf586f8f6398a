"""Scenes of the abdomen: five planes."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from sono.curation.phantom.anatomy import Fetus

from .shapes import (
    BONE,
    KIDNEY,
    LIVER,
    MUSCLE,
    SKIN,
    SOFT,
    VESSEL,
    Scene,
    Shape,
    Tissue,
    arc,
    blob,
    curve,
    ellipse,
    scaled,
    tube,
)

_BILE = Tissue(-44.0, 0.0, rim_db=9.0, rim_mm=0.4)
_BOWEL = Tissue(1.0, 0.16)
_PYRAMID = Tissue(-21.0, 0.14)
_RENAL_FAT = Tissue(5.0, 0.16)
_RENAL_CAPSULE = Tissue(6.0, 0.16, rim_db=9.0, rim_mm=0.4)
_ADRENAL = Tissue(-10.0, 0.15, rim_db=6.0, rim_mm=0.4)
_RIB = Tissue(9.0, 1.2, rim_db=14.0, rim_mm=0.4)

# In units of the abdomen's diameter, around its middle.
_VEIN_TO_LIVER = ((0.02, -0.3), (0.02, -0.16), (0.0, -0.06))
_PORTAL_SINUS = ((0.0, -0.08), (-0.06, -0.01), (-0.16, 0.02))
_GALLBLADDER = ((-0.12, -0.3), (-0.06, -0.16), (-0.09, 0.0), (-0.14, 0.05), (-0.18, 0.0), (-0.18, -0.16))
_VEIN_BESIDE_GALLBLADDER = ((0.1, -0.4), (0.1, -0.24), (0.06, -0.1))
_RIGHT_ILIAC_WING = ((0.24, 0.28), (0.33, 0.16), (0.37, 0.0))

# In units of the kidney's length and height: its outer edge from pole to pole, then the one with the hilum.
_KIDNEY_BACK = ((-0.5, 0.0), (-0.36, -0.42), (0.0, -0.52), (0.36, -0.42), (0.5, 0.0))
_KIDNEY_HILUM = ((0.34, 0.42), (0.1, 0.4), (0.0, 0.32), (-0.1, 0.4), (-0.34, 0.42))
_ADRENAL_ON_POLE = ((-0.66, 0.28), (-0.62, -0.16), (-0.45, -0.5))
_PYRAMIDS_AT = (150, 185, 215, 250, 290, 325, 355, 30)
"""Degrees around the kidney's middle, clockwise on the screen from the right."""


def abdominal_circumference(fetus: Fetus, random: np.random.Generator) -> Scene:
    """Stomach on the left; the umbilical vein reaches the portal sinus a third of the way in."""
    d = _diameter(fetus)
    shapes = _abdomen(fetus, random, "abdomen", "liver", "spine")
    vein = curve(scaled(_VEIN_TO_LIVER, d), closed=False)
    sinus = curve(scaled(_PORTAL_SINUS, d), closed=False)
    shapes += [
        Shape(blob(random, 0.24 * d, 0.02 * d, 0.26 * d, 0.17 * d, -35, 0.06), _BILE, "stomach"),
        Shape(tube(vein, 0.065 * d), VESSEL, "umbilical_vein", (0.0, 1.0)),
        Shape(tube(sinus, 0.06 * d), VESSEL, "portal_sinus", (-0.8, 0.3)),
        Shape(ellipse(0.06 * d, 0.27 * d, 0.08 * d, 0.08 * d), VESSEL, "abdominal_aorta", (0.0, 0.8)),
    ]
    return Scene.of(fetus, shapes, d, d, turn=80)


def gallbladder(fetus: Fetus, random: np.random.Generator) -> Scene:
    """The same outline a little lower: a pear of bile on the right of the umbilical vein, and no stomach."""
    d = _diameter(fetus)
    shapes = _abdomen(fetus, random, "abdomen", "liver", "spine")
    vein = curve(scaled(_VEIN_BESIDE_GALLBLADDER, d), closed=False)
    shapes += [
        Shape(curve(scaled(_GALLBLADDER, d)), _BILE, "gallbladder"),
        Shape(tube(vein, 0.06 * d), VESSEL, "umbilical_vein", (0.0, 1.0)),
        Shape(ellipse(0.06 * d, 0.27 * d, 0.075 * d, 0.075 * d), VESSEL, None, (0.0, 0.8)),
        Shape(blob(random, 0.22 * d, 0.14 * d, 0.2 * d, 0.16 * d, 0, 0.1), _BOWEL),
    ]
    return Scene.of(fetus, shapes, d, d, turn=80)


def bladder(fetus: Fetus, random: np.random.Generator) -> Scene:
    """Across the pelvis: the bladder between both umbilical arteries and the iliac bones."""
    d = 0.82 * _diameter(fetus)
    width = random.uniform(0.2, 0.32) * d
    beside_bladder = [
        (0.04 * d, -0.44 * d),
        (0.03 * d + 0.5 * width, -0.26 * d),
        (0.05 * d + 0.56 * width, -0.05 * d),
        (0.08 * d + 0.5 * width, 0.12 * d),
    ]
    shapes = [
        Shape(blob(random, 0, 0, d, 0.92 * d, 0, 0.03), SKIN),
        Shape(ellipse(0, 0, 0.88 * d, 0.8 * d), MUSCLE),
        Shape(ellipse(0, -0.04 * d, 0.66 * d, 0.62 * d), SOFT),
    ]
    for side in (-1, 1):
        wing = curve(scaled(_RIGHT_ILIAC_WING, (side * d, d)), closed=False)
        artery = curve(scaled(beside_bladder, (side, 1)), closed=False)
        shapes += [
            Shape(tube(wing, 0.05 * d), BONE, "pelvis"),
            Shape(tube(artery, 0.036 * d), VESSEL, "umbilical_arteries", (0.0, -1.0)),
        ]
    shapes.append(Shape(blob(random, 0, -0.07 * d, width, 1.3 * width, 0, 0.05), _BILE, "bladder"))
    shapes += [Shape(blob(random, x * d, 0.36 * d, 0.07 * d, 0.06 * d, 0, 0.08), BONE) for x in (-0.05, 0.05)]
    return Scene.of(fetus, shapes, d, 0.92 * d, turn=45)


def both_kidneys(fetus: Fetus, random: np.random.Generator) -> Scene:
    """The same outline further down: a kidney on either side of the spine, the spine towards the probe."""
    d = _diameter(fetus)
    pelvis = random.uniform(0.03, 0.06) * d
    shapes = _abdomen(fetus, random, None, None, "spine")
    for side in (-1, 1):
        x, y = side * 0.2 * d, 0.2 * d
        inner_x, inner_y = x - side * 0.03 * d, y - 0.01 * d
        shapes += [
            Shape(blob(random, x, y, 0.24 * d, 0.22 * d, side * 20, 0.04), KIDNEY, "kidneys"),
            Shape(ellipse(inner_x, inner_y, 0.1 * d, 0.08 * d), _RENAL_FAT),
            Shape(ellipse(inner_x, inner_y, pelvis, 0.8 * pelvis), _BILE, "renal_pelvis"),
        ]
    shapes.append(Shape(ellipse(0.03 * d, 0.24 * d, 0.075 * d, 0.075 * d), VESSEL, "abdominal_aorta", (0.0, 0.8)))
    for _ in range(5):
        x, y = random.uniform(-0.2, 0.2) * d, random.uniform(-0.3, -0.05) * d
        shapes.append(Shape(blob(random, x, y, 0.15 * d, 0.1 * d, random.uniform(0, 180), 0.12), _BOWEL))
    # The aorta is cut across: its flow keeps its direction.
    upside_down = [replace(shape, outline=scaled(shape.outline, (1, -1))) for shape in shapes]
    return Scene.of(fetus, upside_down, d, d, turn=35)


def renal_sagittal(fetus: Fetus, random: np.random.Generator) -> Scene:
    """Along one kidney: a bean with dark pyramids around a bright sinus, the adrenal gland on its upper pole."""
    length = 0.42 * _diameter(fetus) + 6.0
    height = 0.46 * length
    d = 1.15 * _diameter(fetus)
    pelvis = random.uniform(0.09, 0.16) * height
    bean = curve(scaled([*_KIDNEY_BACK, *_KIDNEY_HILUM], (length, height)))
    adrenal = curve(scaled(_ADRENAL_ON_POLE, (length, height)), closed=False)
    shapes = [
        Shape(blob(random, 0, 0.08 * d, 1.25 * d, 0.78 * d, 0, 0.02), SKIN),
        Shape(ellipse(0, 0.1 * d, 1.12 * d, 0.68 * d), MUSCLE),
        Shape(ellipse(0.03 * d, 0.16 * d, 1.0 * d, 0.5 * d), LIVER),
        Shape(scaled(bean, 1.08), _RENAL_CAPSULE),
        Shape(bean, KIDNEY, "kidney"),
    ]
    for t in np.radians(_PYRAMIDS_AT):
        x, y = 0.34 * length * math.cos(t), 0.29 * height * math.sin(t)
        shapes.append(Shape(ellipse(x, y, 0.11 * length, 0.16 * height, math.degrees(t) + 90), _PYRAMID))
    shapes += [
        Shape(ellipse(0, 0.03 * height, 0.44 * length, 0.26 * height), _RENAL_FAT),
        Shape(ellipse(0, 0.06 * height, 2.4 * pelvis, pelvis), _BILE, "renal_pelvis"),
        Shape(tube(adrenal, [0.06, 0.1, 0.05], length), _ADRENAL, "adrenal_gland"),
    ]
    if random.random() < 0.4:  # ribs between probe and kidney
        shapes += [Shape(ellipse(x * d, -0.26 * d, 0.045 * d, 0.03 * d), BONE) for x in np.linspace(-0.55, 0.55, 9)]
    return Scene.of(fetus, shapes, d, 0.78 * d, turn=20)


def _diameter(fetus: Fetus) -> float:
    """Of a round abdomen with that circumference, mm."""
    return fetus.ac_mm / math.pi


def _abdomen(
    fetus: Fetus, random: np.random.Generator, outline: str | None, liver: str | None, spine: str | None
) -> list[Shape]:
    """Skin, ribs, liver and spine of an axial section, the spine below and the fetus's right side on the left."""
    d = _diameter(fetus)
    shapes = [
        Shape(blob(random, 0, 0, 1.0 * d, 0.98 * d, 0, 0.015), SKIN, outline),
        Shape(ellipse(0, 0, 0.93 * d, 0.9 * d), MUSCLE),
        Shape(ellipse(0, -0.01 * d, 0.86 * d, 0.82 * d), SOFT),
        Shape(blob(random, -0.13 * d, -0.08 * d, 0.56 * d, 0.6 * d, 12, 0.05), LIVER, liver),
    ]
    for start, end in ((140, 190), (-10, 40)):
        rib = arc(0, 0, 0.9 * d, 0.88 * d, start + random.uniform(-10, 10), end + random.uniform(-10, 10))
        shapes.append(Shape(tube(rib, 0.022 * d), _RIB))
    for x, y in ((0.0, 0.385), (-0.06, 0.44), (0.06, 0.44)):
        shapes.append(Shape(blob(random, x * d, y * d, 0.075 * d, 0.062 * d, 0, 0.08), BONE, spine))
    return shapes

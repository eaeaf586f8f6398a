"""Scenes of the abdomen: five planes."""

from __future__ import annotations

import math

import numpy as np

from .phantom_anatomy import Fetus
from .phantom_shapes import (
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
    tube,
)

_BILE = Tissue(-44.0, 0.0, rim_db=9.0, rim_mm=0.4)
_BOWEL = Tissue(1.0, 0.16)
_PYRAMID = Tissue(-21.0, 0.14)


def abdominal_circumference(fetus: Fetus, random: np.random.Generator) -> Scene:
    """Stomach on the left; the umbilical vein reaches the portal sinus a third of the way in."""
    d = _diameter(fetus)
    shapes = _abdomen(fetus, random, "abdomen", "liver", "spine")
    vein = curve([(0.02 * d, -0.3 * d), (0.02 * d, -0.16 * d), (0.0, -0.06 * d)], closed=False)
    sinus = curve([(0.0, -0.08 * d), (-0.06 * d, -0.01 * d), (-0.16 * d, 0.02 * d)], closed=False)
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
    pear = curve(
        [
            (-0.12 * d, -0.3 * d),
            (-0.06 * d, -0.16 * d),
            (-0.09 * d, 0.0),
            (-0.14 * d, 0.05 * d),
            (-0.18 * d, 0.0),
            (-0.18 * d, -0.16 * d),
        ]
    )
    vein = curve([(0.1 * d, -0.4 * d), (0.1 * d, -0.24 * d), (0.06 * d, -0.1 * d)], closed=False)
    shapes += [
        Shape(pear, _BILE, "gallbladder"),
        Shape(tube(vein, 0.06 * d), VESSEL, "umbilical_vein", (0.0, 1.0)),
        Shape(ellipse(0.06 * d, 0.27 * d, 0.075 * d, 0.075 * d), VESSEL, None, (0.0, 0.8)),
        Shape(blob(random, 0.22 * d, 0.14 * d, 0.2 * d, 0.16 * d, 0, 0.1), _BOWEL),
    ]
    return Scene.of(fetus, shapes, d, d, turn=80)


def bladder(fetus: Fetus, random: np.random.Generator) -> Scene:
    """Across the pelvis: the bladder between both umbilical arteries and the iliac bones."""
    d = 0.82 * _diameter(fetus)
    width = random.uniform(0.2, 0.32) * d
    shapes = [
        Shape(blob(random, 0, 0, d, 0.92 * d, 0, 0.03), SKIN, None),
        Shape(ellipse(0, 0, 0.88 * d, 0.8 * d), MUSCLE),
        Shape(ellipse(0, -0.04 * d, 0.66 * d, 0.62 * d), SOFT),
    ]
    for side in (-1, 1):
        wing = curve([(side * 0.24 * d, 0.28 * d), (side * 0.33 * d, 0.16 * d), (side * 0.37 * d, 0.0)], closed=False)
        shapes.append(Shape(tube(wing, 0.05 * d), BONE, "pelvis"))
        artery = curve(
            [(side * 0.04 * d, -0.44 * d), (side * (0.03 * d + 0.5 * width), -0.26 * d), (side * (0.05 * d + 0.56 * width), -0.05 * d), (side * (0.08 * d + 0.5 * width), 0.12 * d)],
            closed=False,
        )  # fmt: skip
        shapes.append(Shape(tube(artery, 0.036 * d), VESSEL, "umbilical_arteries", (0.0, -1.0)))
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
        shapes += [
            Shape(blob(random, x, y, 0.24 * d, 0.22 * d, side * 20, 0.04), KIDNEY, "kidneys"),
            Shape(ellipse(x - side * 0.03 * d, y - 0.01 * d, 0.1 * d, 0.08 * d), Tissue(5.0, 0.16)),
            Shape(ellipse(x - side * 0.03 * d, y - 0.01 * d, pelvis, 0.8 * pelvis), _BILE, "renal_pelvis"),
        ]
    shapes.append(Shape(ellipse(0.03 * d, 0.24 * d, 0.075 * d, 0.075 * d), VESSEL, "abdominal_aorta", (0.0, 0.8)))
    shapes += [
        Shape(
            blob(
                random,
                random.uniform(-0.2, 0.2) * d,
                random.uniform(-0.3, -0.05) * d,
                0.15 * d,
                0.1 * d,
                random.uniform(0, 180),
                0.12,
            ),
            _BOWEL,
        )
        for _ in range(5)
    ]
    upside_down = [
        Shape(shape.outline * np.array([1.0, -1.0]), shape.tissue, shape.structure, shape.flow) for shape in shapes
    ]
    return Scene.of(fetus, upside_down, d, d, turn=35)


def renal_sagittal(fetus: Fetus, random: np.random.Generator) -> Scene:
    """Along one kidney: a bean with dark pyramids around a bright sinus, the adrenal gland on its upper pole."""
    length = 0.42 * _diameter(fetus) + 6.0
    height = 0.46 * length
    d = 1.15 * _diameter(fetus)
    pelvis = random.uniform(0.09, 0.16) * height
    bean = curve(
        [(-0.5 * length, 0.0), (-0.36 * length, -0.42 * height), (0.0, -0.52 * height), (0.36 * length, -0.42 * height), (0.5 * length, 0.0), (0.34 * length, 0.42 * height), (0.1 * length, 0.4 * height), (0.0, 0.32 * height), (-0.1 * length, 0.4 * height), (-0.34 * length, 0.42 * height)]
    )  # fmt: skip
    shapes = [
        Shape(blob(random, 0, 0.08 * d, 1.25 * d, 0.78 * d, 0, 0.02), SKIN),
        Shape(ellipse(0, 0.1 * d, 1.12 * d, 0.68 * d), MUSCLE),
        Shape(ellipse(0.03 * d, 0.16 * d, 1.0 * d, 0.5 * d), LIVER),
        Shape(bean * 1.08, Tissue(6.0, 0.16, rim_db=9.0, rim_mm=0.4)),
        Shape(bean, KIDNEY, "kidney"),
        *[
            Shape(ellipse(0.34 * length * math.cos(t), 0.29 * height * math.sin(t), 0.11 * length, 0.16 * height, math.degrees(t) + 90), _PYRAMID)
            for t in np.radians([150, 185, 215, 250, 290, 325, 355, 30])
        ],
        Shape(ellipse(0, 0.03 * height, 0.44 * length, 0.26 * height), Tissue(5.0, 0.16)),
        Shape(ellipse(0, 0.06 * height, 2.4 * pelvis, pelvis), _BILE, "renal_pelvis"),
        Shape(tube(curve([(-0.66 * length, 0.28 * height), (-0.62 * length, -0.16 * height), (-0.45 * length, -0.5 * height)], closed=False), [0.06 * length, 0.1 * length, 0.05 * length]), Tissue(-10.0, 0.15, rim_db=6.0, rim_mm=0.4), "adrenal_gland"),
    ]  # fmt: skip
    shapes += (
        [Shape(ellipse(x * d, -0.26 * d, 0.045 * d, 0.03 * d), BONE) for x in np.linspace(-0.55, 0.55, 9)]
        if random.random() < 0.4
        else []
    )
    return Scene.of(fetus, shapes, d, 0.78 * d, turn=20)


def _diameter(fetus: Fetus) -> float:
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
        shapes.append(Shape(tube(rib, 0.022 * d), Tissue(9.0, 1.2, rim_db=14.0, rim_mm=0.4)))
    for x, y in ((0.0, 0.385), (-0.06, 0.44), (0.06, 0.44)):
        shapes.append(Shape(blob(random, x * d, y * d, 0.075 * d, 0.062 * d, 0, 0.08), BONE, spine))
    return shapes

"""Scenes of the limbs: four planes."""

from __future__ import annotations

import numpy as np

from .phantom_anatomy import Fetus
from .phantom_shapes import (
    BONE,
    CARTILAGE,
    LUNG,
    MUSCLE,
    SKIN,
    Scene,
    Shape,
    Tissue,
    blob,
    curve,
    ellipse,
    straight,
    tube,
)

_SMALL_BONE = Tissue(12.0, 5.0, rim_db=18.0, rim_mm=0.4)


def femur(fetus: Fetus, random: np.random.Generator) -> Scene:
    """The shaft in a thick thigh, slightly bowed, square at its ends."""
    length = fetus.fl_mm
    shaft = curve([(-0.5 * length, 0.01 * length), (0.0, -0.03 * length), (0.5 * length, 0.02 * length)], closed=False)
    limb = curve(
        [
            (-0.85 * length, -0.05 * length),
            (-0.3 * length, -0.02 * length),
            (0.3 * length, 0.0),
            (0.78 * length, 0.02 * length),
        ],
        closed=False,
    )
    shapes = [
        Shape(tube(limb, [0.66 * length, 0.6 * length, 0.48 * length, 0.4 * length]), SKIN, "thigh"),
        Shape(tube(limb, [0.56 * length, 0.5 * length, 0.38 * length, 0.3 * length]), MUSCLE),
        Shape(blob(random, -0.62 * length, 0.02 * length, 0.24 * length, 0.22 * length), CARTILAGE),
        Shape(blob(random, 0.6 * length, 0.02 * length, 0.2 * length, 0.2 * length), CARTILAGE),
        Shape(tube(shaft, [0.13 * length, 0.085 * length, 0.085 * length, 0.12 * length]), BONE, "femur"),
    ]
    return Scene.of(fetus, shapes, 1.5 * length, 0.62 * length, turn=30, depth=0.45)


def humerus(fetus: Fetus, random: np.random.Generator) -> Scene:
    """The shaft in a thinner arm, flared at the elbow; the chest with its ribs lies beside it."""
    length = fetus.hl_mm
    shaft = curve([(-0.5 * length, 0.0), (0.0, 0.015 * length), (0.5 * length, 0.0)], closed=False)
    limb = curve([(-0.7 * length, 0.03 * length), (0.0, 0.02 * length), (0.7 * length, 0.0)], closed=False)
    chest = blob(random, -0.15 * length, 0.72 * length, 1.7 * length, 0.8 * length, 4, 0.03)
    shapes = [Shape(chest, SKIN), Shape(chest * 0.93 + np.array([0, 0.05 * length]), LUNG)]
    shapes += [
        Shape(ellipse(x * length, (0.42 + 0.16 * (x + 0.15) ** 2) * length, 0.09 * length, 0.07 * length), _SMALL_BONE)
        for x in np.linspace(-0.75, 0.45, 6)
    ]
    shapes += [
        Shape(tube(limb, [0.5 * length, 0.42 * length, 0.32 * length]), SKIN, "upper_arm"),
        Shape(tube(limb, [0.4 * length, 0.32 * length, 0.22 * length]), MUSCLE),
        Shape(blob(random, -0.57 * length, 0.02 * length, 0.24 * length, 0.24 * length), CARTILAGE),
        Shape(tube(shaft, [0.12 * length, 0.075 * length, 0.075 * length, 0.19 * length]), BONE, "humerus"),
    ]
    return Scene.of(fetus, shapes, 1.5 * length, 0.75 * length, turn=24, middle=(0, 0.12 * length), depth=0.45)


def forearm(fetus: Fetus, random: np.random.Generator) -> Scene:
    """Radius and ulna side by side, the ulna longer at the elbow, and the hand."""
    length = 0.84 * fetus.hl_mm
    gap = 0.2 * length
    limb = curve([(-0.68 * length, 0.0), (0.0, 0.0), (0.6 * length, 0.0)], closed=False)
    shapes = [
        Shape(tube(limb, [0.58 * length, 0.52 * length, 0.36 * length]), SKIN),
        Shape(tube(limb, [0.48 * length, 0.42 * length, 0.27 * length]), MUSCLE),
    ]
    spread = random.uniform(0.7, 1.2)
    palm = blob(random, 0.75 * length, 0.0, 0.3 * length, 0.3 * length, 0, 0.05)
    fingers = [
        tube(
            straight(
                0.85 * length, y * length, (1.18 + 0.05 * (1.5 - abs(i - 1.6))) * length, spread * 2.0 * y * length
            ),
            0.07 * length,
        )
        for i, y in enumerate((-0.1, -0.035, 0.035, 0.1))
    ]
    thumb = tube(straight(0.7 * length, -0.12 * length, 0.88 * length, -0.3 * length), 0.075 * length)
    shapes += [Shape(finger, SKIN, "hand") for finger in [*fingers, thumb]]
    shapes.append(Shape(palm, SKIN, "hand"))
    shapes += [
        Shape(ellipse(0.85 * length + 0.02 * length, y * length, 0.13 * length, 0.022 * length, y * 200), _SMALL_BONE)
        for y in (-0.09, -0.03, 0.03, 0.09)
    ]
    shapes += [
        Shape(ellipse(1.05 * length, spread * 1.6 * y * length, 0.1 * length, 0.02 * length), _SMALL_BONE)
        for y in (-0.1, -0.035, 0.035, 0.1)
    ]
    shapes += [
        Shape(tube(straight(-0.4 * length, -gap / 2, 0.5 * length, -gap / 2 + 0.02 * length), [0.08 * length, 0.065 * length, 0.1 * length]), BONE, "radius"),
        Shape(tube(straight(-0.56 * length, gap / 2, 0.48 * length, gap / 2 - 0.02 * length), [0.12 * length, 0.065 * length, 0.07 * length]), BONE, "ulna"),
    ]  # fmt: skip
    return Scene.of(fetus, shapes, 1.9 * length, 0.75 * length, turn=26, middle=(0.25 * length, 0.0), depth=0.45)


def leg(fetus: Fetus, random: np.random.Generator) -> Scene:
    """Tibia and fibula side by side, and the foot turned upwards at the ankle."""
    length = 0.89 * fetus.fl_mm
    gap = 0.2 * length
    limb = curve([(-0.68 * length, 0.0), (0.0, 0.02 * length), (0.62 * length, 0.0)], closed=False)
    sole = curve(
        [
            (0.6 * length, 0.16 * length),
            (0.74 * length, 0.0),
            (0.72 * length, -0.3 * length),
            (0.7 * length, -0.56 * length),
        ],
        closed=False,
    )
    shapes = [
        Shape(tube(limb, [0.5 * length, 0.58 * length, 0.32 * length]), SKIN),
        Shape(tube(limb, [0.4 * length, 0.48 * length, 0.24 * length]), MUSCLE),
        Shape(tube(sole, [0.24 * length, 0.26 * length, 0.22 * length, 0.14 * length]), SKIN, "foot"),
    ]
    shapes += [
        Shape(
            ellipse((0.73 - 0.01 * i) * length, (-0.06 - 0.12 * i) * length, 0.05 * length, 0.085 * length, 0),
            _SMALL_BONE,
        )
        for i in range(4)
    ]
    shapes += [Shape(ellipse(0.66 * length, 0.1 * length, 0.1 * length, 0.09 * length), _SMALL_BONE)]
    shapes += [
        Shape(
            tube(
                straight(-0.52 * length, -gap / 2, 0.5 * length, -gap / 2),
                [0.14 * length, 0.085 * length, 0.1 * length],
            ),
            BONE,
            "tibia",
        ),
        Shape(
            tube(
                straight(-0.42 * length, gap / 2, 0.5 * length, gap / 2 - 0.03 * length),
                [0.07 * length, 0.045 * length, 0.07 * length],
            ),
            BONE,
            "fibula",
        ),
    ]
    return Scene.of(
        fetus, shapes, 1.6 * length, 0.9 * length, turn=26, middle=(0.05 * length, -0.1 * length), depth=0.45
    )

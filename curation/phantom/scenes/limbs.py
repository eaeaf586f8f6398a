"""Scenes of the limbs: four planes."""

from __future__ import annotations

import numpy as np

from sono.curation.phantom.anatomy import Fetus

from .shapes import (
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
    scaled,
    shifted,
    straight,
    tube,
)

_SMALL_BONE = Tissue(12.0, 5.0, rim_db=18.0, rim_mm=0.4)
"""Ribs, and the bones of hand and foot."""

# Middle lines of limbs, in units of the length of the bone that is shown; the end nearer to the body is on the left.
_FEMUR = ((-0.435, 0.01), (0.0, -0.03), (0.44, 0.02))
_THIGH = ((-0.85, -0.05), (-0.3, -0.02), (0.3, 0.0), (0.78, 0.02))
_HUMERUS = ((-0.44, 0.0), (0.0, 0.015), (0.405, 0.0))
_UPPER_ARM = ((-0.7, 0.03), (0.0, 0.02), (0.7, 0.0))
_FOREARM = ((-0.68, 0.0), (0.0, 0.0), (0.6, 0.0))
_LOWER_LEG = ((-0.68, 0.0), (0.0, 0.02), (0.62, 0.0))
_FOOT = ((0.6, 0.16), (0.74, 0.0), (0.72, -0.3), (0.7, -0.56))


def femur(fetus: Fetus, random: np.random.Generator) -> Scene:
    """The shaft in a thick thigh, slightly bowed, square at its ends."""
    length = fetus.fl_mm
    shaft = curve(scaled(_FEMUR, length), closed=False)
    thigh = curve(scaled(_THIGH, length), closed=False)
    shapes = [
        Shape(tube(thigh, [0.66, 0.6, 0.48, 0.4], length), SKIN, "thigh"),
        Shape(tube(thigh, [0.56, 0.5, 0.38, 0.3], length), MUSCLE),
        Shape(blob(random, -0.62 * length, 0.02 * length, 0.24 * length, 0.22 * length), CARTILAGE),
        Shape(blob(random, 0.6 * length, 0.02 * length, 0.2 * length, 0.2 * length), CARTILAGE),
        Shape(tube(shaft, [0.13, 0.085, 0.085, 0.12], length), BONE, "femur"),
    ]
    return Scene.of(fetus, shapes, 1.5 * length, 0.62 * length, turn=30, depth=0.45)


def humerus(fetus: Fetus, random: np.random.Generator) -> Scene:
    """The shaft in a thinner arm, flared at the elbow; the chest with its ribs lies beside it."""
    length = fetus.hl_mm
    shaft = curve(scaled(_HUMERUS, length), closed=False)
    arm = curve(scaled(_UPPER_ARM, length), closed=False)
    chest = blob(random, -0.15 * length, 0.72 * length, 1.7 * length, 0.8 * length, 4, 0.03)
    lung = shifted(scaled(chest, 0.93), 0, 0.05 * length)
    shapes = [Shape(chest, SKIN), Shape(lung, LUNG)]
    for x in np.linspace(-0.75, 0.45, 6):
        y = 0.42 + 0.16 * (x + 0.15) ** 2
        shapes.append(Shape(ellipse(x * length, y * length, 0.09 * length, 0.07 * length), _SMALL_BONE))
    shapes += [
        Shape(tube(arm, [0.5, 0.42, 0.32], length), SKIN, "upper_arm"),
        Shape(tube(arm, [0.4, 0.32, 0.22], length), MUSCLE),
        Shape(blob(random, -0.57 * length, 0.02 * length, 0.24 * length, 0.24 * length), CARTILAGE),
        Shape(tube(shaft, [0.12, 0.075, 0.075, 0.19], length), BONE, "humerus"),
    ]
    return Scene.of(fetus, shapes, 1.5 * length, 0.75 * length, turn=24, middle=(0, 0.12 * length), depth=0.45)


def forearm(fetus: Fetus, random: np.random.Generator) -> Scene:
    """Radius and ulna side by side, the ulna longer at the elbow, and the hand."""
    length = 0.84 * fetus.hl_mm
    apart = 0.2 * length
    arm = curve(scaled(_FOREARM, length), closed=False)
    radius = straight(-0.4 * length, -apart / 2, 0.5 * length, -apart / 2 + 0.02 * length)
    ulna = straight(-0.56 * length, apart / 2, 0.48 * length, apart / 2 - 0.02 * length)
    shapes = [
        Shape(tube(arm, [0.58, 0.52, 0.36], length), SKIN),
        Shape(tube(arm, [0.48, 0.42, 0.27], length), MUSCLE),
    ]
    shapes += _hand(random, length)
    shapes += [
        Shape(tube(radius, [0.08, 0.065, 0.1], length), BONE, "radius"),
        Shape(tube(ulna, [0.12, 0.065, 0.07], length), BONE, "ulna"),
    ]
    return Scene.of(fetus, shapes, 1.9 * length, 0.75 * length, turn=26, middle=(0.25 * length, 0.0), depth=0.45)


def leg(fetus: Fetus, random: np.random.Generator) -> Scene:
    """Tibia and fibula side by side, and the foot turned upwards at the ankle."""
    length = 0.89 * fetus.fl_mm
    apart = 0.2 * length
    lower_leg = curve(scaled(_LOWER_LEG, length), closed=False)
    foot = curve(scaled(_FOOT, length), closed=False)
    tibia = straight(-0.52 * length, -apart / 2, 0.5 * length, -apart / 2)
    fibula = straight(-0.42 * length, apart / 2, 0.5 * length, apart / 2 - 0.03 * length)
    shapes = [
        Shape(tube(lower_leg, [0.5, 0.58, 0.32], length), SKIN),
        Shape(tube(lower_leg, [0.4, 0.48, 0.24], length), MUSCLE),
        Shape(tube(foot, [0.24, 0.26, 0.22, 0.14], length), SKIN, "foot"),
    ]
    for number in range(4):  # from the ankle to the toes
        x, y = 0.73 - 0.01 * number, -0.06 - 0.12 * number
        shapes.append(Shape(ellipse(x * length, y * length, 0.05 * length, 0.085 * length), _SMALL_BONE))
    shapes += [
        Shape(ellipse(0.66 * length, 0.1 * length, 0.1 * length, 0.09 * length), _SMALL_BONE),  # the heel
        Shape(tube(tibia, [0.14, 0.085, 0.1], length), BONE, "tibia"),
        Shape(tube(fibula, [0.07, 0.045, 0.07], length), BONE, "fibula"),
    ]
    middle = (0.05 * length, -0.1 * length)
    return Scene.of(fetus, shapes, 1.6 * length, 0.9 * length, turn=26, middle=middle, depth=0.45)


def _hand(random: np.random.Generator, length: float) -> list[Shape]:
    """A hand beyond a forearm of that length, its fingers more or less spread."""
    spread = random.uniform(0.7, 1.2)
    palm = blob(random, 0.75 * length, 0.0, 0.3 * length, 0.3 * length, 0, 0.05)
    digits = []
    for number, y in enumerate((-0.1, -0.035, 0.035, 0.1)):
        tip = 1.18 + 0.05 * (1.5 - abs(number - 1.6))  # the middle ones are the longest
        digits.append(straight(0.85 * length, y * length, tip * length, spread * 2.0 * y * length))
    thumb = straight(0.7 * length, -0.12 * length, 0.88 * length, -0.3 * length)
    shapes = [Shape(tube(digit, 0.07 * length), SKIN, "hand") for digit in digits]
    shapes += [Shape(tube(thumb, 0.075 * length), SKIN, "hand"), Shape(palm, SKIN, "hand")]
    for y in (-0.09, -0.03, 0.03, 0.09):  # of the palm
        bone = ellipse(0.85 * length + 0.02 * length, y * length, 0.13 * length, 0.022 * length, y * 200)
        shapes.append(Shape(bone, _SMALL_BONE))
    for y in (-0.1, -0.035, 0.035, 0.1):  # of the fingers
        bone = ellipse(1.05 * length, spread * 1.6 * y * length, 0.1 * length, 0.02 * length)
        shapes.append(Shape(bone, _SMALL_BONE))
    return shapes

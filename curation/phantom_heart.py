"""Scenes of the heart and the great vessels: seven planes."""

from __future__ import annotations

import math

import numpy as np

from .phantom_anatomy import HYPOPLASTIC_LEFT_HEART, VENTRICULAR_SEPTAL_DEFECT, Fetus
from .phantom_shapes import (
    BONE,
    CHAMBER,
    LUNG,
    MUSCLE,
    MYOCARDIUM,
    SKIN,
    VESSEL,
    Points,
    Scene,
    Shape,
    Tissue,
    arc,
    blob,
    curve,
    ellipse,
    straight,
    tube,
    turned,
)

_WALL = Tissue(1.0, 0.16, rim_db=8.0, rim_mm=0.4)
_VALVE = Tissue(6.0, 0.1, rim_db=12.0, rim_mm=0.3)
_THYMUS = Tissue(-9.0, 0.14, rim_db=3.0, rim_mm=0.4)


def four_chamber(fetus: Fetus, random: np.random.Generator) -> Scene:
    """Across the chest with the septum along the beam: apex towards the probe."""
    return _chambers(fetus, random, axis=random.uniform(-22, 22), valves=True)


def four_chamber_h(fetus: Fetus, random: np.random.Generator) -> Scene:
    """The same chest from its side: the septum lies across the beam, and pulmonary veins reach the left atrium."""
    return _chambers(fetus, random, axis=random.uniform(68, 108), valves=False)


def lvot(fetus: Fetus, random: np.random.Generator) -> Scene:
    """The aorta leaves the left ventricle, its wall going on from the septum."""
    chest = _chest_mm(fetus)
    shapes = _chest(fetus, random)
    s = 0.6 * chest
    parts = [
        Shape(blob(random, 0, 0, 0.74 * s, 1.12 * s, 0, 0.03), MYOCARDIUM),
        Shape(curve([(-0.24 * s, -0.3 * s), (-0.1 * s, -0.42 * s), (-0.05 * s, 0.0), (-0.12 * s, 0.16 * s), (-0.26 * s, 0.08 * s)]), CHAMBER, "right_ventricle", (0.2, 1.0)),
        Shape(curve([(0.06 * s, -0.42 * s), (0.2 * s, -0.3 * s), (0.25 * s, 0.0), (0.18 * s, 0.16 * s), (0.03 * s, 0.14 * s), (-0.01 * s, -0.1 * s)]), CHAMBER, "left_ventricle", (0.0, 1.0)),
        Shape(tube(straight(0.0, -0.44 * s, -0.045 * s, 0.08 * s), 0.055 * s), _WALL, "interventricular_septum"),
        Shape(blob(random, 0.22 * s, 0.36 * s, 0.26 * s, 0.24 * s, 0, 0.04), CHAMBER, "left_atrium", (0.0, -0.7)),
        Shape(tube(straight(0.12 * s, 0.2 * s, 0.27 * s, 0.17 * s), 0.022 * s), _VALVE, "mitral_valve"),
    ]  # fmt: skip
    aorta = curve(
        [(0.07 * s, 0.08 * s), (0.0, 0.22 * s), (-0.14 * s, 0.36 * s), (-0.34 * s, 0.44 * s), (-0.5 * s, 0.42 * s)],
        closed=False,
    )
    parts += [
        Shape(tube(aorta, 0.165 * s), _WALL),
        Shape(tube(aorta, 0.125 * s), VESSEL, "ascending_aorta", (-1.0, 0.6)),
        Shape(tube(straight(-0.02 * s, 0.12 * s, 0.09 * s, 0.17 * s), 0.02 * s), _VALVE, "aortic_valve"),
    ]
    return _scene(fetus, shapes, parts, random.uniform(-30, 30))


def rvot(fetus: Fetus, random: np.random.Generator) -> Scene:
    """The pulmonary artery leaves the right ventricle in front and crosses the aorta, which is cut round."""
    chest = _chest_mm(fetus)
    s = 0.6 * chest
    shapes = _chest(fetus, random)
    trunk = curve(
        [(0.02 * s, -0.2 * s), (0.1 * s, -0.02 * s), (0.12 * s, 0.18 * s), (0.08 * s, 0.36 * s)], closed=False
    )
    duct = curve([(0.08 * s, 0.34 * s), (0.04 * s, 0.46 * s), (0.0, 0.58 * s)], closed=False)
    parts = [
        Shape(blob(random, 0, -0.05 * s, 0.86 * s, 0.94 * s, 0, 0.03), MYOCARDIUM),
        Shape(curve([(-0.34 * s, -0.18 * s), (-0.1 * s, -0.42 * s), (0.18 * s, -0.36 * s), (0.14 * s, -0.2 * s), (-0.05 * s, -0.14 * s), (-0.2 * s, -0.02 * s)]), CHAMBER, "right_ventricle", (0.6, 0.6)),
        Shape(tube(trunk, 0.21 * s), _WALL),
        Shape(tube(duct, 0.14 * s), _WALL),
        Shape(tube(trunk, 0.165 * s), VESSEL, "pulmonary_artery", (0.1, 1.0)),
        Shape(tube(duct, 0.1 * s), VESSEL, "ductus_arteriosus", (-0.2, 1.0)),
        Shape(tube(straight(-0.06 * s, -0.14 * s, 0.12 * s, -0.18 * s), 0.02 * s), _VALVE, "pulmonary_valve"),
        Shape(ellipse(-0.1 * s, 0.12 * s, 0.2 * s, 0.2 * s), _WALL),
        Shape(ellipse(-0.1 * s, 0.12 * s, 0.15 * s, 0.15 * s), VESSEL, "ascending_aorta", (0.3, 0.9)),
        Shape(ellipse(-0.29 * s, 0.2 * s, 0.14 * s, 0.13 * s), _WALL),
        Shape(ellipse(-0.29 * s, 0.2 * s, 0.1 * s, 0.09 * s), VESSEL, "superior_vena_cava", (0.1, -0.7)),
    ]  # fmt: skip
    return _scene(fetus, shapes, parts, random.uniform(-20, 20))


def three_vessel_trachea(fetus: Fetus, random: np.random.Generator) -> Scene:
    """Duct and arch meet as a V left of the spine; beside them the vena cava, and the trachea with its bright wall."""
    chest = _chest_mm(fetus)
    s = 0.6 * chest
    shapes = _chest(fetus, random)
    meeting = (0.1 * s, 0.42 * s)
    pulmonary = curve([(0.12 * s, -0.4 * s), (0.17 * s, -0.2 * s), (0.18 * s, 0.02 * s)], closed=False)
    duct = curve([(0.18 * s, 0.0), (0.17 * s, 0.2 * s), meeting], closed=False)
    arch = curve([(-0.16 * s, -0.26 * s), (-0.06 * s, -0.02 * s), (0.02 * s, 0.22 * s), meeting], closed=False)
    parts = [
        Shape(curve([(-0.46 * s, -0.46 * s), (0.0, -0.62 * s), (0.46 * s, -0.46 * s), (0.3 * s, -0.34 * s), (0.0, -0.3 * s), (-0.3 * s, -0.32 * s)]), _THYMUS, "thymus"),
        Shape(tube(pulmonary, 0.21 * s), _WALL),
        Shape(tube(duct, 0.17 * s), _WALL),
        Shape(tube(arch, 0.155 * s), _WALL),
        Shape(tube(pulmonary, 0.165 * s), VESSEL, "pulmonary_artery", (0.1, 1.0)),
        Shape(tube(duct, 0.12 * s), VESSEL, "ductus_arteriosus", (-0.1, 1.0)),
        Shape(tube(arch, 0.115 * s), VESSEL, "aortic_arch", (0.4, 1.0)),
        Shape(ellipse(0.1 * s, 0.46 * s, 0.16 * s, 0.16 * s), VESSEL, "descending_aorta", (0.0, 0.8)),
        Shape(ellipse(-0.27 * s, -0.12 * s, 0.15 * s, 0.14 * s), _WALL),
        Shape(ellipse(-0.27 * s, -0.12 * s, 0.11 * s, 0.1 * s), VESSEL, "superior_vena_cava", (0.1, -0.7)),
        Shape(ellipse(-0.13 * s, 0.24 * s, 0.15 * s, 0.15 * s), Tissue(9.0, 0.2, rim_db=12.0, rim_mm=0.4), "trachea"),
        Shape(ellipse(-0.13 * s, 0.24 * s, 0.08 * s, 0.08 * s), VESSEL, "trachea"),
    ]  # fmt: skip
    return _scene(fetus, shapes, parts, random.uniform(-20, 20))


def aortic_arch(fetus: Fetus, random: np.random.Generator) -> Scene:
    """Along the chest: a tight hook from the middle of the heart, with the vessels of head and neck on it."""
    chest = _chest_mm(fetus)
    s = 0.8 * chest
    arch = curve(
        [(-0.12 * s, 0.0), (-0.14 * s, -0.16 * s), (-0.03 * s, -0.29 * s), (0.1 * s, -0.24 * s), (0.15 * s, -0.1 * s)],
        closed=False,
    )
    ascending, descending = (
        arch[: len(arch) // 3],
        curve([(0.15 * s, -0.12 * s), (0.17 * s, 0.1 * s), (0.18 * s, 0.32 * s), (0.18 * s, 0.52 * s)], closed=False),
    )
    shapes = _long_chest(fetus, random, s)
    shapes += [
        Shape(blob(random, -0.2 * s, 0.13 * s, 0.36 * s, 0.32 * s, 20, 0.04), MYOCARDIUM, "heart"),
        Shape(blob(random, -0.24 * s, 0.13 * s, 0.17 * s, 0.18 * s, 20, 0.06), CHAMBER, None, (0.0, 0.6)),
        Shape(tube(descending, 0.088 * s), _WALL),
    ]
    branches = [((-0.1, -0.24), (-0.13, -0.42)), ((-0.02, -0.28), (-0.02, -0.46)), ((0.06, -0.27), (0.09, -0.44))]
    shapes += [
        Shape(tube(straight(x0 * s, y0 * s, x1 * s, y1 * s), 0.035 * s), VESSEL, "arch_branches", (0.0, -1.0))
        for (x0, y0), (x1, y1) in branches
    ]
    shapes += [
        Shape(tube(arch, 0.09 * s), _WALL),
        Shape(tube(descending, 0.064 * s), VESSEL, "descending_aorta", (0.0, 1.0)),
        Shape(tube(arch, 0.064 * s), VESSEL, "aortic_arch", (0.8, -0.6)),
        Shape(tube(ascending, 0.068 * s), VESSEL, "ascending_aorta", (0.0, -1.0)),
    ]
    return Scene.of(fetus, shapes, 0.8 * s, 0.85 * s, turn=22)


def ductal_arch(fetus: Fetus, random: np.random.Generator) -> Scene:
    """Along the chest: a wide bend from the front of the heart straight to the spine, without branches."""
    chest = _chest_mm(fetus)
    s = 0.8 * chest
    trunk = curve(
        [(-0.3 * s, 0.02 * s), (-0.3 * s, -0.1 * s), (-0.2 * s, -0.19 * s), (-0.08 * s, -0.21 * s)], closed=False
    )
    duct = curve(
        [(-0.1 * s, -0.21 * s), (0.02 * s, -0.2 * s), (0.12 * s, -0.12 * s), (0.16 * s, -0.02 * s)], closed=False
    )
    descending = curve(
        [(0.15 * s, -0.06 * s), (0.18 * s, 0.12 * s), (0.18 * s, 0.32 * s), (0.18 * s, 0.52 * s)], closed=False
    )
    shapes = _long_chest(fetus, random, s)
    shapes += [
        Shape(blob(random, -0.2 * s, 0.12 * s, 0.38 * s, 0.34 * s, 20, 0.04), MYOCARDIUM),
        Shape(blob(random, -0.29 * s, 0.09 * s, 0.15 * s, 0.2 * s, 15, 0.05), CHAMBER, "right_ventricle", (0.2, -0.7)),
        Shape(ellipse(-0.11 * s, 0.02 * s, 0.1 * s, 0.1 * s), _WALL),
        Shape(ellipse(-0.11 * s, 0.02 * s, 0.072 * s, 0.072 * s), VESSEL),
        Shape(np.concatenate([trunk + [0, -0.055 * s], duct[1:] + [0, -0.03 * s], duct[::-1] + [0, 0.03 * s], trunk[::-1] + [0, 0.055 * s]]), None, "ductal_arch"),
        Shape(tube(descending, 0.088 * s), _WALL),
        Shape(tube(duct, 0.088 * s), _WALL),
        Shape(tube(trunk, 0.11 * s), _WALL),
        Shape(tube(descending, 0.064 * s), VESSEL, "descending_aorta", (0.0, 1.0)),
        Shape(tube(duct, 0.06 * s), VESSEL, "ductus_arteriosus", (1.0, 0.3)),
        Shape(tube(trunk, 0.084 * s), VESSEL, "pulmonary_artery", (0.8, -0.5)),
    ]  # fmt: skip
    return Scene.of(fetus, shapes, 0.8 * s, 0.85 * s, turn=22)


def _chambers(fetus: Fetus, random: np.random.Generator, *, axis: float, valves: bool) -> Scene:
    """The four chambers, drawn with the apex upwards and turned by ``axis`` degrees."""
    chest = _chest_mm(fetus)
    s = 0.62 * chest
    shapes = _chest(fetus, random)
    left = np.array([0.55, 0.7]) if HYPOPLASTIC_LEFT_HEART in fetus.findings else np.ones(2)
    parts = [
        Shape(curve([(0.0, -0.56 * s), (0.24 * s, -0.42 * s), (0.37 * s, -0.05 * s), (0.33 * s, 0.32 * s), (0.1 * s, 0.48 * s), (-0.12 * s, 0.48 * s), (-0.35 * s, 0.32 * s), (-0.38 * s, -0.05 * s), (-0.24 * s, -0.42 * s)]), MYOCARDIUM, "heart"),
        Shape(curve([(0.09 * s, -0.43 * s), (0.2 * s, -0.32 * s), (0.27 * s, -0.06 * s), (0.22 * s, 0.03 * s), (0.06 * s, 0.03 * s), (0.05 * s, -0.2 * s)]) * left, CHAMBER, "left_ventricle", (0.0, -0.9)),
        Shape(curve([(-0.1 * s, -0.38 * s), (-0.21 * s, -0.28 * s), (-0.29 * s, -0.05 * s), (-0.24 * s, 0.06 * s), (-0.06 * s, 0.06 * s), (-0.05 * s, -0.18 * s)]), CHAMBER, "right_ventricle", (0.0, -0.9)),
        Shape(blob(random, 0.16 * s, 0.25 * s, 0.27 * s, 0.33 * s, 0, 0.03), CHAMBER, "left_atrium", (0.0, -0.6)),
        Shape(blob(random, -0.17 * s, 0.26 * s, 0.28 * s, 0.33 * s, 0, 0.03), CHAMBER, "right_atrium", (0.0, -0.6)),
        Shape(tube(straight(0.005 * s, -0.46 * s, 0.0, 0.06 * s), 0.07 * s), _WALL, "interventricular_septum"),
        Shape(tube(straight(0.0, 0.06 * s, 0.0, 0.16 * s), 0.03 * s), _WALL),
        Shape(tube(straight(0.0, 0.34 * s, 0.0, 0.42 * s), 0.03 * s), _WALL),
        Shape(ellipse(0.0, 0.25 * s, 0.06 * s, 0.17 * s), CHAMBER, "foramen_ovale", (0.8, 0.0)),
        Shape(tube(curve([(0.01 * s, 0.17 * s), (0.07 * s, 0.23 * s), (0.05 * s, 0.33 * s)], closed=False), 0.016 * s), _VALVE, "foramen_ovale"),
    ]  # fmt: skip
    leaflet = 0.02 * s
    if valves:
        for side, y, structure in ((1, 0.045 * s, "mitral_valve"), (-1, 0.08 * s, "tricuspid_valve")):
            parts.append(
                Shape(tube(straight(side * 0.03 * s, y, side * 0.13 * s, y - 0.05 * s), leaflet), _VALVE, structure)
            )
            parts.append(
                Shape(tube(straight(side * 0.27 * s, y, side * 0.16 * s, y - 0.05 * s), leaflet), _VALVE, structure)
            )
    else:
        for x, y in ((0.33, 0.44), (0.05, 0.5)):
            parts.append(
                Shape(
                    tube(straight(0.17 * s, 0.36 * s, x * s, y * s), 0.05 * s), VESSEL, "pulmonary_veins", (-0.4, -0.6)
                )
            )
    if VENTRICULAR_SEPTAL_DEFECT in fetus.findings:
        parts.append(Shape(ellipse(0.0, -0.07 * s, 0.13 * s, 0.1 * s), CHAMBER, None, (0.9, 0.0)))
    return _scene(fetus, shapes, parts, axis, spine_turn=axis - 45 if valves else axis - 60)


def _scene(fetus: Fetus, chest: list[Shape], parts: list[Shape], axis: float, spine_turn: float = 0.0) -> Scene:
    """Heart and vessels, turned by ``axis``, in an axial chest whose spine lies away from the apex."""
    size = _chest_mm(fetus)
    shapes = [Shape(turned(shape.outline, spine_turn), shape.tissue, shape.structure, shape.flow) for shape in chest]
    place = turned(np.array([[0.06 * size, -0.1 * size]]), spine_turn)[0]
    for part in parts:
        flow = None
        if part.flow is not None:
            direction = turned(np.array([part.flow]), axis)[0]
            flow = (float(direction[0]), float(direction[1]))
        shapes.append(Shape(turned(part.outline, axis) + place, part.tissue, part.structure, flow))
    return Scene.of(fetus, shapes, 0.86 * size, 0.84 * size, turn=12)


def _chest_mm(fetus: Fetus) -> float:
    """Diameter of the chest, a little less than the abdomen's."""
    return 0.92 * fetus.ac_mm / math.pi


def _chest(fetus: Fetus, random: np.random.Generator) -> list[Shape]:
    """Skin, ribs, lungs, spine and aorta of an axial section, the spine below."""
    size = _chest_mm(fetus)
    shapes = [
        Shape(blob(random, 0, 0, 1.06 * size, 1.0 * size, 0, 0.015), SKIN),
        Shape(ellipse(0, 0, 0.96 * size, 0.9 * size), MUSCLE),
        Shape(ellipse(0, -0.01 * size, 0.86 * size, 0.8 * size), LUNG),
    ]
    for start, end in ((150, 205), (-25, 30)):
        rib = arc(0, 0, 0.9 * size, 0.84 * size, start + random.uniform(-8, 8), end + random.uniform(-8, 8))
        shapes.append(Shape(tube(rib, 0.03 * size), Tissue(11.0, 1.6, rim_db=16.0, rim_mm=0.4)))
    for x, y in ((0.0, 0.4), (-0.075, 0.465), (0.075, 0.465)):
        shapes.append(Shape(blob(random, x * size, y * size, 0.085 * size, 0.07 * size, 0, 0.08), BONE, "spine"))
    shapes.append(
        Shape(ellipse(0.11 * size, 0.3 * size, 0.1 * size, 0.1 * size), VESSEL, "descending_aorta", (0.1, 0.8))
    )
    return shapes


def _long_chest(fetus: Fetus, random: np.random.Generator, s: float) -> list[Shape]:
    """A section along the chest, head upwards and front to the left, with a row of vertebrae."""
    outline: Points = curve(
        [(-0.42 * s, -0.2 * s), (-0.2 * s, -0.5 * s), (0.15 * s, -0.56 * s), (0.36 * s, -0.4 * s), (0.4 * s, 0.1 * s), (0.38 * s, 0.6 * s), (-0.3 * s, 0.6 * s), (-0.48 * s, 0.25 * s)]
    )  # fmt: skip
    shapes = [
        Shape(outline, SKIN),
        Shape(blob(random, -0.05 * s, 0.0, 0.68 * s, 0.86 * s, 0, 0.03), LUNG),
        Shape(blob(random, -0.12 * s, 0.5 * s, 0.5 * s, 0.3 * s, 0, 0.04), Tissue(-3.5, 0.16, rim_db=6.0)),
    ]
    shapes += [Shape(ellipse(0.285 * s, y * s, 0.06 * s, 0.05 * s), BONE) for y in np.arange(-0.42, 0.6, 0.095)]
    return shapes

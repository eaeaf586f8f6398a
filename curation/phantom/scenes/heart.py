"""Scenes of the heart and the great vessels: seven planes."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from sono.curation.phantom.anatomy import HYPOPLASTIC_LEFT_HEART, VENTRICULAR_SEPTAL_DEFECT, Fetus

from .shapes import (
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
    scaled,
    shifted,
    straight,
    tube,
    turned,
)

_WALL = Tissue(1.0, 0.16, rim_db=8.0, rim_mm=0.4)
_VALVE = Tissue(6.0, 0.1, rim_db=12.0, rim_mm=0.3)
_THYMUS = Tissue(-9.0, 0.14, rim_db=3.0, rim_mm=0.4)
_TRACHEA_WALL = Tissue(9.0, 0.2, rim_db=12.0, rim_mm=0.4)
_RIB = Tissue(11.0, 1.6, rim_db=16.0, rim_mm=0.4)
_LIVER_DOME = Tissue(-3.5, 0.16, rim_db=6.0)

# All control points are in units of s, the size of the heart's section or of the section along the chest. Across the
# chest, the apex points upwards and the heart's right side is on the left.
_HEART_LEFT = ((0.0, -0.56), (0.24, -0.42), (0.37, -0.05), (0.33, 0.32), (0.1, 0.48))
_HEART_RIGHT = ((-0.12, 0.48), (-0.35, 0.32), (-0.38, -0.05), (-0.24, -0.42))
_LEFT_VENTRICLE = ((0.09, -0.43), (0.2, -0.32), (0.27, -0.06), (0.22, 0.03), (0.06, 0.03), (0.05, -0.2))
_RIGHT_VENTRICLE = ((-0.1, -0.38), (-0.21, -0.28), (-0.29, -0.05), (-0.24, 0.06), (-0.06, 0.06), (-0.05, -0.18))
_FORAMEN_FLAP = ((0.01, 0.17), (0.07, 0.23), (0.05, 0.33))

_LVOT_RIGHT_VENTRICLE = ((-0.24, -0.3), (-0.1, -0.42), (-0.05, 0.0), (-0.12, 0.16), (-0.26, 0.08))
_LVOT_LEFT_VENTRICLE = ((0.06, -0.42), (0.2, -0.3), (0.25, 0.0), (0.18, 0.16), (0.03, 0.14), (-0.01, -0.1))
_LVOT_AORTA = ((0.07, 0.08), (0.0, 0.22), (-0.14, 0.36), (-0.34, 0.44), (-0.5, 0.42))

_RVOT_VENTRICLE = ((-0.34, -0.18), (-0.1, -0.42), (0.18, -0.36), (0.14, -0.2), (-0.05, -0.14), (-0.2, -0.02))
_RVOT_TRUNK = ((0.02, -0.2), (0.1, -0.02), (0.12, 0.18), (0.08, 0.36))
_RVOT_DUCT = ((0.08, 0.34), (0.04, 0.46), (0.0, 0.58))

_3VT_MEETING = (0.1, 0.42)
_3VT_TRUNK = ((0.12, -0.4), (0.17, -0.2), (0.18, 0.02))
_3VT_DUCT = ((0.18, 0.0), (0.17, 0.2), _3VT_MEETING)
_3VT_ARCH = ((-0.16, -0.26), (-0.06, -0.02), (0.02, 0.22), _3VT_MEETING)
_3VT_THYMUS = ((-0.46, -0.46), (0.0, -0.62), (0.46, -0.46), (0.3, -0.34), (0.0, -0.3), (-0.3, -0.32))

# Along the chest, head upwards and front to the left.
_LONG_CHEST_TOP = ((-0.42, -0.2), (-0.2, -0.5), (0.15, -0.56), (0.36, -0.4))
_LONG_CHEST_BOTTOM = ((0.4, 0.1), (0.38, 0.6), (-0.3, 0.6), (-0.48, 0.25))
_AORTIC_ARCH = ((-0.12, 0.0), (-0.14, -0.16), (-0.03, -0.29), (0.1, -0.24), (0.15, -0.1))
_AORTIC_DESCENDING = ((0.15, -0.12), (0.17, 0.1), (0.18, 0.32), (0.18, 0.52))
_ARCH_BRANCHES = ((-0.1, -0.24, -0.13, -0.42), (-0.02, -0.28, -0.02, -0.46), (0.06, -0.27, 0.09, -0.44))
"""Of each, x and y where it leaves the arch and where it ends."""
_DUCTAL_TRUNK = ((-0.3, 0.02), (-0.3, -0.1), (-0.2, -0.19), (-0.08, -0.21))
_DUCTAL_DUCT = ((-0.1, -0.21), (0.02, -0.2), (0.12, -0.12), (0.16, -0.02))
_DUCTAL_DESCENDING = ((0.15, -0.06), (0.18, 0.12), (0.18, 0.32), (0.18, 0.52))


def four_chamber(fetus: Fetus, random: np.random.Generator) -> Scene:
    """Across the chest with the septum along the beam: apex towards the probe."""
    return _chambers(fetus, random, axis=random.uniform(-22, 22), valves=True)


def four_chamber_h(fetus: Fetus, random: np.random.Generator) -> Scene:
    """The same chest from its side: the septum lies across the beam, and pulmonary veins reach the left atrium."""
    return _chambers(fetus, random, axis=random.uniform(68, 108), valves=False)


def lvot(fetus: Fetus, random: np.random.Generator) -> Scene:
    """The aorta leaves the left ventricle, its wall continuous with the septum."""
    s = 0.6 * _chest_mm(fetus)
    shapes = _chest(fetus, random)
    aorta = curve(scaled(_LVOT_AORTA, s), closed=False)
    parts = [
        Shape(blob(random, 0, 0, 0.74 * s, 1.12 * s, 0, 0.03), MYOCARDIUM),
        Shape(curve(scaled(_LVOT_RIGHT_VENTRICLE, s)), CHAMBER, "right_ventricle", (0.2, 1.0)),
        Shape(curve(scaled(_LVOT_LEFT_VENTRICLE, s)), CHAMBER, "left_ventricle", (0.0, 1.0)),
        Shape(tube(straight(0.0, -0.44 * s, -0.045 * s, 0.08 * s), 0.055 * s), _WALL, "interventricular_septum"),
        Shape(blob(random, 0.22 * s, 0.36 * s, 0.26 * s, 0.24 * s, 0, 0.04), CHAMBER, "left_atrium", (0.0, -0.7)),
        Shape(tube(straight(0.12 * s, 0.2 * s, 0.27 * s, 0.17 * s), 0.022 * s), _VALVE, "mitral_valve"),
        *_vessels(_Vessel(aorta, 0.165 * s, 0.125 * s, "ascending_aorta", (-1.0, 0.6))),
        Shape(tube(straight(-0.02 * s, 0.12 * s, 0.09 * s, 0.17 * s), 0.02 * s), _VALVE, "aortic_valve"),
    ]
    return _scene(fetus, shapes, parts, random.uniform(-30, 30))


def rvot(fetus: Fetus, random: np.random.Generator) -> Scene:
    """The pulmonary artery leaves the right ventricle in front and crosses the aorta, which is cut round."""
    s = 0.6 * _chest_mm(fetus)
    shapes = _chest(fetus, random)
    trunk = curve(scaled(_RVOT_TRUNK, s), closed=False)
    duct = curve(scaled(_RVOT_DUCT, s), closed=False)
    parts = [
        Shape(blob(random, 0, -0.05 * s, 0.86 * s, 0.94 * s, 0, 0.03), MYOCARDIUM),
        Shape(curve(scaled(_RVOT_VENTRICLE, s)), CHAMBER, "right_ventricle", (0.6, 0.6)),
        *_vessels(
            _Vessel(trunk, 0.21 * s, 0.165 * s, "pulmonary_artery", (0.1, 1.0)),
            _Vessel(duct, 0.14 * s, 0.1 * s, "ductus_arteriosus", (-0.2, 1.0)),
        ),
        Shape(tube(straight(-0.06 * s, -0.14 * s, 0.12 * s, -0.18 * s), 0.02 * s), _VALVE, "pulmonary_valve"),
        *_cut_across(s, (-0.1, 0.12), (0.2, 0.2), (0.15, 0.15), "ascending_aorta", (0.3, 0.9)),
        *_cut_across(s, (-0.29, 0.2), (0.14, 0.13), (0.1, 0.09), "superior_vena_cava", (0.1, -0.7)),
    ]
    return _scene(fetus, shapes, parts, random.uniform(-20, 20))


def three_vessel_trachea(fetus: Fetus, random: np.random.Generator) -> Scene:
    """Duct and arch meet as a V left of the spine; beside them the vena cava, and the trachea with its bright wall."""
    s = 0.6 * _chest_mm(fetus)
    shapes = _chest(fetus, random)
    trunk = curve(scaled(_3VT_TRUNK, s), closed=False)
    duct = curve(scaled(_3VT_DUCT, s), closed=False)
    arch = curve(scaled(_3VT_ARCH, s), closed=False)
    parts = [
        Shape(curve(scaled(_3VT_THYMUS, s)), _THYMUS, "thymus"),
        *_vessels(
            _Vessel(trunk, 0.21 * s, 0.165 * s, "pulmonary_artery", (0.1, 1.0)),
            _Vessel(duct, 0.17 * s, 0.12 * s, "ductus_arteriosus", (-0.1, 1.0)),
            _Vessel(arch, 0.155 * s, 0.115 * s, "aortic_arch", (0.4, 1.0)),
        ),
        Shape(ellipse(0.1 * s, 0.46 * s, 0.16 * s, 0.16 * s), VESSEL, "descending_aorta", (0.0, 0.8)),
        *_cut_across(s, (-0.27, -0.12), (0.15, 0.14), (0.11, 0.1), "superior_vena_cava", (0.1, -0.7)),
        Shape(ellipse(-0.13 * s, 0.24 * s, 0.15 * s, 0.15 * s), _TRACHEA_WALL, "trachea"),
        Shape(ellipse(-0.13 * s, 0.24 * s, 0.08 * s, 0.08 * s), VESSEL, "trachea"),
    ]
    return _scene(fetus, shapes, parts, random.uniform(-20, 20))


def aortic_arch(fetus: Fetus, random: np.random.Generator) -> Scene:
    """Along the chest: a tight hook from the middle of the heart, with the vessels of head and neck on it."""
    s = 0.8 * _chest_mm(fetus)
    arch = curve(scaled(_AORTIC_ARCH, s), closed=False)
    ascending = arch[: len(arch) // 3]
    descending = curve(scaled(_AORTIC_DESCENDING, s), closed=False)
    shapes = _long_chest(random, s)
    shapes += [
        Shape(blob(random, -0.2 * s, 0.13 * s, 0.36 * s, 0.32 * s, 20, 0.04), MYOCARDIUM, "heart"),
        Shape(blob(random, -0.24 * s, 0.13 * s, 0.17 * s, 0.18 * s, 20, 0.06), CHAMBER, None, (0.0, 0.6)),
        Shape(tube(descending, 0.088 * s), _WALL),
    ]
    for x0, y0, x1, y1 in _ARCH_BRANCHES:
        branch = straight(x0 * s, y0 * s, x1 * s, y1 * s)
        shapes.append(Shape(tube(branch, 0.035 * s), VESSEL, "arch_branches", (0.0, -1.0)))
    shapes += [
        Shape(tube(arch, 0.09 * s), _WALL),
        Shape(tube(descending, 0.064 * s), VESSEL, "descending_aorta", (0.0, 1.0)),
        Shape(tube(arch, 0.064 * s), VESSEL, "aortic_arch", (0.8, -0.6)),
        Shape(tube(ascending, 0.068 * s), VESSEL, "ascending_aorta", (0.0, -1.0)),
    ]
    return Scene.of(fetus, shapes, 0.8 * s, 0.85 * s, turn=22)


def ductal_arch(fetus: Fetus, random: np.random.Generator) -> Scene:
    """Along the chest: a wide bend from the front of the heart straight to the spine, without branches."""
    s = 0.8 * _chest_mm(fetus)
    trunk = curve(scaled(_DUCTAL_TRUNK, s), closed=False)
    duct = curve(scaled(_DUCTAL_DUCT, s), closed=False)
    descending = curve(scaled(_DUCTAL_DESCENDING, s), closed=False)
    upper = [shifted(trunk, 0, -0.055 * s), shifted(duct[1:], 0, -0.03 * s)]
    lower = [shifted(duct[::-1], 0, 0.03 * s), shifted(trunk[::-1], 0, 0.055 * s)]
    shapes = _long_chest(random, s)
    shapes += [
        Shape(blob(random, -0.2 * s, 0.12 * s, 0.38 * s, 0.34 * s, 20, 0.04), MYOCARDIUM),
        Shape(blob(random, -0.29 * s, 0.09 * s, 0.15 * s, 0.2 * s, 15, 0.05), CHAMBER, "right_ventricle", (0.2, -0.7)),
        *_cut_across(s, (-0.11, 0.02), (0.1, 0.1), (0.072, 0.072)),  # the aorta's root
        Shape(np.concatenate([*upper, *lower]), None, "ductal_arch"),
        *_vessels(
            _Vessel(descending, 0.088 * s, 0.064 * s, "descending_aorta", (0.0, 1.0)),
            _Vessel(duct, 0.088 * s, 0.06 * s, "ductus_arteriosus", (1.0, 0.3)),
            _Vessel(trunk, 0.11 * s, 0.084 * s, "pulmonary_artery", (0.8, -0.5)),
        ),
    ]
    return Scene.of(fetus, shapes, 0.8 * s, 0.85 * s, turn=22)


def _chambers(fetus: Fetus, random: np.random.Generator, *, axis: float, valves: bool) -> Scene:
    """The four chambers, drawn with the apex upwards and turned by ``axis`` degrees."""
    s = 0.62 * _chest_mm(fetus)
    shapes = _chest(fetus, random)
    left = (0.55, 0.7) if HYPOPLASTIC_LEFT_HEART in fetus.findings else (1.0, 1.0)
    flap = curve(scaled(_FORAMEN_FLAP, s), closed=False)
    parts = [
        Shape(curve(scaled([*_HEART_LEFT, *_HEART_RIGHT], s)), MYOCARDIUM, "heart"),
        Shape(scaled(curve(scaled(_LEFT_VENTRICLE, s)), left), CHAMBER, "left_ventricle", (0.0, -0.9)),
        Shape(curve(scaled(_RIGHT_VENTRICLE, s)), CHAMBER, "right_ventricle", (0.0, -0.9)),
        Shape(blob(random, 0.16 * s, 0.25 * s, 0.27 * s, 0.33 * s, 0, 0.03), CHAMBER, "left_atrium", (0.0, -0.6)),
        Shape(blob(random, -0.17 * s, 0.26 * s, 0.28 * s, 0.33 * s, 0, 0.03), CHAMBER, "right_atrium", (0.0, -0.6)),
        Shape(tube(straight(0.005 * s, -0.46 * s, 0.0, 0.06 * s), 0.07 * s), _WALL, "interventricular_septum"),
        Shape(tube(straight(0.0, 0.06 * s, 0.0, 0.16 * s), 0.03 * s), _WALL),
        Shape(tube(straight(0.0, 0.34 * s, 0.0, 0.42 * s), 0.03 * s), _WALL),
        Shape(ellipse(0.0, 0.25 * s, 0.06 * s, 0.17 * s), CHAMBER, "foramen_ovale", (0.8, 0.0)),
        Shape(tube(flap, 0.016 * s), _VALVE, "foramen_ovale"),
    ]
    if valves:
        for side, y, structure in ((1, 0.045 * s, "mitral_valve"), (-1, 0.08 * s, "tricuspid_valve")):
            for hinge, tip in ((0.03, 0.13), (0.27, 0.16)):
                leaflet = straight(side * hinge * s, y, side * tip * s, y - 0.05 * s)
                parts.append(Shape(tube(leaflet, 0.02 * s), _VALVE, structure))
    else:
        for x, y in ((0.33, 0.44), (0.05, 0.5)):
            vein = straight(0.17 * s, 0.36 * s, x * s, y * s)
            parts.append(Shape(tube(vein, 0.05 * s), VESSEL, "pulmonary_veins", (-0.4, -0.6)))
    if VENTRICULAR_SEPTAL_DEFECT in fetus.findings:
        parts.append(Shape(ellipse(0.0, -0.07 * s, 0.13 * s, 0.1 * s), CHAMBER, None, (0.9, 0.0)))
    return _scene(fetus, shapes, parts, axis, spine_turn=axis - 45 if valves else axis - 60)


def _scene(fetus: Fetus, chest: list[Shape], parts: list[Shape], axis: float, spine_turn: float = 0.0) -> Scene:
    """Heart and vessels, turned by ``axis``, in an axial chest whose spine lies away from the apex."""
    size = _chest_mm(fetus)
    # The chest's aorta is cut across: its flow keeps its direction.
    shapes = [replace(shape, outline=turned(shape.outline, spine_turn)) for shape in chest]
    x, y = turned(np.array([[0.06 * size, -0.1 * size]]), spine_turn)[0]
    for part in parts:
        flow = None
        if part.flow is not None:
            flow_x, flow_y = turned(np.array([part.flow]), axis)[0]
            flow = (float(flow_x), float(flow_y))
        shapes.append(replace(part, outline=shifted(turned(part.outline, axis), x, y), flow=flow))
    return Scene.of(fetus, shapes, 0.86 * size, 0.84 * size, turn=12)


@dataclass(frozen=True)
class _Vessel:
    """A vessel along ``line``, its outer and inner diameter in mm."""

    line: Points
    wall_mm: float
    lumen_mm: float
    structure: str
    flow: tuple[float, float]


def _vessels(*vessels: _Vessel) -> list[Shape]:
    """All walls before all blood, so that vessels open into each other."""
    walls = [Shape(tube(vessel.line, vessel.wall_mm), _WALL) for vessel in vessels]
    blood = [Shape(tube(v.line, v.lumen_mm), VESSEL, v.structure, v.flow) for v in vessels]
    return [*walls, *blood]


def _cut_across(
    s: float,
    middle: tuple[float, float],
    wall: tuple[float, float],
    lumen: tuple[float, float],
    structure: str | None = None,
    flow: tuple[float, float] | None = None,
) -> list[Shape]:
    """A vessel that crosses the plane: its middle, outer and inner width and height, in units of ``s``."""
    x, y = middle[0] * s, middle[1] * s
    return [
        Shape(ellipse(x, y, wall[0] * s, wall[1] * s), _WALL),
        Shape(ellipse(x, y, lumen[0] * s, lumen[1] * s), VESSEL, structure, flow),
    ]


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
        shapes.append(Shape(tube(rib, 0.03 * size), _RIB))
    for x, y in ((0.0, 0.4), (-0.075, 0.465), (0.075, 0.465)):
        shapes.append(Shape(blob(random, x * size, y * size, 0.085 * size, 0.07 * size, 0, 0.08), BONE, "spine"))
    aorta = ellipse(0.11 * size, 0.3 * size, 0.1 * size, 0.1 * size)
    shapes.append(Shape(aorta, VESSEL, "descending_aorta", (0.1, 0.8)))
    return shapes


def _long_chest(random: np.random.Generator, s: float) -> list[Shape]:
    """A section along the chest, head upwards and front to the left, with a row of vertebrae."""
    shapes = [
        Shape(curve(scaled([*_LONG_CHEST_TOP, *_LONG_CHEST_BOTTOM], s)), SKIN),
        Shape(blob(random, -0.05 * s, 0.0, 0.68 * s, 0.86 * s, 0, 0.03), LUNG),
        Shape(blob(random, -0.12 * s, 0.5 * s, 0.5 * s, 0.3 * s, 0, 0.04), _LIVER_DOME),
    ]
    shapes += [Shape(ellipse(0.285 * s, y * s, 0.06 * s, 0.05 * s), BONE) for y in np.arange(-0.42, 0.6, 0.095)]
    return shapes

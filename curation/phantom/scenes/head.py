"""Scenes of head and face: eight planes."""

from __future__ import annotations

import numpy as np

from sono.curation.phantom.anatomy import SCALP_EDEMA, Fetus

from .shapes import (
    BONE,
    BRAIN,
    BRIGHT,
    CARTILAGE,
    CEREBELLUM,
    FACIAL_BONE,
    FLUID,
    GREY_MATTER,
    PLEXUS,
    SKIN,
    THIN_BONE,
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
)

_VENTRICLE = Tissue(-40.0, 0.02, rim_db=7.0, rim_mm=0.4)
_WHITE_MATTER = Tissue(-11.0, 0.1)
_FALX = Tissue(4.0, 0.2, rim_db=11.0, rim_mm=0.3)
_CAVUM_WALL = Tissue(3.0, 0.2, rim_db=9.0, rim_mm=0.3)
_VERMIS = Tissue(2.0, 0.12)
_LIP = Tissue(4.0, 0.15, rim_db=9.0)
_TONGUE = Tissue(-5.0, 0.15)
_ORBIT_WALL = Tissue(9.0, 0.4, rim_db=14.0)
_LENS = Tissue(9.0, 0.2, rim_db=16.0, rim_mm=0.5)
_LENS_CORE = Tissue(-30.0, 0.0)
_NASAL_CAVITY = Tissue(-4.0, 0.2)
_NUCHAL_SKIN = Tissue(8.0, 0.1, rim_db=12.0, rim_mm=0.5)
_EARLY_CHEST = Tissue(-1.0, 0.12, rim_db=8.0)
_EARLY_LIMB_BONE = Tissue(10.0, 1.5, rim_db=14.0)

# Axial sections, in units of the occipitofrontal diameter along x and the biparietal one along y: the side below the
# midline.
_BACK_HORN = ((-0.02, 0.13), (0.13, 0.19), (0.27, 0.2), (0.35, 0.15))
_FRONTAL_HORN = ((-0.17, 0.08), (-0.24, 0.1), (-0.3, 0.17))

# The early profile, in units of the head's length from crown to neck: the complete outline, clockwise from the crown.
_NT_FOREHEAD = ((-0.98, 0.06), (-0.86, -0.36), (-0.52, -0.52), (-0.3, -0.47), (-0.2, -0.42))
_NT_NOSE_TO_CHIN = ((-0.1, -0.52), (-0.04, -0.42), (0.06, -0.42), (0.1, -0.34), (0.2, -0.36), (0.28, -0.22))
_NT_CHEST = ((0.55, -0.34), (1.1, -0.45), (1.45, -0.3), (1.5, 0.4))
_NT_BACK = ((0.9, 0.48), (0.3, 0.36), (-0.1, 0.4), (-0.6, 0.5), (-0.9, 0.34))
_NT_NECK = ((-0.42, 0.5), (-0.1, 0.4), (0.3, 0.36), (0.75, 0.45), (1.05, 0.48))
"""Where the fluid lies, from the back of the head to the back."""

# The later profile, in nine tenths of the biparietal diameter, clockwise from the back of the head.
_FACE_FOREHEAD = ((-1.0, 0.5), (-0.95, 0.05), (-0.75, -0.3), (-0.45, -0.44), (-0.2, -0.42))
_FACE_NOSE = ((-0.09, -0.36), (0.06, -0.53), (0.12, -0.5), (0.15, -0.36))
_FACE_LIPS = ((0.23, -0.42), (0.28, -0.36), (0.34, -0.41), (0.4, -0.31))
_FACE_CHIN_TO_CHEST = ((0.52, -0.33), (0.58, -0.18), (0.6, 0.05), (0.9, 0.1), (1.1, 0.0), (1.15, 0.55))
_FRONTAL_BONE = ((-0.86, 0.0), (-0.72, -0.25), (-0.45, -0.385), (-0.2, -0.37))
_MANDIBLE = ((0.26, 0.05), (0.38, -0.08), (0.47, -0.23))

# Across the orbits, in units of the width and the length of that section.
_NOSE_ACROSS = ((-0.1, -0.47), (-0.04, -0.58), (0.04, -0.58), (0.1, -0.47), (0.0, -0.4))

# The whole early fetus, in units of the crown-rump length, clockwise from the crown.
_CRL_HEAD = ((-0.5, -0.03), (-0.42, -0.2), (-0.28, -0.225), (-0.2, -0.2), (-0.15, -0.1))
_CRL_TRUNK = ((0.0, -0.15), (0.2, -0.19), (0.38, -0.12), (0.5, 0.02), (0.42, 0.14), (0.2, 0.17), (-0.05, 0.13))
_CRL_NAPE = ((-0.17, 0.09), (-0.33, 0.14), (-0.45, 0.1))
_CRL_THROAT, _CRL_NECK = (-0.14, -0.05), (-0.17, 0.07)
"""Where the trunk continues under the head."""
_CRL_ARM = ((0.05, -0.13), (-0.02, -0.24), (-0.1, -0.25))
_CRL_LEG = ((0.36, -0.1), (0.34, -0.26), (0.46, -0.28), (0.52, -0.24))


def transventricular(fetus: Fetus, random: np.random.Generator) -> Scene:
    """The lateral ventricles' back horns with the choroid plexus in them; the cavum in front."""
    ofd, bpd = fetus.ofd_mm, fetus.bpd_mm
    atrium = min(7.0, 0.2 * bpd) * random.uniform(0.9, 1.15)
    shapes = _cranium(fetus, random)
    shapes += _cavum(fetus) + _falx(fetus, (-0.45, -0.27), (-0.15, 0.46)) + _frontal_horns(fetus)
    for side in (-1, 1):
        horn = curve(scaled(_BACK_HORN, (ofd, side * bpd)), closed=False)
        plexus = horn[int(0.12 * len(horn)) : int(0.66 * len(horn))]
        shapes += [
            Shape(tube(horn, [0.4, 1.0, 1.05, 0.5], atrium), _VENTRICLE, "lateral_ventricles"),
            Shape(tube(plexus, [0.35, 0.72, 0.6], atrium), PLEXUS, "choroid_plexus"),
        ]
    return Scene.of(fetus, shapes, ofd, bpd, turn=25)


def transthalamic(fetus: Fetus, random: np.random.Generator) -> Scene:
    """The thalami beside the third ventricle; the cavum in front. The plane of biometry."""
    ofd, bpd = fetus.ofd_mm, fetus.bpd_mm
    shapes = _cranium(fetus, random)
    shapes += _cavum(fetus) + _falx(fetus, (-0.45, -0.27), (0.2, 0.46)) + _frontal_horns(fetus)
    shapes += _thalami(fetus, random, 0.03)
    third_ventricle = tube(straight(-0.06 * ofd, 0, 0.12 * ofd, 0), max(1.2, 0.022 * bpd))
    shapes.append(Shape(third_ventricle, _VENTRICLE, "third_ventricle"))
    shapes += _insulae(fetus)
    return Scene.of(fetus, shapes, ofd, bpd, turn=25)


def transcerebellar(fetus: Fetus, random: np.random.Generator) -> Scene:
    """Tilted backwards: the cerebellum's hemispheres and the cisterna magna behind them."""
    ofd, bpd = fetus.ofd_mm, fetus.bpd_mm
    tcd = min(fetus.tcd_mm, 0.62 * bpd)
    shapes = _cranium(fetus, random)
    shapes.append(Shape(_lens(0.29 * ofd, 0.462 * ofd, 0.47 * bpd), _VENTRICLE, "cisterna_magna"))
    shapes += _cavum(fetus) + _falx(fetus, (-0.45, -0.27), (-0.15, -0.08), tagged=False) + _frontal_horns(fetus)
    shapes += _thalami(fetus, random, -0.02)
    for side in (-1, 1):
        hemisphere = blob(random, 0.27 * ofd, side * 0.26 * tcd, 0.34 * tcd, 0.5 * tcd, side * -22, 0.03)
        shapes.append(Shape(hemisphere, CEREBELLUM, "cerebellum"))
    shapes.append(Shape(ellipse(0.275 * ofd, 0, 0.3 * tcd, 0.16 * tcd), _VERMIS, "cerebellum"))
    return Scene.of(fetus, shapes, ofd, bpd, turn=25)


def early_head(fetus: Fetus, random: np.random.Generator) -> Scene:
    """Before 14 weeks: both plexuses fill the hemispheres like a butterfly's wings."""
    ofd, bpd = fetus.ofd_mm, fetus.bpd_mm
    shapes = [
        Shape(ellipse(0, 0, ofd + 2.4, bpd + 2.4), SKIN),
        Shape(ellipse(0, 0, ofd, bpd), THIN_BONE, "head"),
        Shape(ellipse(0, 0, ofd - 1.8, bpd - 1.8), _WHITE_MATTER),
    ]
    for side in (-1, 1):
        ventricle = blob(random, 0.02 * ofd, side * 0.225 * bpd, 0.78 * ofd, 0.36 * bpd, side * 5, 0.03)
        plexus = blob(random, 0.07 * ofd, side * 0.22 * bpd, 0.56 * ofd, 0.27 * bpd, side * 9, 0.05)
        shapes += [Shape(ventricle, _VENTRICLE, "lateral_ventricles"), Shape(plexus, PLEXUS, "choroid_plexus")]
    shapes += _falx(fetus, (-0.47, 0.47))
    return Scene.of(fetus, shapes, ofd, bpd, turn=35)


def nt(fetus: Fetus, random: np.random.Generator) -> Scene:
    """The middle of a fetus on its back, head to the left: fluid under the skin of its neck."""
    h = 0.37 * fetus.crl_mm  # length of the head, crown to neck
    gap = fetus.nt_mm
    body = curve(scaled([*_NT_FOREHEAD, *_NT_NOSE_TO_CHIN, *_NT_CHEST, *_NT_BACK], h))
    neck = curve(scaled(_NT_NECK, h), closed=False)
    fluid = tube(shifted(neck, 0, 0.5 * gap), [0.3, 0.9 * gap, gap, 0.8 * gap, 0.3])
    skin = tube(shifted(neck, 0, 1.1 * gap), [0.5, 0.9, 0.9, 0.9, 0.5])
    head = ellipse(-0.42 * h, -0.01 * h, 1.12 * h, 0.94 * h, 6)
    shapes = [
        Shape(skin, _NUCHAL_SKIN),
        Shape(body, SKIN),
        Shape(fluid, FLUID, "nuchal_translucency"),
        Shape(head, THIN_BONE, "head"),
        Shape(ellipse(-0.42 * h, -0.01 * h, 1.12 * h - 1.4, 0.94 * h - 1.4, 6), _WHITE_MATTER),
        Shape(blob(random, -0.6 * h, -0.12 * h, 0.42 * h, 0.34 * h, 10, 0.06), PLEXUS),
        Shape(blob(random, -0.25 * h, 0.1 * h, 0.26 * h, 0.2 * h, -30, 0.04), _VENTRICLE, "diencephalon"),
        Shape(tube(straight(-0.21 * h, -0.39 * h, -0.1 * h, -0.455 * h), 0.05 * h), BONE, "nasal_bone"),
        Shape(ellipse(-0.08 * h, -0.49 * h, 0.13 * h, 0.1 * h), CARTILAGE, "nose"),
        Shape(tube(straight(-0.08 * h, -0.3 * h, 0.1 * h, -0.27 * h), 0.045 * h), BONE, "palate"),
        Shape(blob(random, 1.0 * h, 0.02 * h, 0.86 * h, 0.72 * h, -4, 0.03), _EARLY_CHEST, "thorax"),
        Shape(ellipse(0.98 * h, -0.02 * h, 0.26 * h, 0.24 * h), Tissue(-24.0, 0.1, rim_db=6.0)),  # the heart
    ]
    for number, x in enumerate(np.linspace(0.3, 1.4, 9)):  # vertebrae
        shapes.append(Shape(ellipse(x * h, 0.3 * h + 0.02 * h * (number % 2), 0.07 * h, 0.06 * h), BONE))
    return Scene.of(fetus, shapes, 2.5 * h, 1.2 * h, turn=14, middle=(0.25 * h, 0))


def sideface(fetus: Fetus, random: np.random.Generator) -> Scene:
    """The profile, looking up at the probe, forehead to the left."""
    h = fetus.bpd_mm * 0.9
    profile = curve(scaled([*_FACE_FOREHEAD, *_FACE_NOSE, *_FACE_LIPS, *_FACE_CHIN_TO_CHEST], h))
    forehead = curve(scaled(_FRONTAL_BONE, h), closed=False)
    mandible = curve(scaled(_MANDIBLE, h), closed=False)
    shapes = [
        Shape(profile, SKIN),
        Shape(ellipse(-0.42 * h, 0.2 * h, 0.95 * h, 0.98 * h), BRAIN),
        Shape(tube(forehead, 0.055 * h), THIN_BONE, "forehead"),
        Shape(tube(straight(-0.11 * h, -0.34 * h, 0.02 * h, -0.435 * h), 0.045 * h), FACIAL_BONE, "nasal_bone"),
        Shape(blob(random, 0.09 * h, -0.46 * h, 0.13 * h, 0.1 * h, 20), CARTILAGE, "nose"),
        Shape(blob(random, 0.22 * h, -0.385 * h, 0.1 * h, 0.07 * h, 40), _LIP, "lips"),
        Shape(blob(random, 0.335 * h, -0.37 * h, 0.1 * h, 0.07 * h, 70), _LIP, "lips"),
        Shape(tube(straight(0.08 * h, -0.24 * h, 0.27 * h, -0.27 * h), 0.07 * h), FACIAL_BONE, "maxilla"),
        Shape(tube(straight(0.12 * h, -0.1 * h, 0.36 * h, -0.14 * h), 0.1 * h), _TONGUE),
        Shape(tube(mandible, 0.075 * h), FACIAL_BONE, "mandible"),
    ]
    return Scene.of(fetus, shapes, 2.2 * h, 1.1 * h, turn=18, middle=(0.05 * h, 0.0), depth=0.72)


def eye(fetus: Fetus, random: np.random.Generator) -> Scene:
    """Across both orbits, the face towards the probe."""
    ofd, bpd = 0.92 * fetus.ofd_mm, 0.94 * fetus.bpd_mm
    socket = 0.22 * bpd
    shapes = [
        Shape(ellipse(0, 0, bpd + 3.0, ofd + 3.0), SKIN),
        Shape(curve(scaled(_NOSE_ACROSS, (bpd, ofd))), CARTILAGE, "nose"),
        Shape(ellipse(0, 0.04 * ofd, bpd, 0.92 * ofd), THIN_BONE),
        Shape(ellipse(0, 0.04 * ofd, bpd - 2.4, 0.92 * ofd - 2.4), BRAIN),
        Shape(tube(straight(0, -0.05 * ofd, 0, 0.46 * ofd), 0.9), BRIGHT),
        Shape(ellipse(0, -0.29 * ofd, 0.2 * bpd, 0.2 * ofd), _NASAL_CAVITY),
    ]
    for side in (-1, 1):
        x, y = side * 0.235 * bpd, -0.3 * ofd
        lens_x, lens_y = x - side * 0.02 * bpd, y - 0.28 * socket - 0.02 * ofd
        shapes += [
            Shape(ellipse(x, y, 1.28 * socket, 1.34 * socket, side * 10), _ORBIT_WALL),
            Shape(blob(random, x, y - 0.02 * ofd, 1.06 * socket, 1.1 * socket, 0, 0.02), _VENTRICLE, "orbits"),
            Shape(ellipse(lens_x, lens_y, 0.4 * socket, 0.3 * socket), _LENS, "lenses"),
            Shape(ellipse(lens_x, lens_y, 0.24 * socket, 0.16 * socket), _LENS_CORE, "lenses"),
        ]
    return Scene.of(fetus, shapes, bpd, ofd, turn=20)


def crl(fetus: Fetus, random: np.random.Generator) -> Scene:
    """The whole fetus from crown to rump, on its back, with its limbs."""
    c = fetus.crl_mm
    head = blob(random, -0.31 * c, -0.04 * c, 0.4 * c, 0.35 * c, 8, 0.02)
    trunk = curve(scaled([_CRL_THROAT, *_CRL_TRUNK, _CRL_NECK], c))
    whole = curve(scaled([*_CRL_HEAD, *_CRL_TRUNK, *_CRL_NAPE], c))
    limbs = [curve(scaled(limb, c), closed=False) for limb in (_CRL_ARM, _CRL_LEG)]
    shapes = [Shape(tube(limb, [0.075, 0.06, 0.045], c), SKIN, "limbs") for limb in limbs]
    shapes += [Shape(tube(limb[3:-3], 0.014 * c), _EARLY_LIMB_BONE) for limb in limbs]
    shapes += [
        Shape(whole, None, "fetus"),
        Shape(trunk, SKIN, "trunk"),
        Shape(head, THIN_BONE, "head"),
        Shape(blob(random, -0.31 * c, -0.04 * c, 0.4 * c - 1.5, 0.35 * c - 1.5, 8, 0.02), _WHITE_MATTER),
        Shape(blob(random, -0.36 * c, -0.05 * c, 0.16 * c, 0.12 * c, 20, 0.06), PLEXUS),
        Shape(ellipse(-0.25 * c, 0.02 * c, 0.09 * c, 0.06 * c), _VENTRICLE),
        Shape(ellipse(0.03 * c, -0.03 * c, 0.09 * c, 0.08 * c), Tissue(-22.0, 0.1, rim_db=6.0)),  # the heart
        Shape(ellipse(0.21 * c, -0.06 * c, 0.08 * c, 0.05 * c), FLUID),  # stomach
        Shape(ellipse(0.37 * c, 0.0, 0.05 * c, 0.04 * c), FLUID),  # bladder
    ]
    for x in np.linspace(-0.13, 0.42, 15):  # vertebrae
        y = 0.115 - 0.35 * (x - 0.13) ** 2
        shapes.append(Shape(ellipse(x * c, y * c - 0.01 * c, 0.02 * c, 0.018 * c), BONE))
    return Scene.of(fetus, shapes, 1.05 * c, 0.5 * c, turn=16)


def _cranium(fetus: Fetus, random: np.random.Generator) -> list[Shape]:
    """Scalp, skull and brain of an axial section, the forehead to the left."""
    ofd, bpd = fetus.ofd_mm, fetus.bpd_mm
    bone = max(1.1, 0.02 * bpd)
    scalp = 11.0 if SCALP_EDEMA in fetus.findings else 3.0
    shapes = [
        Shape(ellipse(0, 0, ofd + scalp, bpd + scalp), SKIN),
        Shape(ellipse(0, 0, ofd, bpd), THIN_BONE, "head"),
        Shape(ellipse(0, 0, ofd - 2 * bone, bpd - 2 * bone), BRAIN),
    ]
    for side in (-1, 1):
        x = random.uniform(-0.05, 0.2) * ofd
        shapes.append(Shape(blob(random, x, side * 0.33 * bpd, 0.55 * ofd, 0.16 * bpd, side * -4, 0.08), _WHITE_MATTER))
    return shapes


def _falx(fetus: Fetus, *spans: tuple[float, float], tagged: bool = True) -> list[Shape]:
    """The midline echo, over the given stretches of the occipitofrontal diameter."""
    ofd, width = fetus.ofd_mm, max(0.9, 0.016 * fetus.bpd_mm)
    structure = "falx" if tagged else None
    return [Shape(tube(straight(start * ofd, 0, end * ofd, 0), width), _FALX, structure) for start, end in spans]


def _cavum(fetus: Fetus) -> list[Shape]:
    """A box of fluid between two walls that interrupts the midline in its front third."""
    ofd, bpd = fetus.ofd_mm, fetus.bpd_mm
    width, height = 0.105 * ofd, 0.075 * bpd
    box = curve(
        [(-0.21 * ofd + x * width / 2, y * height / 2) for x, y in ((-1, -0.9), (1, -0.9), (1, 0.9), (-1, 0.9))],
        per_segment=5,
    )
    return [
        Shape(scaled(box, (1.0, 1.35)), _CAVUM_WALL),
        Shape(box, _VENTRICLE, "cavum_septi_pellucidi"),
    ]


def _frontal_horns(fetus: Fetus) -> list[Shape]:
    """The lateral ventricles' front ends, a slit on either side of the cavum."""
    ofd, bpd = fetus.ofd_mm, fetus.bpd_mm
    horns = [curve(scaled(_FRONTAL_HORN, (ofd, side * bpd)), closed=False) for side in (-1, 1)]
    return [Shape(tube(horn, [0.025, 0.05, 0.035], bpd), _VENTRICLE, "frontal_horns") for horn in horns]


def _thalami(fetus: Fetus, random: np.random.Generator, x: float) -> list[Shape]:
    """Two dark ovals beside the midline, their middle at ``x`` in units of the occipitofrontal diameter."""
    ofd, bpd = fetus.ofd_mm, fetus.bpd_mm
    sides = [blob(random, x * ofd, s * 0.105 * bpd, 0.23 * ofd, 0.16 * bpd, s * 14, 0.03) for s in (-1, 1)]
    return [Shape(side, GREY_MATTER, "thalami") for side in sides]


def _insulae(fetus: Fetus) -> list[Shape]:
    """The bright bend of the Sylvian fissure on both sides."""
    ofd, bpd = fetus.ofd_mm, fetus.bpd_mm
    line = arc(0.06 * ofd, 0.42 * bpd, 0.3 * ofd, 0.24 * bpd, 200, 340)
    return [Shape(tube(scaled(line, (1, side)), 0.9), BRIGHT) for side in (1, -1)]


def _lens(x0: float, x1: float, height: float) -> Points:
    """A crescent behind the cerebellum, against the skull."""
    outer = curve(
        [(x0, -0.5 * height), (0.75 * x1, -0.42 * height), (x1, 0), (0.75 * x1, 0.42 * height), (x0, 0.5 * height)],
        closed=False,
    )
    inner = curve([(x0, 0.5 * height), (x0 + 0.62 * (x1 - x0), 0), (x0, -0.5 * height)], closed=False)
    return np.concatenate([outer, inner[1:-1]])

"""Scenes of head and face: eight planes."""

from __future__ import annotations

import numpy as np

from .phantom_anatomy import SCALP_EDEMA, Fetus
from .phantom_shapes import (
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
    straight,
    tube,
)

_VENTRICLE = Tissue(-40.0, 0.02, rim_db=7.0, rim_mm=0.4)
_WHITE_MATTER = Tissue(-11.0, 0.1)


def transventricular(fetus: Fetus, random: np.random.Generator) -> Scene:
    """The lateral ventricles' back horns with the choroid plexus in them; the cavum in front."""
    ofd, bpd = fetus.ofd_mm, fetus.bpd_mm
    atrium = min(7.0, 0.2 * bpd) * random.uniform(0.9, 1.15)
    shapes = _cranium(fetus, random)
    shapes += _cavum(fetus) + _falx(fetus, (-0.45, -0.27), (-0.15, 0.46)) + _frontal_horns(fetus)
    for side in (-1, 1):
        line = curve(
            [
                (-0.02 * ofd, side * 0.13 * bpd),
                (0.13 * ofd, side * 0.19 * bpd),
                (0.27 * ofd, side * 0.2 * bpd),
                (0.35 * ofd, side * 0.15 * bpd),
            ],
            closed=False,
        )
        shapes.append(
            Shape(tube(line, [0.4 * atrium, atrium, 1.05 * atrium, 0.5 * atrium]), _VENTRICLE, "lateral_ventricles")
        )
        plexus = line[int(0.12 * len(line)) : int(0.66 * len(line))]
        shapes.append(Shape(tube(plexus, [0.35 * atrium, 0.72 * atrium, 0.6 * atrium]), PLEXUS, "choroid_plexus"))
    return Scene.of(fetus, shapes, ofd, bpd, turn=25)


def transthalamic(fetus: Fetus, random: np.random.Generator) -> Scene:
    """The thalami beside the third ventricle; the cavum in front. The plane of biometry."""
    ofd, bpd = fetus.ofd_mm, fetus.bpd_mm
    shapes = _cranium(fetus, random)
    shapes += (
        _cavum(fetus)
        + _falx(fetus, (-0.45, -0.27), (0.2, 0.46))
        + _frontal_horns(fetus)
        + _thalami(fetus, random, 0.03)
    )
    shapes.append(
        Shape(tube(straight(-0.06 * ofd, 0, 0.12 * ofd, 0), max(1.2, 0.022 * bpd)), _VENTRICLE, "third_ventricle")
    )
    shapes += _insulae(ofd, bpd)
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
        shapes.append(
            Shape(
                blob(random, 0.27 * ofd, side * 0.26 * tcd, 0.34 * tcd, 0.5 * tcd, side * -22, 0.03),
                CEREBELLUM,
                "cerebellum",
            )
        )
    shapes.append(Shape(ellipse(0.275 * ofd, 0, 0.3 * tcd, 0.16 * tcd), Tissue(2.0, 0.12), "cerebellum"))
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
        shapes.append(
            Shape(
                blob(random, 0.02 * ofd, side * 0.225 * bpd, 0.78 * ofd, 0.36 * bpd, side * 5, 0.03),
                _VENTRICLE,
                "lateral_ventricles",
            )
        )
        shapes.append(
            Shape(
                blob(random, 0.07 * ofd, side * 0.22 * bpd, 0.56 * ofd, 0.27 * bpd, side * 9, 0.05),
                PLEXUS,
                "choroid_plexus",
            )
        )
    shapes += _falx(fetus, (-0.47, 0.47))
    return Scene.of(fetus, shapes, ofd, bpd, turn=35)


def nt(fetus: Fetus, random: np.random.Generator) -> Scene:
    """The middle of a fetus on its back, head to the left: fluid under the skin of its neck."""
    h = 0.37 * fetus.crl_mm  # length of the head, crown to neck
    gap = fetus.nt_mm * 1.25
    profile = [
        (-0.98 * h, 0.06 * h),
        (-0.86 * h, -0.36 * h),
        (-0.52 * h, -0.52 * h),
        (-0.3 * h, -0.47 * h),
        (-0.2 * h, -0.42 * h),
        (-0.1 * h, -0.52 * h),
        (-0.04 * h, -0.42 * h),
        (0.06 * h, -0.42 * h),
        (0.1 * h, -0.34 * h),
        (0.2 * h, -0.36 * h),
        (0.28 * h, -0.22 * h),
        (0.55 * h, -0.34 * h),
        (1.1 * h, -0.45 * h),
        (1.45 * h, -0.3 * h),
        (1.5 * h, 0.4 * h),
        (0.9 * h, 0.48 * h),
        (0.3 * h, 0.36 * h),
        (-0.1 * h, 0.4 * h),
        (-0.6 * h, 0.5 * h),
        (-0.9 * h, 0.34 * h),
    ]
    body = curve(profile)
    back = curve(
        [(-0.42 * h, 0.5 * h), (-0.1 * h, 0.4 * h), (0.3 * h, 0.36 * h), (0.75 * h, 0.45 * h), (1.05 * h, 0.48 * h)],
        closed=False,
    )
    swollen = tube(back + np.array([0, 0.5 * gap]), [0.3, 0.9 * gap, gap, 0.8 * gap, 0.3])
    skin = tube(back + np.array([0, 1.1 * gap]), [0.5, 0.9, 0.9, 0.9, 0.5])
    head = ellipse(-0.42 * h, -0.01 * h, 1.12 * h, 0.94 * h, 6)
    shapes = [
        Shape(skin, Tissue(8.0, 0.1, rim_db=12.0, rim_mm=0.5)),
        Shape(body, SKIN),
        Shape(swollen, FLUID, "nuchal_translucency"),
        Shape(head, THIN_BONE, "head"),
        Shape(ellipse(-0.42 * h, -0.01 * h, 1.12 * h - 1.4, 0.94 * h - 1.4, 6), _WHITE_MATTER),
        Shape(blob(random, -0.6 * h, -0.12 * h, 0.42 * h, 0.34 * h, 10, 0.06), PLEXUS),
        Shape(blob(random, -0.25 * h, 0.1 * h, 0.26 * h, 0.2 * h, -30, 0.04), _VENTRICLE, "diencephalon"),
        Shape(tube(straight(-0.21 * h, -0.39 * h, -0.1 * h, -0.455 * h), 0.05 * h), BONE, "nasal_bone"),
        Shape(ellipse(-0.08 * h, -0.49 * h, 0.13 * h, 0.1 * h), CARTILAGE, "nose"),
        Shape(tube(straight(-0.08 * h, -0.3 * h, 0.1 * h, -0.27 * h), 0.045 * h), BONE, "palate"),
        Shape(blob(random, 1.0 * h, 0.02 * h, 0.86 * h, 0.72 * h, -4, 0.03), Tissue(-1.0, 0.12, rim_db=8.0), "thorax"),
        Shape(ellipse(0.98 * h, -0.02 * h, 0.26 * h, 0.24 * h), Tissue(-24.0, 0.1, rim_db=6.0)),
    ]
    shapes += [
        Shape(ellipse(x * h, 0.3 * h + 0.02 * h * (i % 2), 0.07 * h, 0.06 * h), BONE)
        for i, x in enumerate(np.linspace(0.3, 1.4, 9))
    ]
    return Scene.of(fetus, shapes, 2.5 * h, 1.2 * h, turn=14, middle=(0.25 * h, 0))


def sideface(fetus: Fetus, random: np.random.Generator) -> Scene:
    """The profile, looking up at the probe, forehead to the left."""
    h = fetus.bpd_mm * 0.9
    outline = curve(
        [
            (-1.0 * h, 0.5 * h), (-0.95 * h, 0.05 * h), (-0.75 * h, -0.3 * h), (-0.45 * h, -0.44 * h), (-0.2 * h, -0.42 * h),
            (-0.09 * h, -0.36 * h), (0.06 * h, -0.53 * h), (0.12 * h, -0.5 * h), (0.15 * h, -0.36 * h), (0.23 * h, -0.42 * h),
            (0.28 * h, -0.36 * h), (0.34 * h, -0.41 * h), (0.4 * h, -0.31 * h), (0.52 * h, -0.33 * h), (0.58 * h, -0.18 * h),
            (0.6 * h, 0.05 * h), (0.9 * h, 0.1 * h), (1.1 * h, 0.0), (1.15 * h, 0.55 * h),
        ]
    )  # fmt: skip
    forehead = curve(
        [(-0.86 * h, 0.0), (-0.72 * h, -0.25 * h), (-0.45 * h, -0.385 * h), (-0.2 * h, -0.37 * h)], closed=False
    )
    shapes = [
        Shape(outline, SKIN),
        Shape(ellipse(-0.42 * h, 0.2 * h, 0.95 * h, 0.98 * h), BRAIN),
        Shape(tube(forehead, 0.055 * h), THIN_BONE, "forehead"),
        Shape(tube(straight(-0.11 * h, -0.34 * h, 0.02 * h, -0.435 * h), 0.045 * h), FACIAL_BONE, "nasal_bone"),
        Shape(blob(random, 0.09 * h, -0.46 * h, 0.13 * h, 0.1 * h, 20), CARTILAGE, "nose"),
        Shape(blob(random, 0.22 * h, -0.385 * h, 0.1 * h, 0.07 * h, 40), Tissue(4.0, 0.15, rim_db=9.0), "lips"),
        Shape(blob(random, 0.335 * h, -0.37 * h, 0.1 * h, 0.07 * h, 70), Tissue(4.0, 0.15, rim_db=9.0), "lips"),
        Shape(tube(straight(0.08 * h, -0.24 * h, 0.27 * h, -0.27 * h), 0.07 * h), FACIAL_BONE, "maxilla"),
        Shape(tube(straight(0.12 * h, -0.1 * h, 0.36 * h, -0.14 * h), 0.1 * h), Tissue(-5.0, 0.15)),
        Shape(
            tube(curve([(0.26 * h, 0.05 * h), (0.38 * h, -0.08 * h), (0.47 * h, -0.23 * h)], closed=False), 0.075 * h),
            FACIAL_BONE,
            "mandible",
        ),
    ]
    return Scene.of(fetus, shapes, 2.2 * h, 1.1 * h, turn=18, middle=(0.05 * h, 0.0))


def eye(fetus: Fetus, random: np.random.Generator) -> Scene:
    """Across both orbits, the face towards the probe."""
    ofd, bpd = 0.92 * fetus.ofd_mm, 0.94 * fetus.bpd_mm
    socket = 0.22 * bpd
    shapes = [
        Shape(ellipse(0, 0, bpd + 3.0, ofd + 3.0), SKIN),
        Shape(curve([(-0.1 * bpd, -0.47 * ofd), (-0.04 * bpd, -0.58 * ofd), (0.04 * bpd, -0.58 * ofd), (0.1 * bpd, -0.47 * ofd), (0, -0.4 * ofd)]), CARTILAGE, "nose"),
        Shape(ellipse(0, 0.04 * ofd, bpd, 0.92 * ofd), THIN_BONE),
        Shape(ellipse(0, 0.04 * ofd, bpd - 2.4, 0.92 * ofd - 2.4), BRAIN),
        Shape(tube(straight(0, -0.05 * ofd, 0, 0.46 * ofd), 0.9), BRIGHT),
        Shape(ellipse(0, -0.29 * ofd, 0.2 * bpd, 0.2 * ofd), Tissue(-4.0, 0.2)),
    ]  # fmt: skip
    for side in (-1, 1):
        x, y = side * 0.235 * bpd, -0.3 * ofd
        shapes += [
            Shape(ellipse(x, y, 1.28 * socket, 1.34 * socket, side * 10), Tissue(9.0, 0.4, rim_db=14.0)),
            Shape(blob(random, x, y - 0.02 * ofd, 1.06 * socket, 1.1 * socket, 0, 0.02), _VENTRICLE, "orbits"),
            Shape(ellipse(x - side * 0.02 * bpd, y - 0.28 * socket - 0.02 * ofd, 0.4 * socket, 0.3 * socket), Tissue(9.0, 0.2, rim_db=16.0, rim_mm=0.5), "lenses"),
            Shape(ellipse(x - side * 0.02 * bpd, y - 0.28 * socket - 0.02 * ofd, 0.24 * socket, 0.16 * socket), Tissue(-30.0, 0.0), "lenses"),
        ]  # fmt: skip
    return Scene.of(fetus, shapes, bpd, ofd, turn=20)


def crl(fetus: Fetus, random: np.random.Generator) -> Scene:
    """The whole fetus from crown to rump, on its back, with its limbs."""
    c = fetus.crl_mm
    head = blob(random, -0.31 * c, -0.04 * c, 0.4 * c, 0.35 * c, 8, 0.02)
    trunk = curve(
        [(-0.14 * c, -0.05 * c), (0.0, -0.15 * c), (0.2 * c, -0.19 * c), (0.38 * c, -0.12 * c), (0.5 * c, 0.02 * c), (0.42 * c, 0.14 * c), (0.2 * c, 0.17 * c), (-0.05 * c, 0.13 * c), (-0.17 * c, 0.07 * c)]
    )  # fmt: skip
    whole = curve(
        [(-0.5 * c, -0.03 * c), (-0.42 * c, -0.2 * c), (-0.28 * c, -0.225 * c), (-0.2 * c, -0.2 * c), (-0.15 * c, -0.1 * c), (0.0, -0.15 * c), (0.2 * c, -0.19 * c), (0.38 * c, -0.12 * c), (0.5 * c, 0.02 * c), (0.42 * c, 0.14 * c), (0.2 * c, 0.17 * c), (-0.05 * c, 0.13 * c), (-0.17 * c, 0.09 * c), (-0.33 * c, 0.14 * c), (-0.45 * c, 0.1 * c)]
    )  # fmt: skip
    limbs = [
        curve([(0.05 * c, -0.13 * c), (-0.02 * c, -0.24 * c), (-0.1 * c, -0.25 * c)], closed=False),
        curve(
            [(0.36 * c, -0.1 * c), (0.34 * c, -0.26 * c), (0.46 * c, -0.28 * c), (0.52 * c, -0.24 * c)], closed=False
        ),
    ]
    shapes = [Shape(tube(limb, [0.075 * c, 0.06 * c, 0.045 * c]), SKIN, "limbs") for limb in limbs]
    shapes += [Shape(tube(limb[3:-3], 0.014 * c), Tissue(10.0, 1.5, rim_db=14.0)) for limb in limbs]
    shapes += [
        Shape(whole, None, "fetus"),
        Shape(trunk, SKIN, "trunk"),
        Shape(head, THIN_BONE, "head"),
        Shape(blob(random, -0.31 * c, -0.04 * c, 0.4 * c - 1.5, 0.35 * c - 1.5, 8, 0.02), _WHITE_MATTER),
        Shape(blob(random, -0.36 * c, -0.05 * c, 0.16 * c, 0.12 * c, 20, 0.06), PLEXUS),
        Shape(ellipse(-0.25 * c, 0.02 * c, 0.09 * c, 0.06 * c), _VENTRICLE),
        Shape(ellipse(0.03 * c, -0.03 * c, 0.09 * c, 0.08 * c), Tissue(-22.0, 0.1, rim_db=6.0)),
        Shape(ellipse(0.21 * c, -0.06 * c, 0.08 * c, 0.05 * c), FLUID),
        Shape(ellipse(0.37 * c, 0.0, 0.05 * c, 0.04 * c), FLUID),
    ]
    shapes += [
        Shape(ellipse(x * c, (0.115 - 0.35 * (x - 0.13) ** 2) * c - 0.01 * c, 0.02 * c, 0.018 * c), BONE)
        for x in np.linspace(-0.13, 0.42, 15)
    ]
    return Scene.of(fetus, shapes, 1.05 * c, 0.5 * c, turn=16)


def _cranium(fetus: Fetus, random: np.random.Generator) -> list[Shape]:
    """Scalp, skull and brain of an axial section, the forehead to the left."""
    ofd, bpd = fetus.ofd_mm, fetus.bpd_mm
    bone = max(1.1, 0.02 * bpd)
    scalp = 11.0 if SCALP_EDEMA in fetus.findings else 3.0
    return [
        Shape(ellipse(0, 0, ofd + scalp, bpd + scalp), SKIN),
        Shape(ellipse(0, 0, ofd, bpd), THIN_BONE, "head"),
        Shape(ellipse(0, 0, ofd - 2 * bone, bpd - 2 * bone), BRAIN),
        *[
            Shape(blob(random, random.uniform(-0.05, 0.2) * ofd, side * 0.33 * bpd, 0.55 * ofd, 0.16 * bpd, side * -4, 0.08), _WHITE_MATTER)
            for side in (-1, 1)
        ],
    ]  # fmt: skip


def _falx(fetus: Fetus, *spans: tuple[float, float], tagged: bool = True) -> list[Shape]:
    """The midline echo, over the given stretches of the occipitofrontal diameter."""
    width = max(0.9, 0.016 * fetus.bpd_mm)
    return [
        Shape(tube(straight(start * fetus.ofd_mm, 0, end * fetus.ofd_mm, 0), width), Tissue(4.0, 0.2, rim_db=11.0, rim_mm=0.3), "falx" if tagged else None)
        for start, end in spans
    ]  # fmt: skip


def _cavum(fetus: Fetus) -> list[Shape]:
    """A box of fluid between two walls that interrupts the midline in its front third."""
    ofd, bpd = fetus.ofd_mm, fetus.bpd_mm
    width, height = 0.105 * ofd, 0.075 * bpd
    box = curve(
        [(-0.21 * ofd + x * width / 2, y * height / 2) for x, y in ((-1, -0.9), (1, -0.9), (1, 0.9), (-1, 0.9))],
        per_segment=5,
    )
    return [
        Shape(box * np.array([1.0, 1.35]), Tissue(3.0, 0.2, rim_db=9.0, rim_mm=0.3)),
        Shape(box, _VENTRICLE, "cavum_septi_pellucidi"),
    ]


def _frontal_horns(fetus: Fetus) -> list[Shape]:
    ofd, bpd = fetus.ofd_mm, fetus.bpd_mm
    horns = []
    for side in (-1, 1):
        line = curve(
            [(-0.17 * ofd, side * 0.08 * bpd), (-0.24 * ofd, side * 0.1 * bpd), (-0.3 * ofd, side * 0.17 * bpd)],
            closed=False,
        )
        horns.append(Shape(tube(line, [0.025 * bpd, 0.05 * bpd, 0.035 * bpd]), _VENTRICLE, "frontal_horns"))
    return horns


def _thalami(fetus: Fetus, random: np.random.Generator, x: float) -> list[Shape]:
    ofd, bpd = fetus.ofd_mm, fetus.bpd_mm
    return [
        Shape(
            blob(random, x * ofd, side * 0.105 * bpd, 0.23 * ofd, 0.16 * bpd, side * 14, 0.03), GREY_MATTER, "thalami"
        )
        for side in (-1, 1)
    ]


def _insulae(ofd: float, bpd: float) -> list[Shape]:
    line = arc(0.06 * ofd, 0.42 * bpd, 0.3 * ofd, 0.24 * bpd, 200, 340)
    return [Shape(tube(points, 0.9), BRIGHT) for points in (line, line * np.array([1.0, -1.0]))]


def _lens(x0: float, x1: float, height: float) -> Points:
    """A crescent behind the cerebellum, against the skull."""
    outer = curve(
        [(x0, -0.5 * height), (0.75 * x1, -0.42 * height), (x1, 0), (0.75 * x1, 0.42 * height), (x0, 0.5 * height)],
        closed=False,
    )
    inner = curve([(x0, 0.5 * height), (x0 + 0.62 * (x1 - x0), 0), (x0, -0.5 * height)], closed=False)
    return np.concatenate([outer, inner[1:-1]])

"""Single frames of chosen modes with their truth, in memory: what cleaning is measured on.

An archive has few frames of the rarer modes, from two scanners, and takes time to write. Samples have as many as asked
for, each from a scanner of its own: other probes, opening angles and depths, sectors that the screen cuts, screens of
other sizes and colours. They are not for training a model of anatomy: they are for finding out whether mode, sector,
texts and marks are recognized on screens nobody tuned on.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from pydicom.uid import ExplicitVRLittleEndian

from sono.curation.phantom.drawing.frames import DrawnImage, draw_image
from sono.curation.phantom.drawing.screen import LAYOUTS, Layout, Pixels, Place
from sono.manifests.vocabulary import Vocabulary, load

from .anatomy import FIRST_TRIMESTER_DAYS
from .exams import Exam, plan_exam
from .hospitals import SCANNERS, Scanner
from .image_plans import FIRST_TRIMESTER_PLANES, MEASURED, ImagePlan

MODES = ("b_mode", "color_doppler", "m_mode", "spectral", "dual", "volume")

SCREENS = ((1024, 768), (960, 720), (800, 600), (1280, 960), (1136, 852), (640, 480))
"""Widths and heights in px."""


@dataclass(frozen=True)
class Sample:
    """One frame: what was planned, and what was drawn. ``drawn`` has sectors, boxes, texts and marks."""

    exam: Exam
    image: ImagePlan
    scanner: Scanner
    layout: Layout
    drawn: DrawnImage

    @property
    def mode(self) -> str:
        return self.image.mode

    @property
    def pixels(self) -> Pixels:
        """The screen: [height, width] or [height, width, 3]."""
        return self.drawn.frames[0].pixels


def draw_samples(
    count: int,
    *,
    seed: int,
    modes: Sequence[str] = MODES,
    identity_share: float = 0.2,
    measured_share: float = 0.2,
    varied: bool = True,
) -> Iterator[Sample]:
    """Draw ``count`` frames whose modes take turns.

    Args:
        seed: decides everything; frame ``n`` is a function of the seed, ``n`` and the other arguments.
        modes: of ``MODES``.
        identity_share, measured_share: of frames with identity, or with measurements and their marks, over the
            ultrasound.
        varied: every frame from another scanner and screen; else from those of the two hospitals.
    """
    vocabulary = load()
    for number in range(count):
        mode = modes[number % len(modes)]
        yield draw_sample(seed, number, mode, vocabulary, (identity_share, measured_share), varied=varied)


def draw_sample(
    seed: int, number: int, mode: str, vocabulary: Vocabulary, shares: tuple[float, float], *, varied: bool = True
) -> Sample:
    """Draw frame ``number`` of ``draw_samples``, in any order; ``shares`` of identity and of measurements."""
    if mode not in MODES:
        raise ValueError(f"the mode {mode!r} is not one of {', '.join(MODES)}")
    random = np.random.default_rng([seed, number, 8])
    exam = plan_exam(seed, number, vocabulary)
    scanner, layout = SCANNERS[exam.record.center.center], LAYOUTS[exam.record.center.center]
    if varied:
        scanner, layout = _draw_scanner(scanner, random), _draw_layout(layout, random)
    image = _plan(exam, number, mode, scanner, shares, random, vocabulary, varied=varied)
    return Sample(exam, image, scanner, layout, draw_image(exam, image, scanner=scanner, layout=layout))


def _plan(
    exam: Exam,
    number: int,
    mode: str,
    scanner: Scanner,
    shares: tuple[float, float],
    random: np.random.Generator,
    vocabulary: Vocabulary,
    *,
    varied: bool,
) -> ImagePlan:
    plane = _choose_plane(exam, mode, random, vocabulary)
    probes = ["convex", "phased", "linear", "trapezoid" if varied else "linear"]
    probe = probes[int(random.choice(4, p=[0.5, 0.2, 0.15, 0.15]))]
    written = random.random(2) < np.array(shares)
    return ImagePlan(
        exam=exam.index,
        number=1000 + number % 1000,  # not that of an image of the examination: their pixels differ
        name=f"IM{number:04d}",
        plane=plane,
        mode=mode,
        probe=probe,
        frames=1,
        measured=bool(plane in MEASURED and mode == "b_mode" and random.random() < 0.5 * shares[1]),
        gain_db=float(np.round(random.uniform(-2.5, 2.5), 2)),
        transfer_syntax=str(ExplicitVRLittleEndian),
        inside=tuple(kind for kind, chosen in zip(("identity", "measurement"), written, strict=True) if chosen),
    )


def _choose_plane(exam: Exam, mode: str, random: np.random.Generator, vocabulary: Vocabulary) -> str:
    """Any plane of the fetus's age; of heart or abdomen where the mode looks at vessels or walls that move."""
    early = (exam.record.ga_days or 0) < FIRST_TRIMESTER_DAYS
    planes = [plane for plane in vocabulary.planes if (plane in FIRST_TRIMESTER_PLANES) == early]
    if mode in ("color_doppler", "m_mode", "spectral"):
        planes = [plane for plane in planes if vocabulary.planes[plane].system in ("heart", "abdomen")] or ["bladder"]
    return planes[int(random.integers(len(planes)))]


def _draw_scanner(scanner: Scanner, random: np.random.Generator) -> Scanner:
    cut = random.random() < 0.25
    tints = ((1.0, 0.88, 0.68), (0.8, 0.9, 1.0), (1.0, 0.95, 0.8))
    return dataclasses.replace(
        scanner,
        convex=(float(random.uniform(24, 42)), float(random.uniform(36, 66))),
        phased=(float(random.uniform(20, 46)), float(random.uniform(2, 14))),
        steered=float(random.uniform(8, 22)),
        overscan=(float(random.uniform(1, 1.4)), float(random.uniform(1, 1.3))) if cut else (1.0, 1.0),
        colored=bool(random.random() < 0.6),
        gain_db=float(random.uniform(-4, 6)),
        range_db=float(random.uniform(50, 72)),
        noise_db=float(random.uniform(-62, -45)),
        gamma=float(random.uniform(0.8, 1.3)),
        looks=int(random.integers(1, 4)),
        tint=tints[int(random.integers(len(tints)))] if random.random() < 0.15 else None,
    )


def _draw_layout(layout: Layout, random: np.random.Generator) -> Layout:
    """The vendor's layout on a screen of another size, with other inks; the area shrunk and shifted a little."""
    width, height = SCREENS[int(random.choice(len(SCREENS), p=[0.3, 0.2, 0.2, 0.1, 0.1, 0.1]))]
    scale = min(width / layout.width, height / layout.height)
    x, y, across, down = layout.area
    shrunk = random.uniform(0.8, 1.0)
    left = x + across * (1 - shrunk) * random.uniform(0.1, 0.9)
    area = (left, y + down * (1 - shrunk) * random.uniform(0, 0.5), across * shrunk, down * random.uniform(shrunk, 1))
    area = (*area[:3], min(area[3], y + down - area[1]))
    inks = ((214, 222, 230), (200, 200, 200), (250, 250, 250), (230, 210, 150), (150, 220, 230), (170, 230, 170))
    accents = ((250, 220, 60), (235, 235, 235), (90, 235, 90), (70, 220, 235), (245, 160, 60))
    ruler = str(random.choice(["left", "right"]))
    wedge = None
    if random.random() < 0.4:
        column = x - 14 if ruler == "right" else x + across + 30
        wedge = (int(scale * column), int(scale * (y + 0.2 * down)), 10, int(scale * 0.25 * down))
    return dataclasses.replace(
        layout,
        width=width,
        height=height,
        area=_scaled(area, scale),
        bars=[(_scaled(box, scale), color) for box, color in layout.bars],
        places={
            kind: Place(round(scale * place.x), round(scale * place.y), max(round(scale * place.size), 11))
            for kind, place in layout.places.items()
        },
        ruler=ruler,
        ink=inks[int(random.integers(len(inks)))],
        accent=accents[int(random.integers(len(accents)))],
        trace="beside" if random.random() < 0.25 else "below",
        wedge=wedge,
    )


def _scaled(box: Sequence[float], scale: float) -> tuple[int, int, int, int]:
    x, y, width, height = (round(scale * side) for side in box)
    return x, y, width, height

"""What somebody typed over the ultrasound, or a scanner put there: who it shows, or what was measured.

Scanners write around the sector; over it stand annotations typed by hand, results of a measurement, and whatever an
exporting program stamped on the picture. Scripts, fonts, colours, sizes and directions vary as they do between
hospitals.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

import cv2
import numpy as np

from sono.curation.phantom.exams import Exam
from sono.curation.phantom.image_plans import ImagePlan
from sono.curation.phantom.scripts import script_of, transliterated
from sono.manifests.masks import Mask

from .calipers import CaliperStyle, draw_caliper, draw_outline, evenly_spaced, principal_extremes
from .fonts import FONTS
from .panels import Panel
from .screen import Color, Ink, Screen, letter_mask
from .sector import Box, Floats

SMALLEST_PX, LARGEST_PX = 11, 22
"""Sizes of the fonts."""

Chosen = TypeVar("Chosen")

Line = tuple[str, str]
"""Kind of text, and text."""

_COLORS: tuple[Color, ...] = (
    (250, 220, 60), (90, 235, 90), (70, 220, 235), (245, 160, 60), (250, 110, 100), (240, 130, 240), (120, 170, 255),
)  # fmt: skip


def write_inside(
    screen: Screen, exam: Exam, image: ImagePlan, panels: Sequence[Panel], shown: Mask, random: np.random.Generator
) -> None:
    """Write and draw what ``image.inside`` asks for; ``shown`` is where the screen shows ultrasound."""
    writer = _Writer(screen, shown, random)
    if "measurement" in image.inside:
        color, before = writer.color(), len(screen.marks)
        if panels:
            _measure(writer, panels[int(random.integers(len(panels)))], color)
        if random.random() < 0.8 or len(screen.marks) == before:
            lines = measurement_lines(exam, _choose_script(exam, random), random)
            writer.write([("measurement", line) for line in _some(lines, 3, random)], color)
    if "identity" in image.inside:
        chosen = _some(identity_lines(exam, _choose_script(exam, random), random), 4, random)
        for block in [chosen] if random.random() < 0.6 else [[line] for line in chosen]:
            writer.write(block, writer.color())


def identity_lines(exam: Exam, script: str, random: np.random.Generator) -> list[Line]:
    """The patient's name, number and birth date, the hospital and the day, in one of the ways that they are written."""
    record = exam.record
    patient = record.patient
    family, given = (transliterated(name, script) for name in (patient.family_name, patient.given_name))
    names = [
        f"{family.upper()}, {given}",
        f"{family} {given}",
        f"{family.upper()}^{given.upper()}",
        f"{given} {family}",
    ]
    numbers = {
        "latin": ("ID {}", "MRN: {}", "Pat.-Nr. {}", "{}"),
        "cyrillic": ("ID {}", "№ карты {}", "Пациент {}"),
        "greek": ("ΑΜ {}", "ID {}", "Αρ. μητρώου {}"),
    }[script]
    births = {
        "latin": ("DOB {:%d.%m.%Y}", "geb. {:%d.%m.%Y}", "{:%Y-%m-%d}", "*{:%d/%m/%Y}"),
        "cyrillic": ("Дата рожд. {:%d.%m.%Y}", "г.р. {:%d.%m.%Y}"),
        "greek": ("Ημ. γέννησης {:%d/%m/%Y}", "Γεν. {:%d.%m.%Y}"),
    }[script]
    days = ("{:%d.%m.%Y %H:%M}", "{:%d/%m/%Y}", "{:%Y-%m-%d %H:%M:%S}")
    return [
        ("patient_name", _one(names, random)),
        ("patient_id", _one(numbers, random).format(patient.patient_id)),
        ("birth_date", _one(births, random).format(patient.birth_date)),
        ("hospital", transliterated(record.center.hospital, script)),
        ("exam_date", _one(days, random).format(record.started)),
    ]


def measurement_lines(exam: Exam, script: str, random: np.random.Generator) -> list[str]:
    """Age, sizes, weight and heart rate, as a measurement leaves them on the screen."""
    weeks, days = divmod(exam.record.ga_days or 140, 7)
    names, units, ages, others = _MEASUREMENT_WORDS[script]
    lines = [_one(ages, random).format(weeks, days)]
    for fact, size in exam.record.biometry_mm.items():
        if fact in names:
            in_cm = size > 20 and random.random() < 0.3
            number = f"{size / 10:.2f}" if in_cm else f"{size + random.uniform(0, 0.04):.{int(random.integers(1, 3))}f}"
            lines.append(f"{names[fact]} {number} {units[1] if in_cm else units[0]}")
    weight_g, beats, index = 0.2 * weeks**2.6, random.uniform(120, 165), random.uniform(0.6, 1.6)
    return [*lines, *(line.format(weight_g, beats, index) for line in others)]


_MEASUREMENT_WORDS: dict[str, tuple[dict[str, str], tuple[str, str], tuple[str, ...], tuple[str, ...]]] = {
    "latin": (
        {"hc_mm": "HC", "bpd_mm": "BPD", "ac_mm": "AC", "fl_mm": "FL", "crl_mm": "CRL", "nt_mm": "NT", "tcd_mm": "TCD",
         "hl_mm": "HL"},
        ("mm", "cm"),
        ("GA {}w{}d", "GA {}w {}d", "{}w{}d", "SSW {}+{}"),
        ("EFW {:.0f} g", "FHR {1:.0f} bpm", "PI {2:.2f}", "AFI {2:.1f} cm"),
    ),
    "cyrillic": (
        {"hc_mm": "ОГ", "bpd_mm": "БПР", "ac_mm": "ОЖ", "fl_mm": "ДБ", "crl_mm": "КТР", "nt_mm": "ТВП", "tcd_mm": "МЖ",
         "hl_mm": "ДПК"},
        ("мм", "см"),
        ("Срок {}н{}д", "ГВ {} нед {} дн", "{}н{}д"),
        ("Вес {:.0f} г", "ЧСС {1:.0f} уд/мин", "ПИ {2:.2f}"),
    ),
    "greek": (
        {"hc_mm": "ΠΚ", "bpd_mm": "ΑΔ", "ac_mm": "ΠΚΟ", "fl_mm": "ΜΜ", "crl_mm": "ΚΟΜ", "nt_mm": "ΑΔΠ", "tcd_mm": "ΔΠ",
         "hl_mm": "ΜΒ"},
        ("χιλ", "εκ"),
        ("Ηλικία {}ε{}η", "ΗΚ {}εβδ {}ημ", "{}ε{}η"),
        ("Βάρος {:.0f} γρ", "Σφύξεις {1:.0f}", "ΔΠ {2:.2f}"),
    ),
}  # fmt: skip
"""By script: names of the sizes, millimetres and centimetres, ways to write an age, and what else is measured."""


class _Writer:
    """Finds room for texts where there is ultrasound and nothing written yet."""

    def __init__(self, screen: Screen, shown: Mask, random: np.random.Generator) -> None:
        self.screen, self.random = screen, random
        self._free = shown.astype(np.uint8)

    def color(self) -> Color:
        if self.screen.colored and self.random.random() < 0.5:
            return _COLORS[int(self.random.integers(len(_COLORS)))]
        grey = int(self.random.integers(170, 256))
        return grey, grey, grey

    def write(self, lines: Sequence[Line], color: Color) -> None:
        """Write lines one below another in one place; leave out those for which there is no room."""
        ink = self._ink([text for _, text in lines], color)
        sizes = [letter_mask(text, ink).shape for _, text in lines]
        pitch = round(1.4 * ink.size)
        width = max(across for _, across in sizes)
        block = (width, pitch * (len(lines) - 1) + sizes[-1][0])
        found = self._place(block if ink.angle == 0 else block[::-1])
        if found is None:
            if len(lines) > 1:
                self.write(lines[:-1], color)
            return
        left, top = found
        for number, ((kind, text), (down, across)) in enumerate(zip(lines, sizes, strict=True)):
            if ink.angle == 0:
                self.screen.stamp(kind, text, left, top + number * pitch, ink)
            elif ink.angle == 90:  # reads upwards: the first line is the leftmost, and starts at the bottom
                self.screen.stamp(kind, text, left + number * pitch, top + width - across, ink)
            else:
                self.screen.stamp(kind, text, left + block[1] - number * pitch - down, top, ink)

    def stamp_near(self, kind: str, text: str, x: float, y: float, color: Color) -> None:
        """Write a short text at a place, if there is ultrasound below it."""
        ink = self._ink([text], color, turned=False)
        height, width = letter_mask(text, ink).shape
        left, top = int(x), int(y)
        window = self._free[max(top, 0) : top + height, max(left, 0) : left + width]
        if window.size == width * height and window.all():
            self._take((left, top, width, height))
            self.screen.stamp(kind, text, left, top, ink)

    def _ink(self, texts: Sequence[str], color: Color, *, turned: bool = True) -> Ink:
        random = self.random
        fonts = FONTS if all(text.isascii() for text in texts) else FONTS[1:]  # Pillow's has only ASCII
        angle = int(random.choice([0, 90, 270], p=[0.7, 0.18, 0.12])) if turned else 0
        return Ink(
            font=fonts[int(random.integers(len(fonts)))],
            size=int(random.integers(SMALLEST_PX, LARGEST_PX + 1)),
            color=color,
            angle=angle,
            backing=("none", "outline", "box")[int(random.choice(3, p=[0.7, 0.2, 0.1]))],
        )

    def _place(self, size: tuple[int, int]) -> tuple[int, int] | None:
        """Upper left corner of a free place of that width and height, taken from then on."""
        width, height = size[0] + 4, size[1] + 4
        total = cv2.integral(self._free)
        rows, columns = total.shape[0] - height, total.shape[1] - width
        if rows < 1 or columns < 1:
            return None
        inside = total[height:, width:] - total[:rows, width:] - total[height:, :columns] + total[:rows, :columns]
        places = np.flatnonzero(inside == width * height)
        if len(places) == 0:
            return None
        top, left = divmod(int(places[int(self.random.integers(len(places)))]), columns)
        self._take((left, top, width, height))
        return left + 2, top + 2

    def _take(self, box: Box) -> None:
        left, top, width, height = box
        self._free[max(top - 4, 0) : top + height + 4, max(left - 4, 0) : left + width + 4] = 0


def _measure(writer: _Writer, panel: Panel, color: Color) -> None:
    """Draw calipers or an ellipse on one or two structures, in the style of one scanner."""
    screen, random = writer.screen, writer.random
    style = CaliperStyle(
        color=color,
        shape="plus" if random.random() < 0.7 else "x",
        arm=int(random.integers(4, 9)),
        width=int(random.choice([1, 2], p=[0.75, 0.25])),
        line=("dots", "dashes", "solid", "none")[int(random.choice(4, p=[0.5, 0.15, 0.1, 0.25]))],
        gap=int(random.integers(5, 11)),
        dot=int(random.choice([1, 2, 3], p=[0.2, 0.6, 0.2])),
    )
    numbered = random.random() < 0.4
    outlines = list(_outlines(panel))
    for number in range(1, 1 + min(len(outlines), int(random.choice([1, 2], p=[0.65, 0.35])))):
        points = outlines.pop(int(random.integers(len(outlines))))
        around = np.ptp(points, axis=0).min() > 70 and random.random() < 0.6
        ends = principal_extremes(points, across=bool(random.random() < 0.4))
        if around:
            draw_outline(screen, evenly_spaced(_fitted_ellipse(points), style.gap), style)
        else:
            draw_caliper(screen, ends, style)
        if numbered:
            writer.stamp_near("measurement", str(number), ends[1][0] + 8, ends[1][1] - 14, color)


def _outlines(panel: Panel) -> Iterator[Floats]:
    """The structures that lie in the sector, each as points in px of the screen, [points, 2]."""
    sector = panel.sector
    for outlines in panel.scene.structures.values():
        points = max((panel.pose.px(outline) for outline in outlines), key=len)
        depth, across = sector.beam_coordinates(points[:, 0], points[:, 1])
        inside = (depth > 0.02) & (depth < 0.98) & (np.abs(across) < 0.98)
        inside &= np.all((points > 2) & (points < np.array(sector.box[2:]) - 2), axis=1)
        if np.mean(inside) > 0.95 and np.ptp(points, axis=0).max() > 24:
            yield points + np.array(sector.box[:2])


def _fitted_ellipse(points: Floats) -> Floats:
    """The ellipse with the points' middle, directions and widths, as scanners measure a circumference."""
    middle, axes = points.mean(axis=0), np.linalg.svd(points - points.mean(axis=0), full_matrices=False)[2]
    along = (points - middle) @ axes.T
    half = np.abs(along).max(axis=0)
    angle = np.linspace(0, 2 * np.pi, 180, endpoint=False)
    return np.asarray(middle + np.stack([half[0] * np.cos(angle), half[1] * np.sin(angle)], axis=1) @ axes)


def _choose_script(exam: Exam, random: np.random.Generator) -> str:
    """That of the patient's name; where it is Latin, any: the hospital may write its own."""
    known = script_of(exam.record.patient.family_name)
    drawn = ("latin", "cyrillic", "greek")[int(random.choice(3, p=[0.5, 0.25, 0.25]))]
    return drawn if known == "latin" else known


def _some(lines: Sequence[Chosen], most: int, random: np.random.Generator) -> list[Chosen]:
    """One to ``most`` of them, in their order."""
    count = min(int(random.integers(1, most + 1)), len(lines))
    return [lines[place] for place in sorted(random.permutation(len(lines))[:count].tolist())]


def _one(choices: Sequence[str], random: np.random.Generator) -> str:
    return choices[int(random.integers(len(choices)))]

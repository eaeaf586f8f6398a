"""What a scanner writes around and over one image: patient, settings, rulers, measurements."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from sono.curation.phantom.anatomy import FIRST_TRIMESTER_DAYS
from sono.curation.phantom.exams import Exam
from sono.curation.phantom.hospitals import Scanner
from sono.curation.phantom.image_plans import MEASURED, ImagePlan

from .calipers import CaliperStyle, draw_caliper, draw_outline, principal_extremes
from .panels import Panel
from .screen import Screen

_MODE_SETTINGS = {"spectral": ("PW", "PRF 4.4 kHz", "WF 60 Hz", "SV 2.0 mm"), "volume": ("3D", "Surface", "Q high")}


def annotate(
    screen: Screen,
    exam: Exam,
    image: ImagePlan,
    scanner: Scanner,
    panels: Sequence[Panel],
    machine: Mapping[str, float],
) -> None:
    """Write everything a scanner writes: patient and place, its settings, rulers, and what was measured."""
    record = exam.record
    patient = record.patient
    screen.at_place("hospital", [record.center.hospital])
    screen.at_place("patient_name", [f"{patient.family_name.upper()}, {patient.given_name}"])
    screen.at_place("patient_id", [f"ID {patient.patient_id}"])
    screen.at_place("birth_date", [f"DOB {patient.birth_date:%d.%m.%Y}"])
    screen.at_place("exam_date", [f"{record.started:%d.%m.%Y %H:%M}"])
    screen.at_place(
        "setting",
        [
            f"MI {machine['mechanical_index']:.1f}",
            f"TIS {machine['thermal_index']:.1f}",
            f"{machine['frequency_mhz']:.1f} MHz",
            *(f"{panel.sector.depth_mm / 10:.1f} cm" for panel in panels[:1]),
            f"Gain {50 + image.gain_db:.0f} %",
            f"DR {scanner.range_db:.0f}",
            *_MODE_SETTINGS.get(image.mode, ()),
        ],
    )
    screen.at_place(
        "label",
        ["OB 1st Trim" if record.ga_days is not None and record.ga_days < FIRST_TRIMESTER_DAYS else "OB 2/3 Trim"],
    )
    for panel in panels if image.mode != "volume" else ():
        screen.ruler(panel.sector)
        screen.marker(panel.sector)
    if screen.layout.wedge is not None:
        screen.wedge(screen.layout.wedge, with_flow=image.mode == "color_doppler")
    if image.measured:
        _measure(screen, exam, image, panels[0])


def _measure(screen: Screen, exam: Exam, image: ImagePlan, panel: Panel) -> None:
    """Draw calipers on the structure, and the value from the records."""
    lines, style = [], CaliperStyle(screen.layout.accent)
    corner = np.array(panel.sector.box[:2], dtype=np.float64)
    for name, fact, structure in MEASURED[image.plane]:
        outlines = panel.scene.structures.get(structure)
        if outlines is None or fact not in exam.record.biometry_mm:
            continue
        points = np.concatenate([panel.pose.px(outline) for outline in outlines]) + corner
        if name in ("HC", "AC"):
            draw_outline(screen, points[::2], style)
        else:
            draw_caliper(screen, principal_extremes(points, across=name in ("BPD", "NT")), style)
        lines.append(f"{name} {exam.record.biometry_mm[fact]:.1f} mm")
    x, y, _, height = panel.sector.box
    for number, line in enumerate(lines):
        inside = image.number % 2 == 0  # inside the sector on every second image, else at the vendor's place
        place = screen.layout.places["measurement"]
        left, top = (x + 10, y + height - 26 * (len(lines) - number)) if inside else (place.x, place.y + 26 * number)
        screen.text("measurement", line, left, top, place.size, screen.layout.accent)

"""What a scanner writes around and over one image: patient, settings, rulers, measurements."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from sono.curation.phantom.anatomy import FIRST_TRIMESTER_DAYS
from sono.curation.phantom.exams import Exam
from sono.curation.phantom.hospitals import SCANNERS
from sono.curation.phantom.image_plans import MEASURED, ImagePlan

from .panels import Panel
from .screen import Screen
from .sector import Floats


def annotate(
    screen: Screen, exam: Exam, image: ImagePlan, panels: Sequence[Panel], machine: Mapping[str, float]
) -> None:
    """Write everything a scanner writes: patient and place, its settings, rulers, and what was measured."""
    record = exam.record
    patient = record.patient
    screen.at_place("hospital", [record.center.hospital])
    screen.at_place("patient_name", [f"{patient.family_name.upper()}, {patient.given_name}"])
    screen.at_place("patient_id", [f"ID {patient.patient_id}"])
    screen.at_place("birth_date", [f"DOB {patient.birth_date:%d.%m.%Y}"])
    screen.at_place("exam_date", [f"{record.started:%d.%m.%Y %H:%M}"])
    depth_mm = panels[0].sector.depth_mm
    screen.at_place(
        "setting",
        [
            f"MI {machine['mechanical_index']:.1f}",
            f"TIS {machine['thermal_index']:.1f}",
            f"{machine['frequency_mhz']:.1f} MHz",
            f"{depth_mm / 10:.1f} cm",
            f"Gain {50 + image.gain_db:.0f} %",
            f"DR {SCANNERS[record.center.center].range_db:.0f}",
        ],
    )
    screen.at_place(
        "label",
        ["OB 1st Trim" if record.ga_days is not None and record.ga_days < FIRST_TRIMESTER_DAYS else "OB 2/3 Trim"],
    )
    for panel in panels:
        screen.ruler(panel.sector)
        screen.marker(panel.sector)
    if image.measured:
        _measure(screen, exam, image, panels[0])


def _measure(screen: Screen, exam: Exam, image: ImagePlan, panel: Panel) -> None:
    """Draw calipers on the structure, and the value from the records."""
    lines = []
    corner = np.array(panel.sector.box[:2], dtype=np.float64)
    for name, fact, structure in MEASURED[image.plane]:
        outlines = panel.scene.structures.get(structure)
        if outlines is None or fact not in exam.record.biometry_mm:
            continue
        points = np.concatenate([panel.pose.px(outline) for outline in outlines]) + corner
        if name in ("HC", "AC"):
            screen.dotted(points[::2])
        else:
            screen.caliper(_extremes(points, across=name in ("BPD", "NT")))
        lines.append(f"{name} {exam.record.biometry_mm[fact]:.1f} mm")
    x, y, _, height = panel.sector.box
    for number, line in enumerate(lines):
        inside = image.number % 2 == 0  # inside the sector on every second image, else at the vendor's place
        place = screen.layout.places["measurement"]
        left, top = (x + 10, y + height - 26 * (len(lines) - number)) if inside else (place.x, place.y + 26 * number)
        screen.text("measurement", line, left, top, place.size, screen.layout.accent)


def _extremes(points: Floats, *, across: bool) -> Floats:
    """Ends of the points' long principal axis, or of the width halfway along it: shape [2, 2]."""
    middle = points.mean(axis=0)
    x, y = (points - middle).T
    angle = 0.5 * math.atan2(2 * float(np.mean(x * y)), float(np.mean(x * x) - np.mean(y * y)))
    axis = np.array([math.cos(angle), math.sin(angle)])
    along = (points - middle) @ axis
    if across:  # so that a bowed shape does not measure wider
        points = points[np.abs(along) < 0.1 * np.abs(along).max()]
        middle, axis = points.mean(axis=0), np.array([-axis[1], axis[0]])
        along = (points - middle) @ axis
    return np.stack([middle + along.min() * axis, middle + along.max() * axis])

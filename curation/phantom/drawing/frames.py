"""One image of an examination, drawn: its pixels, and the truth about them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sono.curation.phantom.exams import Exam
from sono.curation.phantom.hospitals import SCANNERS
from sono.curation.phantom.image_plans import ImagePlan
from sono.manifests.masks import Mask

from .annotations import annotate
from .doppler import paint_doppler
from .m_mode import draw_trace
from .outlines import outline_mask, rasterize, visible_share
from .panels import Panel, place_panels
from .screen import LAYOUTS, Layout, Pixels, Screen, TextBox
from .sector import Box, Bytes, Pose, Sector
from .speckle import insonify

SEEN_SHARE = 0.6
"""A structure counts as seen if at least this share of its outline lies in the sector ..."""

SMALLEST_PX = 40
"""... and its mask has at least this many pixels."""


@dataclass(frozen=True)
class DrawnFrame:
    """``pixels`` of the entire screen, [height, width] or [height, width, 3]; ``masks`` on it by structure."""

    pixels: Pixels
    masks: Mapping[str, Mask]


@dataclass(frozen=True)
class DrawnImage:
    """What one file shows.

    Attributes:
        frames: in order.
        sectors: one, or two side by side.
        flow_box: of colour Doppler, in px of the screen.
        trace_box: of M-mode.
        texts: everything written on the screen; the same on every frame.
        settings: as the machine displays them: mechanical_index, thermal_index, frequency_mhz.
    """

    frames: Sequence[DrawnFrame]
    sectors: Sequence[Sector]
    flow_box: Box | None
    trace_box: Box | None
    texts: Sequence[TextBox]
    settings: Mapping[str, float]


def draw_image(exam: Exam, image: ImagePlan) -> DrawnImage:
    """Draw one image plan of ``exam``. The same plan gives the same pixels, and so does its copy."""
    assert image.exam == exam.index
    random = np.random.default_rng([exam.seed, exam.index, image.number, 4])
    center = exam.record.center.center
    scanner, layout = SCANNERS[center], LAYOUTS[center]
    fetus = dataclasses.replace(exam.fetus, missing=image.missing)
    panels = place_panels(fetus, image, scanner, layout, random)
    machine = {
        "mechanical_index": round(float(random.uniform(0.6, 1.3)), 1),
        "thermal_index": round(float(random.uniform(0.1, 0.9)), 1),
        "frequency_mhz": round(float(random.uniform(3.5, 7.5)), 1),
    }
    colored = scanner.colored or image.mode == "color_doppler"
    drift = random.normal(0, 0.6, (image.frames, 3))
    frames: list[DrawnFrame] = []
    for number in range(image.frames):
        screen = Screen(layout, colored)
        masks: dict[str, Mask] = {}
        flow_box = trace_box = None
        for panel in panels:
            pose = panel.moved(np.cumsum(drift, axis=0)[number]) if number else panel.pose
            grey = _ultrasound(panel, pose, image, random)
            screen.paste(grey, panel.sector.box, panel.sector.inside())
            if image.mode == "color_doppler":
                flow_box = paint_doppler(screen, panel, pose, grey, random)
            if image.mode == "m_mode":
                trace_box = draw_trace(screen, layout, panel.sector, grey, random)
            if image.fault != "black_frame":
                _add_masks(masks, panel, pose, layout)
        annotate(screen, exam, image, panels, machine)
        frames.append(DrawnFrame(screen.pixels, masks))
    return DrawnImage(frames, [panel.sector for panel in panels], flow_box, trace_box, tuple(screen.texts), machine)


def _ultrasound(panel: Panel, pose: Pose, image: ImagePlan, random: np.random.Generator) -> Bytes:
    if image.fault == "black_frame":
        return np.zeros((panel.sector.box[3], panel.sector.box[2]), np.uint8)
    return insonify(
        rasterize(panel.scene.shapes, pose, panel.sector), panel.around, panel.sector, panel.settings, random
    )


def _add_masks(masks: dict[str, Mask], panel: Panel, pose: Pose, layout: Layout) -> None:
    """Add the panel's visible structures to the screen's masks."""
    x, y, width, height = panel.sector.box
    for structure, outlines in panel.scene.structures.items():
        mask = outline_mask(outlines, pose, panel.sector)
        if visible_share(outlines, pose, panel.sector) < SEEN_SHARE or np.count_nonzero(mask) < SMALLEST_PX:
            continue
        on_screen = masks.setdefault(structure, np.zeros((layout.height, layout.width), np.bool_))
        on_screen[y : y + height, x : x + width] |= mask

"""One image of an examination, drawn: its pixels, and the truth about them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from sono.curation.phantom.exams import Exam
from sono.curation.phantom.hospitals import SCANNERS, Scanner
from sono.curation.phantom.image_plans import ImagePlan
from sono.manifests.masks import Mask

from .annotations import annotate
from .doppler import paint_doppler
from .m_mode import draw_trace
from .outlines import outline_mask, rasterize, visible_share
from .panels import Panel, place_panels, rendering_area
from .rendering import draw_rendering
from .screen import LAYOUTS, Layout, Mark, Pixels, Screen, TextBox
from .sector import Box, Bytes, Pose, Sector
from .speckle import insonify
from .spectrum import Spectrum, draw_spectrum
from .written_inside import write_inside

Noted = TypeVar("Noted", TextBox, Mark)

SEEN_SHARE = 0.6
"""A structure counts as seen if at least this share of its outline lies in the sector ..."""

SMALLEST_PX = 40
"""... and its mask has at least this many pixels."""

TRIPLEX_SHARE = 0.4
"""Of spectral screens that show colour Doppler as well."""

COLORED_RENDERING_SHARE = 0.85


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
        mode: as in the frames table.
        sectors: one, two side by side, or with a rendering none or the three planes through its volume.
        flow_box: of colour Doppler, in px of the screen.
        trace_box: of M-mode or spectral Doppler.
        spectrum: of spectral Doppler: its scales.
        rendering_box: of a 3-D rendering.
        texts: everything written on the screen; the same on every frame.
        marks: everything drawn over the ultrasound; the same on every frame.
        settings: as the machine displays them: mechanical_index, thermal_index, frequency_mhz.
    """

    mode: str
    frames: Sequence[DrawnFrame]
    sectors: Sequence[Sector]
    flow_box: Box | None
    trace_box: Box | None
    spectrum: Spectrum | None
    rendering_box: Box | None
    texts: Sequence[TextBox]
    marks: Sequence[Mark]
    settings: Mapping[str, float]

    def sector_mask(self) -> Mask:
        """Which pixels of the screen lie in a sector: [height, width]."""
        height, width = self.frames[0].pixels.shape[:2]
        return union_of_sectors(self.sectors, height, width)


def draw_image(
    exam: Exam, image: ImagePlan, *, scanner: Scanner | None = None, layout: Layout | None = None
) -> DrawnImage:
    """Draw one image plan of ``exam``. The same plan gives the same pixels, and so does its copy.

    ``scanner`` and ``layout`` are the hospital's if omitted.
    """
    assert image.exam == exam.index
    random = np.random.default_rng([exam.seed, exam.index, image.number, 4])
    center = exam.record.center.center
    scanner, layout = scanner or SCANNERS[center], layout or LAYOUTS[center]
    fetus = dataclasses.replace(exam.fetus, missing=image.missing)
    panels = place_panels(fetus, image, scanner, layout, random)
    machine = {
        "mechanical_index": round(float(random.uniform(0.6, 1.3)), 1),
        "thermal_index": round(float(random.uniform(0.1, 0.9)), 1),
        "frequency_mhz": round(float(random.uniform(3.5, 7.5)), 1),
    }
    with_flow = image.mode == "color_doppler" or (image.mode == "spectral" and random.random() < TRIPLEX_SHARE)
    in_color = with_flow or (image.mode == "volume" and random.random() < COLORED_RENDERING_SHARE)
    drift = np.cumsum(random.normal(0, 0.6, (image.frames, 3)), axis=0)
    drawn: list[_Ultrasound] = []
    for number in range(image.frames):
        screen = Screen(layout, scanner.colored or in_color, scanner.tint)
        poses = [panel.moved(drift[number]) if number else panel.pose for panel in panels]
        found = _draw_ultrasound(screen, image, list(zip(panels, poses, strict=True)), with_flow, random)
        annotate(screen, exam, image, scanner, panels, machine)
        if image.inside:
            apart = np.random.default_rng([exam.seed, exam.index, image.number, 6])
            write_inside(screen, exam, image, panels, found.shown, apart)
        drawn.append(found)
    last = drawn[-1]
    return DrawnImage(
        mode=image.mode,
        frames=[DrawnFrame(found.screen.pixels, found.masks) for found in drawn],
        sectors=[panel.sector for panel in panels],
        flow_box=last.flow_box,
        trace_box=last.trace_box,
        spectrum=last.spectrum,
        rendering_box=last.rendering_box,
        texts=_where_inside(last.screen.texts, last.shown),
        marks=_where_inside(last.screen.marks, last.shown),
        settings=machine,
    )


@dataclass(frozen=True)
class _Ultrasound:
    """A screen with ultrasound on it, and where what is: as in ``DrawnImage``; ``shown`` is any ultrasound."""

    screen: Screen
    masks: Mapping[str, Mask]
    shown: Mask
    flow_box: Box | None = None
    trace_box: Box | None = None
    spectrum: Spectrum | None = None
    rendering_box: Box | None = None


def _draw_ultrasound(
    screen: Screen,
    image: ImagePlan,
    panels: Sequence[tuple[Panel, Pose]],
    with_flow: bool,
    random: np.random.Generator,
) -> _Ultrasound:
    layout = screen.layout
    masks: dict[str, Mask] = {}
    flow_box = trace_box = spectrum = rendering_box = None
    for panel, pose in panels:
        grey = _echoes(panel, pose, image, random)
        screen.paste(screen.tinted(grey), panel.sector.box, panel.sector.inside())
        if with_flow:
            flow_box = paint_doppler(screen, panel, pose, grey, random)
        if image.mode == "m_mode":
            trace_box = draw_trace(screen, layout, panel.sector, grey, random)
        if image.mode == "spectral":
            spectrum = draw_spectrum(screen, panel, random)
            trace_box = spectrum.box
        if image.fault != "black_frame" and image.mode != "volume":
            _add_masks(masks, panel, pose, layout)
    shown = union_of_sectors([panel.sector for panel, _ in panels], layout.height, layout.width)
    if image.mode == "volume":
        rendering_box = rendering_area(layout, with_planes=bool(panels))
        screen.paste(draw_rendering(*rendering_box[2:], random), rendering_box)
        _window(shown, rendering_box)[:] = True
    return _Ultrasound(screen, masks, shown, flow_box, trace_box, spectrum, rendering_box)


def union_of_sectors(sectors: Sequence[Sector], height: int, width: int) -> Mask:
    """Which pixels of a screen lie in any of the sectors: [height, width]."""
    shown = np.zeros((height, width), np.bool_)
    for sector in sectors:
        _window(shown, sector.box)[:] |= sector.inside()
    return shown


def _where_inside(noted: Sequence[Noted], shown: Mask) -> tuple[Noted, ...]:
    """Texts or marks, each told whether a part of it covers ultrasound."""
    return tuple(dataclasses.replace(item, inside=bool(_window(shown, item.box).any())) for item in noted)


def _window(mask: Mask, box: Box) -> Mask:
    x, y, width, height = box
    return mask[max(y, 0) : y + height, max(x, 0) : x + width]


def _echoes(panel: Panel, pose: Pose, image: ImagePlan, random: np.random.Generator) -> Bytes:
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

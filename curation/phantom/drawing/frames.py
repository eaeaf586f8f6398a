"""One image of an examination, drawn: its pixels, and the truth about them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sono.curation.phantom.anatomy import Fetus
from sono.curation.phantom.exams import FIRST_TRIMESTER_DAYS, MEASURED, SCANNERS, Exam, ImagePlan, Scanner
from sono.curation.phantom.scenes.by_plane import SCENES
from sono.curation.phantom.scenes.shapes import Scene, Shape
from sono.manifests.masks import Mask

from .physics import (
    BEAMS,
    Box,
    Bytes,
    Floats,
    Pose,
    Sector,
    Settings,
    Surroundings,
    draw,
    fan,
    insonify,
    outline_mask,
    rectangle,
    visible_share,
)
from .screen import LAYOUTS, Layout, Pixels, Screen, TextBox

SEEN_SHARE = 0.6
"""A structure counts as seen where this share of its outline lies in the sector."""

SMALLEST_PX = 40

_HEART_HZ = 2.4
_SWEEP_S = 4.0
_FRAME_COLOR = (240, 240, 240)


@dataclass(frozen=True)
class DrawnFrame:
    """``pixels`` of the whole screen, [height, width] or [height, width, 3]; ``masks`` on it by structure."""

    pixels: Pixels
    masks: Mapping[str, Mask]


@dataclass(frozen=True)
class DrawnImage:
    """What a file holds.

    Attributes:
        frames: in order.
        sectors: one, or two side by side.
        flow_box: of colour Doppler, in px of the screen.
        trace_box: of M-mode.
        texts: everything written on the screen, the same on every frame.
        settings: what the machine says of itself: mechanical_index, thermal_index, frequency_mhz.
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
    panels: list[_Panel] = []
    for area in _areas(layout, image.mode):
        given = panels[0].sector.moved(area[0] - layout.area[0], 0) if panels else None
        panels.append(_panel(fetus, image, scanner, area, given, random))
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
            inside = panel.sector.inside()
            screen.paste(grey, panel.sector.box, inside)
            if image.mode == "color_doppler":
                flow_box = _doppler(screen, panel, pose, grey, random)
            if image.mode == "m_mode":
                trace_box = _trace(screen, layout, panel.sector, grey, random)
            if image.fault != "black_frame":
                _outline(masks, panel, pose, layout)
        _decorate(screen, exam, image, panels, machine)
        frames.append(DrawnFrame(screen.pixels, masks))
    return DrawnImage(frames, [panel.sector for panel in panels], flow_box, trace_box, tuple(screen.texts), machine)


@dataclass(frozen=True)
class _Panel:
    scene: Scene
    sector: Sector
    pose: Pose
    around: Surroundings
    settings: Settings

    def moved(self, by: Floats) -> Pose:
        """The fetus moves a little: px to the right and down, and degrees."""
        return dataclasses.replace(
            self.pose, x=self.pose.x + by[0], y=self.pose.y + by[1], degrees=self.pose.degrees + by[2]
        )


def _areas(layout: Layout, mode: str) -> list[Box]:
    x, y, width, height = layout.area
    if mode == "dual":
        half = width // 2 - 6
        return [(x, y, half, height), (x + width - half, y, half, height)]
    return [(x, y, width, int(0.58 * height))] if mode == "m_mode" else [layout.area]


def _panel(
    fetus: Fetus, image: ImagePlan, scanner: Scanner, area: Box, given: Sector | None, random: np.random.Generator
) -> _Panel:
    """``given``: the sector, where it is not for the scene to choose: both halves of a dual screen have one depth."""
    scene = SCENES[image.plane](fetus, random)
    turn, flipped = random.uniform(-scene.turn, scene.turn), bool(random.random() < 0.5)
    across, deeper = random.uniform(-0.12, 0.12), random.uniform(-0.05, 0.05)
    zoom = random.uniform(1.0, 1.25)
    place = (scene.depth + deeper, across)
    if given is None:
        sector, pose = _zoomed(scene, image.probe, scanner, area, turn, flipped, place, zoom)
    else:
        sector, pose = given, Pose(*given.point(*place), turn, flipped, 1 / given.mm_per_px)
    return _Panel(scene, sector, pose, _surroundings(random, sector), _settings(scanner, image, sector, random))


def _zoomed(
    scene: Scene,
    probe: str,
    scanner: Scanner,
    area: Box,
    turn: float,
    flipped: bool,
    place: tuple[float, float],
    zoom: float,
) -> tuple[Sector, Pose]:
    """The shallowest depth, in steps of a centimetre, that shows nearly all of what the plane is about."""
    outlines = [outline for found in scene.structures.values() for outline in found]
    depth_mm = 30.0
    while True:
        sector = _sector(probe, scanner, area, depth_mm)
        pose = Pose(*sector.point(*place), turn, flipped, 1 / sector.mm_per_px)
        wide = dataclasses.replace(pose, px_per_mm=zoom * 1.08 / sector.mm_per_px)
        if visible_share(outlines, wide, sector) > 0.97 or depth_mm >= 240:
            return sector, pose
        depth_mm += 10.0


def _sector(probe: str, scanner: Scanner, area: Box, depth_mm: float) -> Sector:
    x, y, width, height = area
    if probe == "linear":
        sector = rectangle(width, height, min(max(0.9 * depth_mm, 38.0), 60.0) if depth_mm < 60 else depth_mm, depth_mm)
    elif probe == "phased":
        sector = fan("phased", width, height, 40.0, 4.0, depth_mm)
    else:
        sector = fan("convex", width, height, scanner.convex[0], scanner.convex[1], depth_mm)
    return sector.moved(x + (width - sector.box[2]) // 2, y + (height - sector.box[3]) // 4)


def _surroundings(random: np.random.Generator, sector: Sector) -> Surroundings:
    across = np.linspace(-1, 1, BEAMS)

    def wave(size: float) -> Floats:
        return np.asarray(size * np.cos(across * random.uniform(0.8, 3.0) + random.uniform(0, 2 * math.pi)))

    wall = np.clip(random.uniform(9, 17) / sector.depth_mm + wave(0.012), 0.04, 0.24)
    fluid = wall + np.clip(random.uniform(3, 6) / sector.depth_mm + wave(0.012), 0.01, 0.1)
    back = np.clip(random.uniform(0.84, 0.95) + wave(0.03), fluid + 0.3, 1.1)
    thickness = np.clip(random.uniform(0, 20) / sector.depth_mm * (0.4 + wave(0.8)), 0, 0.16)
    return Surroundings(wall, fluid, back, thickness * random.choice([-1.0, 1.0]))


def _settings(scanner: Scanner, image: ImagePlan, sector: Sector, random: np.random.Generator) -> Settings:
    return Settings(
        gain_db=scanner.gain_db + image.gain_db,
        range_db=scanner.range_db,
        noise_db=scanner.noise_db,
        axial_mm=0.16 + 0.0009 * sector.depth_mm,
        lateral_beams=0.8 if sector.kind == "linear" else 1.0,
        focus=float(random.uniform(0.4, 0.65)),
        compensation_db_mm=0.11,
        gamma=scanner.gamma,
        looks=scanner.looks,
    )


def _ultrasound(panel: _Panel, pose: Pose, image: ImagePlan, random: np.random.Generator) -> Bytes:
    if image.fault == "black_frame":
        return np.zeros((panel.sector.box[3], panel.sector.box[2]), np.uint8)
    return insonify(draw(panel.scene.shapes, pose, panel.sector), panel.around, panel.sector, panel.settings, random)


def _outline(masks: dict[str, Mask], panel: _Panel, pose: Pose, layout: Layout) -> None:
    """Add the panel's structures to the screen's masks: those that can be seen."""
    x, y, width, height = panel.sector.box
    for structure, outlines in panel.scene.structures.items():
        mask = outline_mask(outlines, pose, panel.sector)
        if visible_share(outlines, pose, panel.sector) < SEEN_SHARE or np.count_nonzero(mask) < SMALLEST_PX:
            continue
        whole = masks.setdefault(structure, np.zeros((layout.height, layout.width), np.bool_))
        whole[y : y + height, x : x + width] |= mask


def _doppler(screen: Screen, panel: _Panel, pose: Pose, grey: Bytes, random: np.random.Generator) -> Box:
    """Paint flow towards the probe red and away from it blue, within a box around the vessels."""
    flows = [shape for shape in panel.scene.shapes if shape.flow is not None]
    left, top, width, height = panel.sector.box
    around = flows or panel.scene.shapes  # where no vessel can be seen, colour is on and shows nothing
    points = np.concatenate([pose.px(shape.outline) for shape in around])
    x0, y0 = np.maximum(points.min(axis=0) - 12, 0).astype(int)
    x1, y1 = np.minimum(points.max(axis=0) + 12, [width - 1, height - 1]).astype(int)
    rgb = np.repeat(grey[:, :, None], 3, axis=2)
    noise = random.random((height // 4 + 1, width // 4 + 1))
    noise = np.repeat(np.repeat(noise, 4, axis=0), 4, axis=1)[:height, :width]
    for shape in flows:
        mask = outline_mask([shape.outline], pose, panel.sector) & (noise > 0.12)
        mask[:y0], mask[y1:], mask[:, :x0], mask[:, x1:] = False, False, False, False
        speed = _towards_probe(shape, panel.sector, pose)
        level = np.clip(90 + 150 * abs(speed) * (0.6 + 0.5 * noise[mask]), 0, 255)
        rgb[mask] = 0
        rgb[mask, 0 if speed > 0 else 2] = np.rint(level).astype(np.uint8)
        rgb[mask, 1] = np.rint(np.clip(level - 140, 0, 255)).astype(np.uint8)
    screen.paste(rgb, panel.sector.box, panel.sector.inside())
    box = (left + int(x0), top + int(y0), int(x1 - x0) + 1, int(y1 - y0) + 1)
    screen.frame(box, _FRAME_COLOR)
    return box


def _towards_probe(shape: Shape, sector: Sector, pose: Pose) -> float:
    """The flow's speed along the beam through its middle, positive towards the probe."""
    assert shape.flow is not None
    tip = np.array([[0.0, 0.0], shape.flow])
    ends = pose.px(tip)
    direction = (ends[1] - ends[0]) / pose.px_per_mm
    middle = pose.px(shape.outline).mean(axis=0)
    beam = middle - np.array([sector.apex[0] - sector.box[0], sector.apex[1] - sector.box[1]])
    if sector.kind == "linear":
        beam = np.array([0.0, 1.0])
    speed = -float(direction @ beam) / float(np.hypot(beam[0], beam[1]))
    return speed if abs(speed) > 0.15 else 0.15


def _trace(screen: Screen, layout: Layout, sector: Sector, grey: Bytes, random: np.random.Generator) -> Box:
    """The echoes of the middle beam over time, moving with the heart."""
    x, y, width, height = layout.area
    box = (x, y + int(0.64 * height), width, height - int(0.64 * height))
    line = grey[:, min(int(sector.apex[0]) - sector.box[0], grey.shape[1] - 1)].astype(np.float64)
    time = np.arange(box[2]) / box[2] * _SWEEP_S
    depth = np.linspace(0, 1, box[3])[:, None]
    beat = 0.025 * np.sin(2 * math.pi * _HEART_HZ * time)[None, :] * np.exp(-(((depth - 0.5) / 0.22) ** 2))
    rows = np.clip((depth + beat) * (len(line) - 1), 0, len(line) - 1).astype(np.int64)
    trace = np.clip(line[rows] * random.uniform(0.75, 1.25, (box[3], box[2])), 0, 255)
    screen.paste(np.rint(trace).astype(np.uint8), box)
    return box


def _decorate(
    screen: Screen, exam: Exam, image: ImagePlan, panels: Sequence[_Panel], machine: Mapping[str, float]
) -> None:
    """Everything a scanner writes: who and where, its settings, rulers, and what was measured."""
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


def _measure(screen: Screen, exam: Exam, image: ImagePlan, panel: _Panel) -> None:
    """Calipers on the structure, and the value that the records hold."""
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
        inside = image.number % 2 == 0  # in the sector's own box on every second image, else where the vendor has it
        place = screen.layout.places["measurement"]
        left, top = (x + 10, y + height - 26 * (len(lines) - number)) if inside else (place.x, place.y + 26 * number)
        screen.text("measurement", line, left, top, place.size, screen.layout.accent)


def _extremes(points: Floats, *, across: bool) -> Floats:
    """The ends of the long axis, or of the width halfway along it, [2, 2]: the principal axes of the points."""
    middle = points.mean(axis=0)
    x, y = (points - middle).T
    angle = 0.5 * math.atan2(2 * float(np.mean(x * y)), float(np.mean(x * x) - np.mean(y * y)))
    axis = np.array([math.cos(angle), math.sin(angle)])
    along = (points - middle) @ axis
    if across:  # what is bowed is no wider for it
        points = points[np.abs(along) < 0.1 * np.abs(along).max()]
        middle, axis = points.mean(axis=0), np.array([-axis[1], axis[0]])
        along = (points - middle) @ axis
    return np.stack([middle + along.min() * axis, middle + along.max() * axis])

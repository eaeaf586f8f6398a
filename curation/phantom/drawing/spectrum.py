"""Spectral Doppler: velocities of the blood at one place over time, as a scanner displays them.

Each column is one moment. Blood moves at every speed up to the vessel's fastest, which the heart raises and lowers, so
a column is lit from the baseline to an envelope; its power is speckled as every echo is. The waveforms follow the
textbook shapes of fetal and maternal vessels; nothing was fitted to recordings.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import cv2
import numpy as np

from .panels import Panel
from .screen import Color, Layout, Screen
from .sector import Box, Bytes, Floats

_LABEL_PX = 46
"""Right of the trace, for its scale of velocities."""

_TRACE_STARTS = {"below": 0.53, "beside": 0.48}
"""As shares of the layout's area: what lies before has the sector."""

_TIME_PX = 18
"""Below the trace, for its scale of time."""


@dataclass(frozen=True)
class Waveform:
    """The fastest blood of a vessel over one beat.

    Attributes:
        peak_cm_s: its highest speed.
        beats_hz: of the heart that drives it.
        floor: speed at the end of diastole, as a share of the highest.
        bumps: moment within the beat, width and height of each rise, as shares of the beat and of the peak.
        decay: share of the beat in which an artery's speed falls to a third; 0 where the bumps say it all.
    """

    peak_cm_s: float
    beats_hz: float
    floor: float
    bumps: tuple[tuple[float, float, float], ...] = ()
    decay: float = 0.0

    def at(self, phase: Floats) -> Floats:
        """Speed as a share of the highest, at moments of the beat from 0 to 1."""
        speed = np.full_like(phase, self.floor)
        if self.decay:
            rise = np.sin(np.clip(phase / 0.14, 0, 1) * math.pi / 2) ** 2
            fall = np.exp(-np.maximum(phase - 0.14, 0) / self.decay)
            speed = self.floor + (1 - self.floor) * rise * fall
        for moment, width, height in self.bumps:
            away = np.minimum(np.abs(phase - moment), 1 - np.abs(phase - moment))
            speed = speed + height * np.exp(-((away / width) ** 2))
        return np.asarray(np.clip(speed, -1, 1.05), dtype=np.float64)


WAVEFORMS: Mapping[str, Waveform] = {
    "umbilical_artery": Waveform(45, 2.4, 0.32, decay=0.3),
    "middle_cerebral_artery": Waveform(52, 2.4, 0.12, decay=0.16),
    "uterine_artery": Waveform(65, 1.3, 0.42, ((0.42, 0.06, -0.12),), decay=0.26),
    "aorta": Waveform(95, 2.4, 0.04, decay=0.15),
    "ductus_venosus": Waveform(55, 2.4, 0.34, ((0.3, 0.16, 0.6), (0.62, 0.12, 0.42))),
    "mitral_inflow": Waveform(48, 2.4, 0.0, ((0.5, 0.08, 0.72), (0.72, 0.08, 0.98))),
}


@dataclass(frozen=True)
class Spectrum:
    """A spectral trace on a screen.

    Attributes:
        box: of the trace, without its scales.
        baseline: row of the screen at which nothing moves.
        cm_s_per_px, seconds_per_px: its scales; velocities rise upwards.
        gate: middle of the sample volume, in px of the screen.
    """

    box: Box
    baseline: int
    cm_s_per_px: float
    seconds_per_px: float
    gate: tuple[int, int]


def _trace_area(layout: Layout) -> Box:
    """Where the trace goes: what the sector leaves of the layout's area."""
    x, y, width, height = layout.area
    share = _TRACE_STARTS[layout.trace]
    if layout.trace == "beside":
        left = int(share * width)
        return x + left, y, width - left, height
    top = int(share * height)
    return x, y + top, width, height - top


def draw_spectrum(screen: Screen, panel: Panel, random: np.random.Generator) -> Spectrum:
    """Draw the sample volume on the sector, and the trace with its scales beside it."""
    layout = screen.layout
    x, y, width, height = _trace_area(layout)
    box = (x, y + 6, width - _LABEL_PX, height - 6 - _TIME_PX)
    vessel = list(WAVEFORMS)[int(random.integers(len(WAVEFORMS)))]
    wave, upwards = WAVEFORMS[vessel], bool(random.random() < 0.7)
    baseline = box[1] + int(box[3] * (random.uniform(0.6, 0.84) if upwards else random.uniform(0.16, 0.4)))
    room = baseline - box[1] if upwards else box[1] + box[3] - baseline
    peak = wave.peak_cm_s * random.uniform(0.75, 1.25)
    spectrum = Spectrum(
        box=box,
        baseline=baseline,
        cm_s_per_px=peak / (room * random.uniform(0.6, 0.93)),
        seconds_per_px=float(random.choice([2.0, 3.0, 4.0, 5.0])) / box[2],
        gate=_draw_gate(screen, panel, random),
    )
    envelope = _envelope(wave, spectrum, random) * peak * (1 if upwards else -1)
    levels = _levels(envelope, spectrum, random)
    screen.paste(_tinted(levels, random) if screen.colored else levels, box)
    _draw_scales(screen, spectrum)
    if random.random() < 0.35:
        _trace_envelope(screen, spectrum, envelope)
        _write_indices(screen, envelope)
    return spectrum


def _draw_gate(screen: Screen, panel: Panel, random: np.random.Generator) -> tuple[int, int]:
    """The beam that is listened to, and two strokes across it around the sample volume."""
    sector, pose = panel.sector, panel.pose
    flows = [shape for shape in panel.scene.shapes if shape.flow is not None] or list(panel.scene.shapes)
    wanted = pose.px(flows[int(random.integers(len(flows)))].outline).mean(axis=0)
    depth, across = sector.beam_coordinates(wanted[:1], wanted[1:])
    place, beam = float(np.clip(depth[0], 0.15, 0.9)), float(np.clip(across[0], -0.8, 0.8))
    corner = np.array(sector.box[:2])
    ends = np.array([sector.point(0.0, beam), sector.point(1.0, beam)]) + corner
    bottom = sector.box[1] + sector.box[3] - 1
    ends[1] = ends[0] + (ends[1] - ends[0]) * min(1.0, (bottom - ends[0, 1]) / (ends[1, 1] - ends[0, 1]))
    color: Color = screen.layout.ink if random.random() < 0.6 else screen.layout.accent
    dotted = random.random() < 0.5
    if dotted:
        screen.dots(np.linspace(ends[0], ends[1], max(int(np.hypot(*(ends[1] - ends[0])) / 6), 2)), color)
    else:
        screen.line(ends, color)
    screen.mark("beam_line", ends)
    middle = np.array(sector.point(place, beam)) + corner
    along = (ends[1] - ends[0]) / np.hypot(*(ends[1] - ends[0]))
    aside = np.array([-along[1], along[0]])
    half = random.uniform(3, 7)
    strokes = np.array([[middle + side * half * along + end * 8 * aside for end in (-1, 1)] for side in (-1, 1)])
    for stroke in strokes:
        screen.line(stroke, color, 2)
    if random.random() < 0.6:  # the angle by which the scanner corrects
        turn = random.uniform(-1.0, 1.0)
        tilted = math.cos(turn) * along + math.sin(turn) * aside
        strokes = np.concatenate([strokes, [[middle - 18 * tilted, middle + 18 * tilted]]])
        screen.line(strokes[-1], color)
    screen.mark("gate", strokes.reshape(-1, 2))
    return int(middle[0]), int(middle[1])


def _envelope(wave: Waveform, spectrum: Spectrum, random: np.random.Generator) -> Floats:
    """The fastest speed in every column, as a share of the highest: [columns]; beats differ a little."""
    time = np.arange(spectrum.box[2]) * spectrum.seconds_per_px
    rate = wave.beats_hz * random.uniform(0.92, 1.08)
    beats = time * rate + random.uniform(0, 1) + 0.015 * np.sin(2 * math.pi * 0.4 * time)
    strength = random.normal(1.0, 0.03, int(beats[-1]) + 2)[beats.astype(int)]
    return np.asarray(wave.at(beats % 1.0) * strength)


def _levels(envelope: Floats, spectrum: Spectrum, random: np.random.Generator) -> Bytes:
    """Grey levels of the trace's box, from the power at every velocity and moment."""
    _, top, width, height = spectrum.box
    velocity = (spectrum.baseline - (np.arange(height) + top))[:, None] * spectrum.cm_s_per_px
    reach = np.where(np.abs(envelope) < 1, np.sign(envelope + 1e-9), envelope)[None, :]
    share = velocity / reach  # 0 at the baseline, 1 at the envelope
    softness = 0.05 + random.uniform(0, 0.04)
    lit = 1 / (1 + np.exp(np.clip((share - 1) / softness, -40, 40))) * (share > 0)
    power = lit * (0.3 + 0.7 * np.clip(share, 0, 1) ** random.uniform(0.5, 3.0))
    if random.random() < 0.35:  # a vein beside the artery flows the other way, at one speed
        vein = random.uniform(8, 16) * (1 + 0.08 * np.sin(np.arange(width) / 40))[None, :]
        against = -velocity * np.sign(np.median(envelope) + 1e-9) / vein
        power = np.maximum(power, 0.7 * (against > 0) / (1 + np.exp(np.clip((against - 1) / 0.08, -40, 40))))
    if random.random() < 0.3:  # the mirror image of a gain that is too high
        power = np.maximum(power, 0.12 * power[::-1])
    power = power + random.uniform(0.0, 0.012)
    speckle = cv2.GaussianBlur(random.exponential(1.0, (height, width)), (0, 0), sigmaX=0.9, sigmaY=0.6)
    wall_filter = random.uniform(1.0, 3.5)
    power = np.where(np.abs(velocity) < wall_filter, 0.02 * power, power)
    level_db = 10 * np.log10(power * speckle + 1e-6)
    grey = np.clip(1 + (level_db - random.uniform(-4, 0)) / random.uniform(18, 26), 0, 1)
    return np.rint(255 * grey).astype(np.uint8)


def _tinted(levels: Bytes, random: np.random.Generator) -> Bytes:
    """Grey, or in one of the colours that scanners offer for traces."""
    tints = ((1.0, 1.0, 1.0), (1.0, 0.86, 0.6), (0.72, 0.86, 1.0), (1.0, 0.95, 0.55))
    tint = tints[int(random.choice(len(tints), p=[0.55, 0.25, 0.1, 0.1]))]
    return np.asarray(np.rint(levels[:, :, None] * np.array(tint)), dtype=np.uint8)


def _draw_scales(screen: Screen, spectrum: Spectrum) -> None:
    """The baseline, velocities at the right and seconds below."""
    left, top, width, height = spectrum.box
    ink, right, bottom = screen.layout.ink, left + width, top + height
    screen.line(np.array([[left, spectrum.baseline], [right, spectrum.baseline]]), ink)
    reach = height * spectrum.cm_s_per_px
    step = next(step for step in (5, 10, 20, 25, 50, 100, 200) if reach / step <= 8)
    first = -int((bottom - spectrum.baseline) * spectrum.cm_s_per_px // step)
    for number in range(first, int((spectrum.baseline - top) * spectrum.cm_s_per_px // step) + 1):
        row = spectrum.baseline - number * step / spectrum.cm_s_per_px
        screen.line(np.array([[right, row], [right + 6, row]]), ink)
        if number:
            screen.text("ruler", str(number * step), right + 9, row - 8, 13)
    screen.text("ruler", "cm/s", right + 6, spectrum.baseline - 8, 13)
    seconds = width * spectrum.seconds_per_px
    for tick in range(int(seconds * 5) + 1):
        column = left + tick / 5 / spectrum.seconds_per_px
        screen.line(np.array([[column, bottom + 1], [column, bottom + (8 if tick % 5 == 0 else 4)]]), ink)


def _trace_envelope(screen: Screen, spectrum: Spectrum, envelope: Floats) -> None:
    left, top, _, height = spectrum.box
    rows = np.clip(spectrum.baseline - envelope / spectrum.cm_s_per_px, top, top + height - 1)
    screen.line(np.stack([left + np.arange(len(rows)), rows], axis=1), screen.layout.accent)


def _write_indices(screen: Screen, envelope: Floats) -> None:
    """What the scanner computes from the envelope: indices of resistance, and the highest speed."""
    speed = np.abs(envelope)
    systole, diastole, mean = float(speed.max()), float(np.percentile(speed, 3)), float(speed.mean())
    lines = [
        f"PS {systole:.1f} cm/s",
        f"ED {diastole:.1f} cm/s",
        f"PI {(systole - diastole) / mean:.2f}",
        f"RI {(systole - diastole) / systole:.2f}",
    ]
    place = screen.layout.places["measurement"]
    room = (screen.layout.height - place.y) // 22
    for number, line in enumerate(lines[:room]):
        screen.text("measurement", line, place.x, place.y + 22 * number, place.size, screen.layout.accent)

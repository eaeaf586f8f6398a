"""What scanners draw over ultrasound that is no text: marks of measurements, and the machine's own."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from .lettering import COLORS, Drawn, contrast, hidden_parts

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]
Color = tuple[int, int, int]
Random = np.random.Generator


LEAST_CONTRAST, LEAST_SPREADS = 18.0, 0.6
"""As of strings; marks are small: fainter ones look like anatomy."""


@dataclass(frozen=True)
class Pen:
    """How a scanner draws measurements: ``line`` is dots, dashes, solid or none; ``gap`` in px from dot to dot."""

    color: Color
    diagonal: bool
    arm: int
    width: int
    line: str
    gap: float
    dot: int
    smooth: bool


def draw_measurement(pixels: Pixels, random: Random) -> Drawn | None:
    """Draw a distance or an ellipse at a random place of ``pixels`` [height, width, 3], in place."""
    ink, path = np.zeros(pixels.shape[:2], np.uint8), np.zeros(pixels.shape[:2], np.uint8)
    pen = _draw_pen(random)
    (_ellipse if random.random() < 0.35 else _distance)(ink, path, pen, random)
    if np.count_nonzero(ink) < 10:
        return None
    strokes = ink > 127
    region = (cv2.dilate(ink, np.ones((5, 5), np.uint8)) > 0) | (path > 0)
    rows, columns = np.flatnonzero(region.any(axis=1)), np.flatnonzero(region.any(axis=0))
    window = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    before = pixels[window].copy()
    _blend(pixels[window], ink[window], pen.color, random)
    visible = bool(np.any(strokes)) and contrast(pixels[window], strokes[window]) >= LEAST_CONTRAST
    hidden = np.zeros_like(region)
    hidden[window] = hidden_parts(before, pixels[window], strokes[window], least=LEAST_CONTRAST, spreads=LEAST_SPREADS)
    return Drawn(region, strokes, visible, hidden & region)


def draw_machine_marks(pixels: Pixels, random: Random, count: int) -> None:
    """Draw boxes, rulers, arrows, rings and the like at random places of ``pixels`` [height, width, 3], in place."""
    for _ in range(count):
        ink = np.zeros(pixels.shape[:2], np.uint8)
        MACHINE_MARKS[int(random.integers(len(MACHINE_MARKS)))](ink, random)
        _blend(pixels, ink, COLORS[int(random.integers(len(COLORS)))], random)


def draw_flow(pixels: Pixels, random: Random) -> None:
    """Paint flow in coarse cells of red or blue over a vessel of ``pixels`` [height, width, 3], in place."""
    height, width = pixels.shape[:2]
    for _ in range(int(random.integers(1, 4))):
        vessel = np.zeros((height, width), np.uint8)
        course = np.cumsum([_place(vessel, random), *random.integers(-60, 61, (3, 2))], axis=0)
        cv2.polylines(vessel, [course.astype(np.int32)], False, 255, int(random.integers(4, 60)))
        cell = int(random.integers(1, 6))
        noise = random.random((height // cell + 1, width // cell + 1), np.float32)
        noise = noise.repeat(cell, axis=0).repeat(cell, axis=1)[:height, :width]
        level = np.clip(random.uniform(70, 200) + 80 * noise, 0, 255)
        flow = np.zeros((height, width, 3), np.uint8)
        flow[..., int(random.choice([0, 2]))] = level
        flow[..., 1] = np.clip(level - random.uniform(60, 160), 0, 255)
        mask = (vessel > 0) & (noise > random.uniform(0, 0.3))
        pixels[mask] = flow[mask]


def _draw_pen(random: Random) -> Pen:
    return Pen(
        color=COLORS[int(random.integers(len(COLORS)))],
        diagonal=bool(random.random() < 0.3),
        arm=int(random.integers(3, 10)),
        width=int(random.choice([1, 2], p=[0.75, 0.25])),
        line=str(random.choice(["dots", "dashes", "solid", "none"], p=[0.45, 0.15, 0.1, 0.3])),
        gap=float(random.uniform(4, 12)),
        dot=int(random.choice([1, 2, 3], p=[0.3, 0.5, 0.2])),
        smooth=bool(random.random() < 0.3),
    )


def _blend(pixels: Pixels, ink: Pixels, color: Color, random: Random) -> None:
    share = ink[..., None].astype(np.float32) / 255 * (1.0 if random.random() < 0.8 else random.uniform(0.5, 1.0))
    pixels[:] = np.rint(pixels * (1 - share) + np.array(color, np.float32) * share).astype(np.uint8)


def _distance(ink: Pixels, path: Pixels, pen: Pen, random: Random) -> None:
    """A cross at both ends, and mostly a line between them."""
    height, width = ink.shape
    length, angle = float(np.exp(random.uniform(2.5, 5.5))), float(random.uniform(0, math.pi))
    start = random.uniform([0, 0], [width, height])
    ends = np.stack([start, start + length * np.array([math.cos(angle), math.sin(angle)])])
    for end in ends:
        _cross(ink, end, pen)
    if pen.line == "none":
        return
    cv2.line(path, _point(ends[0]), _point(ends[1]), 255, 5)
    steps = np.linspace(ends[0], ends[1], max(int(length / pen.gap), 2))
    if pen.line == "solid":
        _line(ink, ends[0], ends[1], pen)
    elif pen.line == "dots":
        _dots(ink, steps, pen.dot)
    else:
        for one, other in itertools.pairwise(steps):
            _line(ink, one, one + 0.5 * (other - one), pen)


def _ellipse(ink: Pixels, path: Pixels, pen: Pen, random: Random) -> None:
    height, width = ink.shape
    center, axes = random.uniform([0, 0], [width, height]), np.exp(random.uniform(2.8, 5.2, 2))
    axes[1] = axes[0] * random.uniform(0.55, 1.0)
    turn = float(random.uniform(0, math.pi))
    count = max(int(2 * math.pi * float(axes.mean()) / pen.gap), 12)
    angle = np.linspace(0, 2 * math.pi, count, endpoint=False)
    x, y = axes[0] * np.cos(angle), axes[1] * np.sin(angle)
    outline = center + np.stack([x * math.cos(turn) - y * math.sin(turn), x * math.sin(turn) + y * math.cos(turn)], 1)
    closed = np.rint(outline).astype(np.int32)
    cv2.polylines(path, [closed], True, 255, 5)
    if pen.line == "solid":
        cv2.polylines(ink, [closed], True, 255, pen.width)
    else:
        _dots(ink, outline, pen.dot)
    if random.random() < 0.3:
        for index in (0, count // 2):
            _cross(ink, outline[index], pen)


def _cross(ink: Pixels, middle: Floats, pen: Pen) -> None:
    reach = 0.7 * pen.arm if pen.diagonal else float(pen.arm)
    for direction in ([1.0, 1.0], [1.0, -1.0]) if pen.diagonal else ([1.0, 0.0], [0.0, 1.0]):
        _line(ink, middle - reach * np.array(direction), middle + reach * np.array(direction), pen)


def _line(ink: Pixels, start: Floats, end: Floats, pen: Pen) -> None:
    cv2.line(ink, _point(start), _point(end), 255, pen.width, cv2.LINE_AA if pen.smooth else cv2.LINE_8)


def _dots(ink: Pixels, points: Floats, side: int) -> None:
    for x, y in np.rint(points).astype(int).tolist():
        cv2.rectangle(ink, (x, y), (x + side - 1, y + side - 1), 255, -1)


def _box(ink: Pixels, random: Random) -> None:
    corner = _place(ink, random)
    cv2.rectangle(ink, _point(corner), _point(corner + random.integers(10, 150, 2)), 255, int(random.integers(1, 3)))


def _long_line(ink: Pixels, random: Random) -> None:
    cv2.line(ink, _point(_place(ink, random)), _point(_place(ink, random)), 255, int(random.integers(1, 3)))


def _arrow(ink: Pixels, random: Random) -> None:
    tip = _place(ink, random)
    cv2.arrowedLine(ink, _point(tip + random.integers(-40, 41, 2)), _point(tip), 255, int(random.integers(1, 3)))


def _ruler(ink: Pixels, random: Random) -> None:
    """Ticks along one side, as on a depth scale; its numbers would be text."""
    height, width = ink.shape
    step, upright = int(random.integers(6, 40)), random.random() < 0.5
    at = int(random.integers(width if upright else height))
    for number, along in enumerate(range(int(random.integers(step)), height if upright else width, step)):
        reach = 7 if number % 5 == 0 else 3
        first, last = ((at, along), (at + reach, along)) if upright else ((along, at), (along, at + reach))
        cv2.line(ink, first, last, 255, 1)


def _ring(ink: Pixels, random: Random) -> None:
    """A vendor's mark beside the probe's notch."""
    cv2.circle(ink, _point(_place(ink, random)), int(random.integers(3, 9)), 255, int(random.integers(1, 3)))


def _gate(ink: Pixels, random: Random) -> None:
    """A sample volume: two short parallel lines, mostly across the beam and with the angle of flow between them."""
    middle, apart = _place(ink, random).astype(np.float64), float(random.uniform(4, 16))
    angle, reach, width = float(random.uniform(0, math.pi)), float(random.uniform(4, 12)), int(random.integers(1, 3))
    across = np.array([math.cos(angle), math.sin(angle)])
    beam = np.array([-across[1], across[0]])
    for side in (-0.5, 0.5):
        at = middle + side * apart * beam
        cv2.line(ink, _point(at - reach * across), _point(at + reach * across), 255, width)
    chance = random.random()
    ends = middle - 400 * beam, middle + 400 * beam
    if chance < 0.4:
        cv2.line(ink, _point(ends[0]), _point(ends[1]), 255, 1)
    elif chance < 0.75:
        _dots(ink, np.linspace(*ends, int(800 / random.uniform(4, 12))), 1)
    if random.random() < 0.55:
        turn = random.uniform(-1.1, 1.1)
        tilted = float(random.uniform(10, 24)) * (math.cos(turn) * beam + math.sin(turn) * across)
        cv2.line(ink, _point(middle - tilted), _point(middle + tilted), 255, 1)


def _triangle(ink: Pixels, random: Random) -> None:
    cv2.fillPoly(ink, [(_place(ink, random) + random.integers(-8, 9, (3, 2))).astype(np.int32)], 255)


def _grey_bar(ink: Pixels, random: Random) -> None:
    x, y = _point(_place(ink, random))
    wide, tall = int(random.integers(6, 20)), int(random.integers(40, 200))
    window = ink[y : y + tall, x : x + wide]
    window[:] = np.linspace(255, 0, tall)[: window.shape[0], None].astype(np.uint8)


def _place(ink: Pixels, random: Random) -> npt.NDArray[np.int64]:
    return np.asarray(random.integers([0, 0], [ink.shape[1], ink.shape[0]]), np.int64)


def _point(values: npt.NDArray[np.float64] | npt.NDArray[np.int64]) -> tuple[int, int]:
    return round(float(values[0])), round(float(values[1]))


MACHINE_MARKS: tuple[Callable[[Pixels, Random], None], ...] = (
    *(_box, _long_line, _arrow, _ruler, _ring, _gate, _gate, _gate, _triangle, _grey_bar),
)

"""What the detector is trained on: small images, which of their cells show text, and which do not count."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from sono.curation.cleaning.overlays.inpainting import inpaint
from sono.curation.cleaning.overlays.text_detector import STRIDE

from .fonts import TRAINED
from .lettering import Drawn, random_text, write_string
from .marks import draw_flow, draw_machine_marks, draw_measurement

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
Image = npt.NDArray[Any]
"""What OpenCV's functions return: they don't say that bytes stay bytes."""
Random = np.random.Generator

SIDE = 192
DARK, LEAST_LIT, CORNER_LIT, CORNERS = 10, 0.3, 0.03, 0.25
"""Crops in which less is brighter are drawn again: little is learned from what lies outside a sector. In a quarter of
the crops, a corner of a sector is enough."""

PRESENT, ABSENT, IGNORED = 1, 0, 255

FEWEST_CELLS = 8
"""Of a cross: items with fewer, cut by the crop, don't weigh more."""


@dataclass(frozen=True)
class Crop:
    """``pixels`` [side, side, 3]; ``target`` [2, cells, cells]: PRESENT, ABSENT or IGNORED.

    The target's channels are text and marks of measurements. ``weight`` of its cells, same shape: every mark counts as
    much as any other, a cross as much as a long outline.
    """

    pixels: Pixels
    target: Pixels
    weight: Floats


def draw_crop(backgrounds: Sequence[Pixels], random: Random) -> Crop:
    """A crop of a background; two thirds have strings, half marks of measurements, a third the machine's own."""
    pixels, outside = _background(backgrounds, random)
    if random.random() < 0.3:
        draw_flow(pixels, random)
    if random.random() < 0.35:
        draw_machine_marks(pixels, random, int(random.integers(1, 4)))
    marks = _draw_marks(pixels, random) if random.random() < 0.55 else []
    strings = _write_strings(pixels, random) if random.random() < 0.65 else []
    if random.random() < 0.2:
        pixels, strings, marks = _some_removed(pixels, strings, marks, random)
    pixels[outside] = 0
    return as_crop(as_stored(pixels, random), outside, strings, marks)


def as_crop(pixels: Pixels, outside: npt.NDArray[np.bool_], strings: Sequence[Drawn], marks: Sequence[Drawn]) -> Crop:
    """What is to be found in ``pixels`` [side, side, 3], which are blanked ``outside``, [side, side]."""
    text, _ = _target(strings, outside, 0.5)
    measured, weight = _target(marks, outside, 0.2)
    return Crop(pixels, np.stack([text, measured]), np.stack([np.ones_like(weight), weight]))


def _some_removed(
    pixels: Pixels, strings: list[Drawn], marks: list[Drawn], random: Random
) -> tuple[Pixels, list[Drawn], list[Drawn]]:
    """The image as cleaning leaves it, and what was not removed: nothing of the rest may be found again."""
    removed = np.zeros(pixels.shape[:2], np.bool_)
    kept: tuple[list[Drawn], list[Drawn]] = ([], [])
    for left, drawn in zip(kept, (strings, marks), strict=True):
        for item in drawn:
            if random.random() < 0.25:
                left.append(item)
            else:
                removed |= item.region
    removed = cv2.dilate(removed.view(np.uint8), np.ones((9, 9), np.uint8)).astype(np.bool_)
    for item in (*kept[0], *kept[1]):
        removed &= ~item.region
    return inpaint(pixels, removed), *kept


def _draw_marks(pixels: Pixels, random: Random) -> list[Drawn]:
    drawn = [draw_measurement(pixels, random) for _ in range(int(random.integers(1, 4)))]
    return [mark for mark in drawn if mark]


def _background(backgrounds: Sequence[Pixels], random: Random) -> tuple[Pixels, npt.NDArray[np.bool_]]:
    """A crop in colour, and where it is blanked because it lies outside the sector."""
    image = _cut(backgrounds, random)
    least = CORNER_LIT if random.random() < CORNERS else LEAST_LIT
    for _ in range(3):
        if np.mean(image > DARK) >= least:
            break
        image = _cut(backgrounds, random)
    if random.random() < 0.5:
        image = image[:, ::-1]
    if random.random() < 0.15:
        image = np.rot90(image, int(random.integers(1, 4)))
    outside = _outside(random)
    pixels: Image = in_color(image).copy()
    if random.random() < 0.5:
        pixels = with_other_levels(pixels, random)
    if random.random() < 0.2:  # grey maps in brown or blue
        pixels = np.rint(pixels * random.uniform(0.55, 1.0, 3)).astype(np.uint8)
    if random.random() < 0.2:  # as scanners sharpen edges
        soft = cv2.GaussianBlur(pixels, (0, 0), 1.5)
        pixels = cv2.addWeighted(pixels, 2.0, soft, -1.0, 0)
    return np.ascontiguousarray(pixels), outside


def with_other_levels(pixels: Image, random: Random) -> Pixels:
    """Brighter or darker, with another gamma, as by another gain and grey map."""
    levels = 255 * (np.arange(256) / 255) ** float(random.uniform(0.6, 1.5)) * random.uniform(0.6, 1.6)
    return np.asarray(cv2.LUT(pixels, np.clip(levels, 0, 255).astype(np.uint8)), np.uint8)


def in_color(image: Image) -> Image:
    """[height, width, 3] of a grey image, too."""
    return np.repeat(image[..., None], 3, axis=2) if image.ndim == 2 else image


def _cut(backgrounds: Sequence[Pixels], random: Random) -> Image:
    """A square of ``SIDE`` from one of the backgrounds, in its own resolution or another."""
    image: Image = backgrounds[int(random.integers(len(backgrounds)))]
    scale = float(random.choice([1.0, random.uniform(0.55, 1.7)]))
    side = min(round(SIDE / scale), *image.shape[:2])
    top = int(random.integers(image.shape[0] - side + 1))
    left = int(random.integers(image.shape[1] - side + 1))
    image = image[top : top + side, left : left + side]
    if side == SIDE:
        return image
    return cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_LINEAR if side < SIDE else cv2.INTER_AREA)


def _outside(random: Random) -> npt.NDArray[np.bool_]:
    """What is beyond a side or a corner of a sector, or what a masking box covers, in some crops; else nothing."""
    outside = np.zeros((SIDE, SIDE), np.bool_)
    chance = random.random()
    if chance < 0.22:
        y, x = np.mgrid[0:SIDE, 0:SIDE] - SIDE / 2
        for _ in range(int(random.integers(1, 3))):
            angle, distance = random.uniform(0, 2 * np.pi), random.uniform(-0.2, 0.5) * SIDE
            outside |= x * np.cos(angle) + y * np.sin(angle) > distance
    elif chance < 0.3:
        top, left = random.integers(0, SIDE, 2)
        height, width = random.integers(20, 120, 2)
        outside[top : top + height, left : left + width] = True
    return outside


def _write_strings(pixels: Pixels, random: Random) -> list[Drawn]:
    strings: list[Drawn] = []
    taken = np.zeros(pixels.shape[:2], np.bool_)
    for _ in range(int(random.integers(2, 8))):
        text, font = random_text(random, TRAINED)
        size = (
            int(random.integers(11, 23)) if random.random() < 0.75 else round(float(np.exp(random.uniform(2.1, 3.7))))
        )
        canvas = pixels.copy()
        string = write_string(canvas, text, font, size, random)
        if string is None or np.any(taken & string.region):
            continue
        pixels[:] = canvas
        taken |= cv2.dilate(string.region.view(np.uint8), np.ones((7, 7), np.uint8)).astype(np.bool_)
        strings.append(string)
    return strings


def as_stored(pixels: Image, random: Random) -> Pixels:
    """In grey or in colour, perhaps with the noise of JPEG, perhaps resampled."""
    if random.random() < 0.4:
        pixels = cv2.cvtColor(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    if random.random() < 0.15:
        factor = float(random.uniform(0.7, 0.95))
        small = cv2.resize(pixels, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
        pixels = cv2.resize(small, (SIDE, SIDE), interpolation=cv2.INTER_LINEAR)
    if random.random() < 0.4:
        _, stream = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, int(random.integers(45, 97))])
        pixels = np.asarray(cv2.imdecode(stream, cv2.IMREAD_COLOR))
    return np.asarray(pixels, np.uint8)


def _target(drawn: Sequence[Drawn], outside: npt.NDArray[np.bool_], covered: float) -> tuple[Pixels, Floats]:
    """Cells covered by that share are present; others that are touched don't count, nor what is hardly seen.

    The weights of present cells are the smaller, the more of them one item has.
    """
    cells = SIDE // STRIDE
    target, weight = np.full((cells, cells), ABSENT, np.uint8), np.ones((cells, cells), np.float32)
    sure = np.zeros((cells, cells), np.bool_)
    for item in drawn:
        region = (item.region & ~outside).astype(np.float32)
        share = cv2.resize(region, (cells, cells), interpolation=cv2.INTER_AREA)
        near = cv2.dilate((share > 0).astype(np.uint8), np.ones((3, 3), np.uint8)).astype(np.bool_)
        target[near & ~sure] = IGNORED
        if item.visible and np.count_nonzero(item.ink & ~outside) >= 0.5 * np.count_nonzero(item.ink):
            hidden = cv2.resize(item.hidden.astype(np.float32), (cells, cells), interpolation=cv2.INTER_AREA)
            present = (share > covered) & (hidden < 0.5 * share)
            target[present] = PRESENT
            weight[present] = FEWEST_CELLS / max(int(np.count_nonzero(present)), FEWEST_CELLS)
            sure |= present
    return target, weight

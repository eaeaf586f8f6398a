"""A string written over an image as scanners do: sizes, colours, outlines, boxes, transparency, blur, upright."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from sono.curation.cleaning.overlays.views import brightness_and_colorfulness

from .fonts import CHINESE, font
from .strings import SCRIPTS

Pixels = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]
Random = np.random.Generator

COLORS = (
    *((255, 255, 255), (230, 230, 230), (200, 200, 200), (170, 170, 170), (140, 140, 140)),
    *((255, 255, 0), (250, 220, 60), (255, 170, 0), (0, 255, 0), (90, 230, 120), (0, 255, 255), (80, 170, 255)),
    *((255, 60, 60), (255, 0, 255), (255, 150, 200), (60, 90, 255)),
)
LEAST_CONTRAST, LEAST_SPREADS = 12.0, 0.4
"""Levels between ink and what is around it, and how much of their spread: less cannot be relied upon to be seen."""


@dataclass(frozen=True, eq=False)
class Drawn:
    """Something drawn over an image.

    Attributes:
        region: [height, width], its ink with the gaps between letters or dots.
        ink: [height, width], its strokes.
        visible: it stands out from what is behind it.
        hidden: [height, width], the parts of the region where it does not.
    """

    region: Mask
    ink: Mask
    visible: bool
    hidden: Mask

    @property
    def box(self) -> tuple[int, int, int, int]:
        """x, y, width, height of the ink, in px."""
        rows, columns = np.flatnonzero(self.ink.any(axis=1)), np.flatnonzero(self.ink.any(axis=0))
        return int(columns[0]), int(rows[0]), int(np.ptp(columns)) + 1, int(np.ptp(rows)) + 1


def write_string(pixels: Pixels, text: str, font_name: str, size: int, random: Random) -> Drawn | None:
    """Write ``text`` at a random place of ``pixels`` [height, width, 3], in place; None if it does not fit."""
    direction = str(random.choice(["across", "up", "down", "stacked"], p=[0.76, 0.1, 0.1, 0.04]))
    style = str(random.choice(["plain", "outline", "box", "dark_on_light"], p=[0.58, 0.24, 0.12, 0.06]))
    stroke, halo = _strokes(text, font_name, size, direction, int(random.integers(1, 3)) * (style == "outline"), random)
    height, width = stroke.shape
    if height > pixels.shape[0] or width > pixels.shape[1] or not np.any(stroke > 127):
        return None
    top = int(random.integers(pixels.shape[0] - height + 1))
    left = int(random.integers(pixels.shape[1] - width + 1))
    window = pixels[top : top + height, left : left + width]
    before = window.copy()
    _paint(window, stroke, halo, COLORS[int(random.integers(len(COLORS)))], style, random)
    ink = stroke > 100
    visible = contrast(window, ink) >= LEAST_CONTRAST
    region, whole = np.zeros(pixels.shape[:2], np.bool_), np.zeros(pixels.shape[:2], np.bool_)
    region[top : top + height, left : left + width] = _filled(ink, size)
    whole[top : top + height, left : left + width] = ink
    hidden = np.zeros_like(region)
    hidden[top : top + height, left : left + width] = hidden_parts(before, window, ink)
    return Drawn(region, whole, visible, hidden & region)


def random_text(random: Random, fonts: Sequence[str]) -> tuple[str, str]:
    """A string, and a font that has its letters."""
    names = list(SCRIPTS)
    script = str(random.choice(names, p=[SCRIPTS[name][1] for name in names]))
    text = SCRIPTS[script][0](random)
    if script == "chinese":
        return text, CHINESE[0]
    fonts = [name for name in fonts if name != "bitmap" or text.isascii()]
    return text, fonts[int(random.integers(len(fonts)))]


def contrast(pixels: Pixels, ink: Mask) -> float:
    """Levels of brightness or colourfulness between the ink and what is next to it, less part of its spread."""
    around = cv2.dilate(ink.view(np.uint8), np.ones((5, 5), np.uint8)).astype(np.bool_) & ~ink
    brightness, colorfulness = brightness_and_colorfulness(pixels)
    best = 0.0
    for view in (brightness, brightness - colorfulness, colorfulness):
        inside, outside = view[ink].astype(np.float32), view[around].astype(np.float32)
        best = max(best, abs(float(inside.mean() - outside.mean())) - 0.2 * float(outside.std()))
    return best


def hidden_parts(
    before: Pixels, after: Pixels, ink: Mask, *, least: float = LEAST_CONTRAST, spreads: float = LEAST_SPREADS
) -> Mask:
    """Where drawing changed the pixels of the ink by less than part of how they vary around it, or hardly at all."""
    side = 13
    change = brightness_and_colorfulness(np.asarray(cv2.absdiff(before, after), np.uint8))[0].astype(np.float32) * ink
    share = cv2.boxFilter(ink.astype(np.float32), -1, (side, side))
    changed = cv2.boxFilter(change, -1, (side, side)) / np.maximum(share, 1e-3)
    grey = brightness_and_colorfulness(before)[0].astype(np.float32)
    mean = cv2.boxFilter(grey, -1, (side, side))
    spread = np.sqrt(np.maximum(cv2.boxFilter(grey * grey, -1, (side, side)) - mean * mean, 0))
    return np.asarray((share > 0) & (changed < np.maximum(least, spreads * spread)), dtype=np.bool_)


def _strokes(
    text: str, font_name: str, size: int, direction: str, outline: int, random: Random
) -> tuple[Pixels, Pixels]:
    """How much of each pixel the letters cover, and the letters with an outline of that many px, both with a margin."""
    lines = list(text) if direction == "stacked" else [text]
    face = font(font_name, size)
    mode = "L" if random.random() < 0.75 else "1"
    boxes = [face.getbbox(line or " ") for line in lines]
    margin, step = outline + 3, max(int(box[3]) for box in boxes) + 1
    canvas = (max(int(box[2]) for box in boxes) + 2 * margin, step * len(lines) + 2 * margin)

    def drawn(width: int) -> Pixels:
        image = Image.new("L", canvas)
        draw = ImageDraw.Draw(image)
        draw.fontmode = mode
        for number, line in enumerate(lines):
            draw.text((margin, margin + number * step), line, fill=255, font=face, stroke_width=width)
        return np.array(image)

    letters = drawn(0)
    if font_name == "bitmap":
        if size > 16:
            letters = letters.repeat(2, axis=0).repeat(2, axis=1)
        around = np.asarray(cv2.dilate(letters, np.ones((2 * outline + 1,) * 2, np.uint8)), np.uint8)
    else:
        around = drawn(outline) if outline else letters
    turns = {"up": 1, "down": 3}.get(direction, 0)
    return np.rot90(letters, turns), np.rot90(around, turns)


def _paint(
    window: Pixels, stroke: Pixels, halo: Pixels, color: tuple[int, int, int], style: str, random: Random
) -> None:
    """Blend the letters, and what a style puts behind them, into ``window``, in place."""
    alpha = 1.0 if random.random() < 0.75 else float(random.uniform(0.4, 1.0))
    result: npt.NDArray[Any] = window.astype(np.float32)
    ink = np.array(color, np.float32)
    if style == "outline":
        result *= 1 - alpha * halo[..., None].astype(np.float32) / 255
    elif style == "box":
        back = np.array([random.integers(0, 70)] * 3 if random.random() < 0.7 else random.integers(0, 110, 3))
        opacity = float(random.choice([1.0, random.uniform(0.4, 1.0)]))
        result = result * (1 - opacity) + back * opacity
    elif style == "dark_on_light":
        result[:] = random.integers(150, 256)
        ink = np.array([random.integers(0, 60)] * 3, np.float32)
    share = alpha * stroke[..., None].astype(np.float32) / 255
    result = result * (1 - share) + ink * share
    if random.random() < 0.12:
        result = _interlaced(result, random)
    elif random.random() < 0.15:
        result = cv2.GaussianBlur(result, (0, 0), float(random.uniform(0.4, 0.9)))
    window[:] = np.clip(np.rint(result), 0, 255).astype(np.uint8)


def _interlaced(image: npt.NDArray[Any], random: Random) -> npt.NDArray[Any]:
    """Every second line moved sideways, or both fields averaged, as digitized video shows it."""
    if random.random() < 0.5:
        image[1::2] = np.roll(image[1::2], 1, axis=1)
        return image
    return np.asarray(cv2.blur(image, (1, 3)), np.float32)


def _filled(ink: Mask, size: int) -> Mask:
    """The ink with the gaps within and between its letters, and 2 px around."""
    gap = max(5, round(0.7 * size)) | 1
    padded = cv2.copyMakeBorder(ink.view(np.uint8), gap, gap, gap, gap, cv2.BORDER_CONSTANT)
    closed = cv2.morphologyEx(padded, cv2.MORPH_CLOSE, np.ones((gap, gap), np.uint8))
    grown = cv2.dilate(closed, np.ones((5, 5), np.uint8))
    return np.asarray(grown[gap:-gap, gap:-gap], dtype=np.bool_)

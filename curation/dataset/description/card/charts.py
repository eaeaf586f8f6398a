"""Charts of a card as PNG files: the Hub shows no SVG of a repository."""

from __future__ import annotations

import io
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

from .content import Count

_SCALE = 2  # for screens of high density
_WIDTH, _ROW, _LABEL, _VALUE = 640, 22, 220, 60
_HEIGHT, _AXIS = 180, 24
_BAR, _TEXT, _RULE, _PAPER = "#2f6f8f", "#24292f", "#d0d7de", "#ffffff"
_MAX_BARS = 20


def bars(counts: Sequence[Count]) -> bytes:
    """Horizontal bars with their numbers of frames; what is beyond the first twenty is one bar."""
    shown = list(counts[:_MAX_BARS])
    rest = counts[_MAX_BARS:]
    if rest:
        shown.append(Count(f"{len(rest)} others", sum(each.frames for each in rest), 0))
    image, draw = _canvas(_WIDTH, _ROW * len(shown) + 8)
    longest = max(each.frames for each in shown)
    room = _WIDTH - _LABEL - _VALUE - 16
    for number, each in enumerate(shown):
        y = 4 + _ROW * number
        _text(draw, _LABEL - 8, y + _ROW / 2, _short(each.name), anchor="rm")
        length = max(1.0, room * each.frames / longest)
        draw.rectangle(_scaled(_LABEL, y + 4, _LABEL + length, y + _ROW - 4), fill=_BAR)
        _text(draw, _LABEL + length + 6, y + _ROW / 2, f"{each.frames:,}", anchor="lm")
    return _png(image)


def histogram(weeks: Sequence[Count]) -> bytes:
    """Columns of frames by completed week of gestation."""
    image, draw = _canvas(_WIDTH, _HEIGHT + _AXIS + 20)
    highest = max(each.frames for each in weeks)
    left, step = 48.0, (_WIDTH - 64) / len(weeks)
    for share in (0.5, 1.0):
        y = 12 + _HEIGHT * (1 - share)
        draw.line(_scaled(left, y, _WIDTH - 8, y), fill=_RULE, width=_SCALE)
        if highest * share == int(highest * share):
            _text(draw, left - 6, y, f"{int(highest * share):,}", anchor="rm")
    every = next(size for size in (1, 2, 5, 10, 50) if step * size >= 20 or size == 50)
    for number, each in enumerate(weeks):
        x = left + step * number
        top = 12 + _HEIGHT * (1 - each.frames / highest)
        if each.frames:
            draw.rectangle(_scaled(x + step * 0.08, top, x + step * 0.92, 12 + _HEIGHT), fill=_BAR)
        if int(each.name) % every == 0:
            _text(draw, x + step / 2, 12 + _HEIGHT + 12, each.name, anchor="mm")
    draw.line(_scaled(left, 12 + _HEIGHT, _WIDTH - 8, 12 + _HEIGHT), fill=_TEXT, width=_SCALE)
    return _png(image)


def _canvas(width: float, height: float) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    image = Image.new("RGB", (int(width * _SCALE), int(height * _SCALE)), _PAPER)
    return image, ImageDraw.Draw(image)


def _scaled(*values: float) -> list[float]:
    return [value * _SCALE for value in values]


def _text(draw: ImageDraw.ImageDraw, x: float, y: float, text: str, *, anchor: str) -> None:
    draw.text((x * _SCALE, y * _SCALE), text, fill=_TEXT, font=ImageFont.load_default(12 * _SCALE), anchor=anchor)


def _short(text: str) -> str:
    return text if len(text) <= 32 else f"{text[:31]}…"


def _png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.quantize(32).save(file, "PNG", optimize=True)
    return file.getvalue()

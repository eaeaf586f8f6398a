"""A scanner's screen: ultrasound, texts, rulers and calipers are drawn on it.

Two made-up vendors lay their screens out differently. Every string is noted with its box, so that detection and
removal of burned-in text can be measured.
"""

from __future__ import annotations

import functools
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from .sector import Box, Floats, Sector

Pixels = npt.NDArray[np.uint8]
Color = tuple[int, int, int]

IDENTITY = ("patient_name", "patient_id", "birth_date", "hospital", "exam_date")
"""Kinds of text that say who was examined, where and when. All other kinds are about the machine."""


@dataclass(frozen=True)
class TextBox:
    """A string on a screen.

    Attributes:
        kind: one of ``IDENTITY``, or ``setting``, ``ruler``, ``measurement``, ``label``.
        box: x, y, width, height in px of the screen, tight around the ink.
    """

    text: str
    kind: str
    box: Box


@dataclass(frozen=True)
class Place:
    """Where a layout puts one kind of text: upper left corner and size in px."""

    x: int
    y: int
    size: int


@dataclass(frozen=True)
class Layout:
    """A vendor's screen.

    Attributes:
        area: the box that the ultrasound is fitted into.
        bars: boxes filled with a flat colour.
        places: by kind of text; ``setting`` is the first of a column.
        ruler: side of the sector with the depth ruler.
        ink: colour of the text; ``accent`` of calipers and measurements.
    """

    width: int
    height: int
    area: Box
    bars: Sequence[tuple[Box, Color]]
    places: Mapping[str, Place]
    ruler: str
    ink: Color
    accent: Color


LAYOUTS: Mapping[str, Layout] = {
    "north": Layout(
        width=1024,
        height=768,
        area=(48, 76, 752, 640),
        bars=(((0, 0, 1024, 58), (22, 30, 44)), ((0, 738, 1024, 30), (22, 30, 44))),
        places={
            "hospital": Place(14, 6, 19),
            "patient_name": Place(14, 31, 19),
            "patient_id": Place(430, 31, 18),
            "birth_date": Place(430, 6, 18),
            "exam_date": Place(790, 6, 18),
            "setting": Place(862, 96, 16),
            "measurement": Place(858, 600, 17),
            "label": Place(60, 84, 18),
        },
        ruler="right",
        ink=(214, 222, 230),
        accent=(250, 220, 60),
    ),
    "south": Layout(
        width=960,
        height=720,
        area=(196, 66, 700, 560),
        bars=(((0, 640, 960, 2), (90, 90, 90)),),
        places={
            "hospital": Place(200, 12, 18),
            "exam_date": Place(730, 12, 17),
            "patient_name": Place(14, 654, 19),
            "patient_id": Place(14, 684, 17),
            "birth_date": Place(330, 684, 17),
            "setting": Place(14, 84, 15),
            "measurement": Place(620, 652, 16),
            "label": Place(14, 560, 17),
        },
        ruler="left",
        ink=(200, 200, 200),
        accent=(235, 235, 235),
    ),
}


class Screen:
    """A screen being drawn. ``pixels`` is [height, width, 3], or [height, width] if it is grey."""

    def __init__(self, layout: Layout, colored: bool) -> None:
        self.layout, self.colored = layout, colored
        self.texts: list[TextBox] = []
        self._image = Image.new("RGB" if colored else "L", (layout.width, layout.height))
        self._draw = ImageDraw.Draw(self._image)
        for (x, y, width, height), color in layout.bars:
            self._draw.rectangle((x, y, x + width - 1, y + height - 1), fill=self._color(color))

    @property
    def pixels(self) -> Pixels:
        return np.array(self._image)

    def paste(self, image: Pixels, sector_box: Box, mask: npt.NDArray[np.bool_] | None = None) -> None:
        """Put ultrasound, grey or RGB and as large as its box, on the screen, only where ``mask`` is set if given."""
        grey = image.ndim == 2
        source = Image.fromarray(image)
        if self.colored and grey:
            source = source.convert("RGB")
        self._image.paste(source, sector_box[:2], None if mask is None else Image.fromarray(mask))

    def text(self, kind: str, text: str, x: float, y: float, size: int, color: Color | None = None) -> None:
        # The font has no letters with accents; scanners omit accents, too.
        text = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
        font = _font(size)
        left, top, right, bottom = self._draw.textbbox((x, y), text, font=font)
        self._draw.text((x, y), text, font=font, fill=self._color(color or self.layout.ink))
        x0, y0 = int(left), int(top)
        self.texts.append(TextBox(text, kind, (x0, y0, int(np.ceil(right)) - x0, int(np.ceil(bottom)) - y0)))

    def at_place(self, kind: str, lines: Sequence[str], color: Color | None = None) -> None:
        """Write lines of one kind of text, one below another, where the layout has them."""
        place = self.layout.places[kind]
        for number, line in enumerate(lines):
            self.text(kind, line, place.x, place.y + number * round(1.5 * place.size), place.size, color)

    def ruler(self, sector: Sector) -> None:
        """Draw a tick at every centimetre of depth, and a number at every fifth."""
        left, _, width, _ = sector.box
        right = self.layout.ruler == "right"
        x = left + width + 6 if right else left - 8
        start = sector.apex[1] + sector.near
        for centimetre in range(round(sector.depth_mm / 10) + 1):
            y = start + centimetre * 10 / sector.mm_per_px
            long = 9 if centimetre % 5 == 0 else 5
            self._draw.line((x, y, x + long if right else x - long, y), fill=self._color(self.layout.ink))
            if centimetre % 5 == 0 and centimetre:
                self.text("ruler", str(centimetre), x + 12 if right else x - 30, y - 8, 14)

    def marker(self, sector: Sector) -> None:
        """Draw the vendor's mark at the sector's corner, on the side of the probe's notch."""
        x, y = sector.box[0] + sector.box[2] * 0.16, sector.box[1] + 4
        self._draw.ellipse((x - 6, y - 6, x + 6, y + 6), outline=self._color(self.layout.accent), width=2)

    def caliper(self, points: Floats) -> None:
        """Draw crosses at both ends of a measured distance, and dots between: ``points`` [2, 2], px of the screen."""
        color = self._color(self.layout.accent)
        for x, y in points:
            self._draw.line((x - 6, y, x + 6, y), fill=color)
            self._draw.line((x, y - 6, x, y + 6), fill=color)
        steps = max(int(np.hypot(*(points[1] - points[0])) / 8), 2)
        for x, y in np.linspace(points[0], points[1], steps):
            self._draw.point((x, y), fill=color)

    def dotted(self, outline: Floats) -> None:
        """Draw dots along a measured outline: ``outline`` [points, 2], px of the screen."""
        color = self._color(self.layout.accent)
        for x, y in outline:
            self._draw.rectangle((x - 1, y - 1, x, y), fill=color)

    def frame(self, box: Box, color: Color) -> None:
        x, y, width, height = box
        self._draw.rectangle((x, y, x + width - 1, y + height - 1), outline=self._color(color), width=2)

    def _color(self, color: Color) -> Color | int:
        return color if self.colored else round(0.299 * color[0] + 0.587 * color[1] + 0.114 * color[2])


@functools.lru_cache(maxsize=16)
def _font(size: int) -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    # This font ships with Pillow, so text is the same on every machine.
    return ImageFont.load_default(size)

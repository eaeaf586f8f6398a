"""A scanner's screen: ultrasound, texts, rulers and marks are drawn on it.

Two made-up vendors lay their screens out differently. Every string and mark is noted with its box, so that detection
and removal can be measured.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from sono.curation.phantom.scripts import script_of, without_accents

from .fonts import PILLOW, font_for, load_font
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
        angle: degrees counterclockwise: 0, or 90 and 270 for text that runs up and down.
        inside: part of it is written over ultrasound.
    """

    text: str
    kind: str
    box: Box
    angle: int = 0
    inside: bool = False

    @property
    def script(self) -> str:
        return script_of(self.text)


MEASUREMENT_MARKS = ("cross", "caliper_line", "outline")
"""Kinds of marks that somebody placed to measure. All other kinds are the machine's."""


@dataclass(frozen=True)
class Mark:
    """Something drawn over the ultrasound that is neither text nor ultrasound.

    Attributes:
        kind: one of ``MEASUREMENT_MARKS``, or ``probe_marker``, ``flow_frame``, ``beam_line``, ``gate``.
        box: x, y, width, height in px of the screen, around the ink.
        inside: part of it is drawn over ultrasound.
    """

    kind: str
    box: Box
    inside: bool = False


@dataclass(frozen=True)
class Ink:
    """How a text is written.

    Attributes:
        font: one of ``fonts.FONTS``, ``size`` in px.
        angle: as in ``TextBox``.
        backing: ``none``, ``outline`` (a dark rim around every letter) or ``box`` (a black rectangle behind the text).
    """

    font: str
    size: int
    color: Color
    angle: int = 0
    backing: str = "none"


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
        trace: where M-mode and spectral traces are: ``below`` or ``beside`` the sector.
        wedge: box of the scale of grey levels, and of the scale of velocities beside it; None for no scales.
    """

    width: int
    height: int
    area: Box
    bars: Sequence[tuple[Box, Color]]
    places: Mapping[str, Place]
    ruler: str
    ink: Color
    accent: Color
    trace: str = "below"
    wedge: Box | None = None


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
    """A screen being drawn. ``pixels`` is [height, width, 3], or [height, width] if it is grey.

    ``tint`` has the shares of red, green and blue of white echoes on a screen in colour.
    """

    def __init__(self, layout: Layout, colored: bool, tint: tuple[float, float, float] | None = None) -> None:
        self.layout, self.colored, self.tint = layout, colored, tint
        self.texts: list[TextBox] = []
        self.marks: list[Mark] = []
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

    def tinted(self, grey: Pixels) -> Pixels:
        """Echoes in the screen's colour: RGB, or as they are on a screen without a tint."""
        if self.tint is None or not self.colored:
            return grey
        return np.asarray(np.rint(grey[:, :, None] * np.array(self.tint)), dtype=np.uint8)

    def text(self, kind: str, text: str, x: float, y: float, size: int, color: Color | None = None) -> None:
        """Write a line in the screen's own font, its upper left corner at (x, y)."""
        name = font_for(text)
        if name == PILLOW:  # which has no letters with accents; scanners omit accents, too
            text = without_accents(text)
        font = load_font(name, size)
        left, top, right, bottom = self._draw.textbbox((x, y), text, font=font)
        self._draw.text((x, y), text, font=font, fill=self._color(color or self.layout.ink))
        x0, y0 = int(left), int(top)
        x1, y1 = min(int(np.ceil(right)), self.layout.width), min(int(np.ceil(bottom)), self.layout.height)
        if x1 > x0 and y1 > y0:  # the screen's edge may cut it
            self.texts.append(TextBox(text, kind, (x0, y0, x1 - x0, y1 - y0)))

    def at_place(self, kind: str, lines: Sequence[str], color: Color | None = None) -> None:
        """Write lines of one kind of text, one below another, where the layout has them."""
        place = self.layout.places[kind]
        for number, line in enumerate(lines):
            self.text(kind, line, place.x, place.y + number * round(1.5 * place.size), place.size, color)

    def stamp(self, kind: str, text: str, x: int, y: int, ink: Ink) -> None:
        """Write a line in any font, colour and direction, the upper left corner of its ink at (x, y)."""
        letters = letter_mask(text, ink)
        turned = np.rot90(letters, ink.angle // 90)
        height, width = turned.shape
        box = (x, y, width, height)
        if ink.backing == "box":
            self._draw.rectangle((x - 2, y - 2, x + width + 1, y + height + 1), fill=self._color((0, 0, 0)))
        if ink.backing == "outline":
            rim = Image.fromarray(turned)
            for dx, dy in ((-1, 0), (1, 0), (0, -1), (0, 1)):
                self._image.paste(self._color((0, 0, 0)), (x + dx, y + dy), rim)
        self._image.paste(self._color(ink.color), (x, y), Image.fromarray(turned))
        self.texts.append(TextBox(text, kind, box, ink.angle))

    def ruler(self, sector: Sector) -> None:
        """Draw a tick at every centimetre of depth, and a number at every fifth."""
        left, top, width, height = sector.box
        right = self.layout.ruler == "right"
        x = left + width + 6 if right else left - 8
        start = sector.apex[1] + sector.near
        for centimetre in range(round(sector.depth_mm / 10) + 1):
            y = start + centimetre * 10 / sector.mm_per_px
            if not top - 1 <= y <= top + height + 1:
                continue  # the screen cuts the sector
            long = 9 if centimetre % 5 == 0 else 5
            self._draw.line((x, y, x + long if right else x - long, y), fill=self._color(self.layout.ink))
            if centimetre % 5 == 0 and centimetre:
                self.text("ruler", str(centimetre), x + 12 if right else x - 30, y - 8, 14)

    def marker(self, sector: Sector) -> None:
        """Draw the vendor's mark at the sector's corner, on the side of the probe's notch."""
        x, y = sector.box[0] + sector.box[2] * 0.16, sector.box[1] + 4
        self._draw.ellipse((x - 6, y - 6, x + 6, y + 6), outline=self._color(self.layout.accent), width=2)
        self.mark("probe_marker", np.array([[x - 6, y - 6], [x + 6, y + 6]]))

    def wedge(self, box: Box, *, with_flow: bool) -> None:
        """Draw the scale of grey levels, and left of it the colours of flow towards the probe and away from it."""
        x, y, width, height = box
        level = np.linspace(255, 0, height)[:, None].repeat(width, axis=1)
        self.paste(level.astype(np.uint8), box)
        if with_flow:
            speed = np.linspace(1, -1, height)[:, None].repeat(width, axis=1)
            colors = np.stack([255 * np.maximum(speed, 0), 0 * speed, 255 * np.maximum(-speed, 0)], axis=2)
            self.paste(colors.astype(np.uint8), (x - width - 6, y, width, height))

    def line(self, points: Floats, color: Color, width: int = 1) -> None:
        """Draw a line through points, [points, 2] in px of the screen."""
        self._draw.line([(x, y) for x, y in points], fill=self._color(color), width=width)

    def dots(self, points: Floats, color: Color, size: int = 1) -> None:
        """Draw a square of ``size`` px at each of the points, [points, 2]."""
        for x, y in points:
            if size == 1:
                self._draw.point((x, y), fill=self._color(color))
            else:
                self._draw.rectangle((x - 1, y - 1, x + size - 2, y + size - 2), fill=self._color(color))

    def frame(self, box: Box, color: Color, width: int = 2) -> None:
        x, y, across, down = box
        self._draw.rectangle((x, y, x + across - 1, y + down - 1), outline=self._color(color), width=width)

    def mark(self, kind: str, points: Floats) -> None:
        """Note a mark that was drawn on these points, [points, 2], with a pixel around them for its width."""
        size = (self.layout.width, self.layout.height)
        low = np.clip(np.floor(points.min(axis=0)) - 1, 0, size).astype(int)
        high = np.clip(np.ceil(points.max(axis=0)) + 2, 0, size).astype(int)
        self.marks.append(Mark(kind, (int(low[0]), int(low[1]), int(high[0] - low[0]), int(high[1] - low[1]))))

    def _color(self, color: Color) -> Color | int:
        return color if self.colored else round(0.299 * color[0] + 0.587 * color[1] + 0.114 * color[2])


def letter_mask(text: str, ink: Ink) -> Pixels:
    """How much ink each pixel of a line gets, 0 to 255, cut to the ink and not yet turned: [height, width]."""
    font = load_font(ink.font, ink.size)
    left, top, right, bottom = font.getbbox(text)
    width, height = int(np.ceil(right - left)) + 4, int(np.ceil(bottom - top)) + 4
    image = Image.new("L", (width, height))
    ImageDraw.Draw(image).text((2 - left, 2 - top), text, font=font, fill=255)
    cut = image.getbbox() or (0, 0, 1, 1)
    return np.array(image.crop(cut))

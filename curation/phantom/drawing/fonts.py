"""The fonts that screens are written in: Pillow's own, and DejaVu where letters are not Latin.

DejaVu's files in typefaces/ are subsets, so that text is the same on every machine. Each was made by ::

    python -m fontTools.subset DejaVuSans.ttf --no-hinting --layout-features='' --no-recalc-timestamp
        --unicodes=U+20-7E,U+A0-17F,U+386-3CE,U+400-45F,U+2013,U+2014,U+2116
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path

from PIL import ImageFont

from sono.curation.phantom.scripts import script_of

Font = ImageFont.ImageFont | ImageFont.FreeTypeFont

PILLOW = "pillow"
_FILES: Mapping[str, str] = {
    "sans": "DejaVuSans.ttf",
    "bold": "DejaVuSans-Bold.ttf",
    "mono": "DejaVuSansMono.ttf",
}
FONTS = (PILLOW, *_FILES)
"""Pillow's has letters of ASCII only, the others Latin with accents, Greek and Cyrillic."""


@functools.lru_cache(maxsize=64)
def load_font(name: str, size: int) -> Font:
    """A font of ``FONTS`` of that size in px."""
    if name == PILLOW:
        return ImageFont.load_default(size)
    # without shaping by raqm, which is not on every machine
    file = Path(__file__).parent / "typefaces" / _FILES[name]
    return ImageFont.truetype(file, size, layout_engine=ImageFont.Layout.BASIC)


def font_for(text: str) -> str:
    """The font that a scanner's screen shows the text in."""
    return PILLOW if script_of(text) == "latin" else "sans"

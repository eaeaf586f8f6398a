"""Fonts that strings are drawn with: those the detector is trained on, and those that only its test uses."""

from __future__ import annotations

import functools
from pathlib import Path

from PIL import ImageFont

from sono.manifests.errors import UserError

FOLDER = Path("/usr/share/fonts")
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

_DEJAVU = "truetype/dejavu/DejaVu"
_URW = "opentype/urw-base35/"
_LIBERATION = "truetype/liberation/Liberation"

TRAINED = (
    *(f"{_DEJAVU}Sans{style}.ttf" for style in ("", "-Bold", "-Oblique", "-ExtraLight", "Condensed", "Condensed-Bold")),
    *(f"{_DEJAVU}SansMono{style}.ttf" for style in ("", "-Bold")),
    *(f"{_DEJAVU}Serif{style}.ttf" for style in ("", "-Bold", "Condensed-Italic")),
    *(f"{_URW}NimbusSans{style}.otf" for style in ("-Regular", "-Bold", "Narrow-Regular", "Narrow-Bold")),
    *(f"{_URW}{name}.otf" for name in ("NimbusMonoPS-Regular", "NimbusMonoPS-Bold", "NimbusRoman-Regular")),
    *(
        f"{_URW}{name}.otf"
        for name in ("URWGothic-Book", "URWGothic-Demi", "URWBookman-Light", "P052-Roman", "C059-Bold")
    ),
    "bitmap",
)
"""Of the Debian packages fonts-dejavu-core, fonts-dejavu-extra and fonts-urw-base35; ``bitmap`` is Pillow's."""

HELD_OUT = (
    *(f"{_LIBERATION}Sans{style}.ttf" for style in ("-Regular", "-Bold", "Narrow-Regular")),
    *(f"{_LIBERATION}{name}.ttf" for name in ("Mono-Regular", "Serif-Regular", "Serif-BoldItalic")),
    "truetype/noto/NotoSansMono-Regular.ttf",
)
"""Never trained on; of fonts-liberation and fonts-noto-mono. Another is Pillow's outlined font, which phantoms use."""

CHINESE = ("truetype/droid/DroidSansFallbackFull.ttf",)
"""Trained on; of fonts-droid-fallback. Japanese and Korean letters are in it, too."""


PACKAGES = "fonts-dejavu fonts-urw-base35 fonts-droid-fallback fonts-liberation fonts-noto-mono"


@functools.lru_cache(maxsize=1024)
def font(name: str, size: int) -> Font:
    """One of the fonts above, or ``pillow``, in px; the bitmap font has one size.

    Raises:
        UserError: the machine lacks it.
    """
    if name == "bitmap":
        return ImageFont.load_default_imagefont()
    if name == "pillow":
        return ImageFont.load_default(size)
    try:
        return ImageFont.truetype(FOLDER / name, size)
    except OSError as error:
        raise UserError(
            f"no font {Path(name).name} below {FOLDER}",
            fix=f"run: apt-get install {PACKAGES}",
        ) from error

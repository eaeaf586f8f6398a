"""Small pictures of frames for pages."""

from __future__ import annotations

import base64
import io

from PIL import Image, UnidentifiedImageError

THUMBNAIL_PX = 128
"""Of the longer side: so small that a line of burned-in text cannot be read."""


def thumbnail(png: bytes) -> str:
    """A frame as base64 of a PNG, reduced to ``THUMBNAIL_PX`` but never enlarged; black where it cannot be decoded."""
    try:
        image: Image.Image = Image.open(io.BytesIO(png))
        image.load()
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError):
        image = Image.new("L", (THUMBNAIL_PX, THUMBNAIL_PX))
    return encode(reduced(image))


def reduced(image: Image.Image) -> Image.Image:
    """The image with its longer side at most ``THUMBNAIL_PX``, each pixel the mean of those it stands for."""
    return image.resize(reduced_size(image), Image.Resampling.BOX)


def reduced_size(image: Image.Image) -> tuple[int, int]:
    """Width and height (px) of an image's thumbnail."""
    scale = min(1.0, THUMBNAIL_PX / max(image.size))
    return max(1, round(image.width * scale)), max(1, round(image.height * scale))


def encode(image: Image.Image) -> str:
    """Base64 of the image as PNG, as ``data:`` addresses in pages hold it."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode("ascii")

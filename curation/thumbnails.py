"""Small pictures of frames for pages."""

from __future__ import annotations

import base64

import cv2
import numpy as np

from .pixels import ExcludedError, Pixels, decode_png

THUMBNAIL_PX = 128
"""Of the longer side: so small that a line of burned-in text cannot be read."""


def thumbnail(png: bytes) -> str:
    """A frame as base64 of a PNG, reduced to ``THUMBNAIL_PX`` but never enlarged; black where it cannot be decoded."""
    try:
        pixels = decode_png(png)
    except ExcludedError:
        pixels = np.zeros((THUMBNAIL_PX, THUMBNAIL_PX), np.uint8)
    scale = min(1.0, THUMBNAIL_PX / max(pixels.shape[:2]))
    size = max(1, round(pixels.shape[1] * scale)), max(1, round(pixels.shape[0] * scale))
    small: Pixels = np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
    done, encoded = cv2.imencode(".png", small if small.ndim == 2 else cv2.cvtColor(small, cv2.COLOR_RGB2BGR))
    assert done
    return base64.b64encode(encoded.tobytes()).decode("ascii")

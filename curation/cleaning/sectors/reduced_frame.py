"""A frame at reduced size: which of its small pixels are solid ultrasound texture."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from sono.curation.images.pixels import Mask, Pixels

Floats = npt.NDArray[np.float32]

LONG_SIDE = 340
"""px of the reduced frame, about; the factor between both is a whole number."""

LIT_ABOVE = 3  # grey levels above the background; the noise of JPEG compression stays below
_TEXTURE_RANGE = 2  # grey levels between the darkest and the brightest of neighbouring pixels; less is a drawn area
_WHITE = 250  # grey level at which echoes saturate, and have no texture
_SOLID_SHARE = 0.55  # of the pixels of a window that are lit: text and rulers have less
_WINDOW, _THINNEST = 5, 3  # reduced px


@dataclass(frozen=True)
class ReducedFrame:
    """A frame's pixels, and what they look like at ``1 / factor`` of their size.

    Attributes:
        pixels: as decoded, [height, width] or [height, width, 3].
        brightest: the brightest channel of ``pixels``, [height, width].
        background: grey level of the empty screen.
        factor: full px per reduced px.
        lit: [height / 2, width / 2], 255 where every second pixel is brighter than the background.
        small: grey levels reduced by averaging; of colours the brightest channel, so that pure blue counts as bright.
        share: share of pixels that are lit and textured, from 0 to 1, by reduced px.
        solid: reduced px in windows that are mostly lit and textured, without anything thinner than a window.
        faint: likewise for everything that is brighter than the background at all, textured or not: a scanner's black
            may be brighter than the empty screen.
    """

    pixels: Pixels
    brightest: Pixels
    background: int
    factor: int
    lit: Pixels
    small: Pixels
    share: Floats
    solid: Mask
    faint: Mask

    @property
    def size(self) -> tuple[int, int]:
        """Height and width at full size, in px."""
        height, width = self.pixels.shape[:2]
        return height, width


def reduce_frame(pixels: Pixels) -> ReducedFrame:
    """Reduce a frame of shape [height, width] or [height, width, 3]; about 2 ms for 1024 x 768 px."""
    pixels = np.ascontiguousarray(pixels)
    height, width = pixels.shape[:2]
    factor = max(round(max(height, width) / LONG_SIDE), 1)
    size = max(width // factor, 1), max(height // factor, 1)
    brightest = brightest_channel(pixels)
    half = np.ascontiguousarray(brightest[::2, ::2])  # enough for shares of areas, at a quarter of the cost
    background = _background(half)
    textured = cv2.morphologyEx(half, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8))
    lit = _above(half, background + LIT_ABOVE)
    textured_or_white = cv2.max(_above(np.asarray(textured, np.uint8), _TEXTURE_RANGE - 1), _above(half, _WHITE - 1))
    share = _reduced(cv2.bitwise_and(lit, textured_or_white), size)
    return ReducedFrame(
        pixels=pixels,
        brightest=brightest,
        background=background,
        factor=factor,
        lit=lit,
        small=_reduced(half, size),
        share=share.astype(np.float32) * np.float32(1 / 255),
        solid=_solid(share),
        faint=_solid(_reduced(_above(half, background), size)),
    )


def brightest_channel(pixels: Pixels) -> Pixels:
    """[height, width]: a colour image's brightest channel by pixel."""
    if pixels.ndim == 2:
        return np.ascontiguousarray(pixels)
    red, green, blue = cv2.split(pixels)
    return np.asarray(cv2.max(cv2.max(red, green), blue), np.uint8)


def _above(grey: Pixels, level: int) -> Pixels:
    """255 where a grey level is above ``level``."""
    return np.asarray(cv2.threshold(grey, level, 255, cv2.THRESH_BINARY)[1], np.uint8)


def _reduced(image: npt.ArrayLike, size: tuple[int, int]) -> Pixels:
    """Width and height of ``size``; at a factor of about 1.5 linear interpolation averages as well as areas do."""
    return np.asarray(cv2.resize(np.asarray(image, np.uint8), size, interpolation=cv2.INTER_LINEAR), np.uint8)


def _background(grey: Pixels) -> int:
    """The most frequent of the dark levels."""
    counts = cv2.calcHist([grey], [0], None, [256], [0, 256]).ravel()
    return int(counts[:64].argmax())


def _solid(share: Pixels) -> Mask:
    window = cv2.blur(share, (_WINDOW, _WINDOW), borderType=cv2.BORDER_REPLICATE)
    solid = cv2.threshold(window, 255 * _SOLID_SHARE, 255, cv2.THRESH_BINARY)[1]
    opened = cv2.morphologyEx(solid, cv2.MORPH_OPEN, np.ones((_THINNEST, _THINNEST), np.uint8))
    return np.asarray(opened > 0)

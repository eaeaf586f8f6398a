"""Decoded pixels: their type, and the error that says why there are none."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]
"""Shape [height, width] (grey) or [height, width, 3] (RGB), 8 bit."""

Mask = npt.NDArray[np.bool_]
"""Shape [height, width]."""

Box = tuple[int, int, int, int]
"""x, y, width, height in px."""


_EVERY = 16  # of the rows, in which most images with colours show some


class ExcludedError(Exception):
    """A source, or one frame of it, is left out. ``message`` is a fixed text that quotes nothing from the source.

    A new one is raised each time: the traceback of one that is kept would hold every frame that it was raised for.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(reason)
        self.reason, self.message = reason, message


def without_equal_channels(pixels: Pixels) -> Pixels:
    """A colour image whose three channels are equal everywhere, as one channel; any other image unchanged."""
    if pixels.ndim == 3 and np.array_equal(pixels[::_EVERY, :, 0], pixels[::_EVERY, :, 2]):
        import cv2  # here, because most need only the types above

        first, second, third = cv2.split(pixels)  # numpy takes three times as long over an axis of three
        if np.array_equal(first, second) and np.array_equal(first, third):
            return np.asarray(first, np.uint8)
    return pixels

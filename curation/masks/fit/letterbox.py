"""Frames as the network sees them: grey, scaled into a square without changing their proportions, and back."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from sono.curation.images.pixels import Pixels

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Letterbox:
    """Where a frame lies in the square. Frames are cropped to their sectors already, and black outside of them."""

    height: int
    width: int
    size_px: int

    @property
    def scaled(self) -> tuple[int, int]:
        """Width and height of the frame in the square, in px."""
        scale = self.size_px / max(self.height, self.width)
        return max(1, round(scale * self.width)), max(1, round(scale * self.height))

    @property
    def corner(self) -> tuple[int, int]:
        """x and y of the frame's upper left corner in the square, in px."""
        width, height = self.scaled
        return (self.size_px - width) // 2, (self.size_px - height) // 2

    def fit(self, pixels: Pixels) -> Pixels:
        """A grey frame in the square, black around it; shape [height, width] in, [size_px, size_px] out.

        Given a mask as 0 and 255, the result is the share of each pixel that it covers, times 255.
        """
        width, height = self.scaled
        smaller = width < self.width
        scaled = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA if smaller else cv2.INTER_LINEAR)
        square = np.zeros((self.size_px, self.size_px), np.uint8)
        x, y = self.corner
        square[y : y + height, x : x + width] = scaled
        return square

    def unfit(self, values: Floats) -> Floats:
        """Values of the square's pixels at the frame's own; shape [size_px, size_px] in, [height, width] out."""
        (x, y), (width, height) = self.corner, self.scaled
        inside = np.ascontiguousarray(values[y : y + height, x : x + width], dtype=np.float32)
        restored = cv2.resize(inside, (self.width, self.height), interpolation=cv2.INTER_LINEAR)
        return np.asarray(restored, dtype=np.float32)


def grey(pixels: Pixels) -> Pixels:
    """The brightness of a frame, of shape [height, width]."""
    return pixels if pixels.ndim == 2 else np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), dtype=np.uint8)

"""Statistics of a frame's pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from .pixels import Pixels


@dataclass(frozen=True)
class PixelStatistics:
    """What quality control needs to know about an image, computed while its pixels are in memory anyway.

    Decoding costs far more than anything done with the pixels afterwards. With these two a frame is decoded once, and
    other thresholds give new verdicts without reading an image again.

    Attributes:
        grey_histogram: number of pixels at each of the 256 grey levels.
        laplacian_energy: sum over pixels of the squared Laplacian (3x3), grey levels squared.
    """

    grey_histogram: list[int]
    laplacian_energy: float


def pixel_statistics(pixels: Pixels) -> PixelStatistics:
    """Statistics of an image; colour is converted to grey by the weights of ITU-R BT.601."""
    import cv2  # here, because quality control needs only the class above

    grey = pixels if pixels.ndim == 2 else cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    histogram = cv2.calcHist([grey], [0], None, [256], [0, 256]).ravel().astype(np.int64)
    energy = cv2.norm(cv2.Laplacian(grey, cv2.CV_16S), cv2.NORM_L2SQR)
    return PixelStatistics(histogram.tolist(), float(energy))

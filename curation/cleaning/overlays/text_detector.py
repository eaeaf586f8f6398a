"""Where text, and perhaps marks of measurements, are drawn over a frame, as a small convolutional network sees it.

It reads the brightest and the darkest channel and their strokes at full resolution and gives two probabilities for each
cell of 4 x 4 px. Of marks it is not sure: ``mark_detector`` looks again.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sono.curation.images.pixels import Pixels

from .networks import session
from .views import network_input

STRIDE = 4
"""px of a cell's side."""

GRANULARITY = 16
"""px: the network takes sizes that are multiples of it."""

LARGEST_PX = 4_000_000
"""px that the network is given at once; it takes 60 bytes of memory for each."""

SEEN_PX = 160
"""px around a cell that the network may look at, rounded up to ``GRANULARITY``."""


def probabilities(pixels: Pixels) -> npt.NDArray[np.float32]:
    """That each cell of 4 x 4 px shows text, and marks: [2, ceil(height / 4), ceil(width / 4)].

    Of large frames in bands, which saves gigabytes; cells see nothing beyond what is looked at around a band.
    """
    height, width = pixels.shape[:2]
    rows = max(LARGEST_PX // width, GRANULARITY) // GRANULARITY * GRANULARITY
    if height <= rows:
        return _seen(pixels)
    bands = []
    for top in range(0, height, rows):
        first = max(top - SEEN_PX, 0)
        found = _seen(np.ascontiguousarray(pixels[first : top + rows + SEEN_PX]))
        skipped = (top - first) // STRIDE
        bands.append(found[:, skipped : skipped + -(-min(rows, height - top) // STRIDE)])
    return np.concatenate(bands, axis=1)


def _seen(pixels: Pixels) -> npt.NDArray[np.float32]:
    height, width = pixels.shape[:2]
    grey = pixels.ndim == 2
    network = session("text_detector", grey=grey)
    (found,) = network.run(None, {"image": network_input(pixels, GRANULARITY, once=grey)[None]})
    return np.asarray(found[0, :, : -(-height // STRIDE), : -(-width // STRIDE)], np.float32)

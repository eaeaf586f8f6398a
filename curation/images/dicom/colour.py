"""Which colour space a frame's three planes are in: what the stream says, else the header, else the planes themselves.

The header's Photometric Interpretation is wrong in many files (it is copied from the uncompressed original, or never
corrected after a conversion), so a frame is checked wherever the stream says nothing.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from sono.curation.images.codestreams.stream import Colour
from sono.curation.images.pixels import Pixels

Space = Literal["rgb", "ycbcr"]

_NEAR = 12  # grey levels
_MOSTLY, _HARDLY = 0.6, 0.4  # shares of the pixels
_LABELS: dict[str, Space] = {"RGB": "rgb", "YBR_FULL": "ycbcr", "YBR_FULL_422": "ycbcr"}


def space_of(decoded: Pixels, stream: Colour, label: str) -> Space | None:
    """The space of a decoded colour frame, or None where neither stream, header nor pixels decide.

    Args:
        decoded: shape [height, width, 3], as the decoder gave it without any conversion.
        stream: what the codestream says of it.
        label: Photometric Interpretation.
    """
    if stream in ("rgb", "ycbcr"):
        return stream
    seen = _look(decoded)
    labelled = _LABELS.get(label)
    return seen if seen is not None else labelled


def _look(decoded: Pixels) -> Space | None:
    """Most of an ultrasound frame is grey: equal planes in RGB, chroma near 128 in YCbCr. None where both may be."""
    values = decoded[::2, ::2].astype(np.int16)
    first, second, third = values[..., 0], values[..., 1], values[..., 2]
    equal = float(((np.abs(first - second) <= _NEAR) & (np.abs(first - third) <= _NEAR)).mean())
    neutral = float(((np.abs(second - 128) <= _NEAR) & (np.abs(third - 128) <= _NEAR)).mean())
    if equal > _MOSTLY and neutral < _HARDLY:
        return "rgb"
    if neutral > _MOSTLY and equal < _HARDLY:
        return "ycbcr"
    return None

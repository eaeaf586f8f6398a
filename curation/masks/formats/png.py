"""Images of filled areas, in PNG or any other format that frames are read from."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from sono.curation.images import raster
from sono.curation.images.pixels import Pixels
from sono.curation.images.signatures import raster_kind
from sono.curation.masks.reasons import excluded
from sono.manifests import masks


def read_mask(path: Path) -> masks.Mask:
    """The drawn pixels of a mask image, as a boolean array of shape [height, width].

    Raises:
        ExcludedError: the file cannot be read, is not an image, or has more than two grey levels.
    """
    try:
        content = path.read_bytes()
    except OSError:
        raise excluded("unreadable") from None
    kind = raster_kind(content)
    if kind is None:
        raise excluded("not_an_image")
    pixels: Pixels = raster.read_frames(content, kind)[0]
    grey = pixels if pixels.ndim == 2 else pixels.max(axis=2)
    top = int(grey.max())
    if np.any((grey != 0) & (grey != top)):
        raise excluded("not_binary")
    return np.asarray(grey != 0, dtype=np.bool_)

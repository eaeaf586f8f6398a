"""Mask files: filled areas, and closed outlines to be filled."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from sono.curation.images import raster
from sono.curation.images.pixels import ExcludedError, Pixels
from sono.curation.images.signatures import raster_kind
from sono.manifests import masks

MESSAGES: Mapping[str, str] = {
    "no_frame": "no frame has the mask's name",
    "ambiguous_name": "several frames have the mask's bare name; lay the masks out in the same folders as the images",
    "frame_not_named": "the mask's image has several frames; name the mask NAME_f0.png, NAME_f1.png, ...",
    "second_mask": "another mask file is for the same frame and structure",
    "region_exists": "an earlier import from another folder holds this structure of the frame",
    "size_mismatch": "the mask has another size than its image; masks are never rotated or stretched to fit",
    "outline_not_closed": "the outline does not enclose an area",
    "outline_is_filled": "the drawing is a filled area, not an outline; import it with --format png",
    "empty_mask": "nothing is drawn in the mask",
    "not_binary": "the mask has more than two grey levels",
    "outside_crop": "the mask lies outside the part of the image that was kept",
}

_MAX_LINE_PX = 6  # an outline may be this thick
_MAX_LOOSE_FRACTION = 0.1  # of the line may lie away from the area


def fill_outline(outline: npt.NDArray[np.bool_]) -> masks.Mask:
    """The area that a drawn outline encloses, including the outline. Shape [height, width] in and out.

    Raises:
        ExcludedError: the drawing is a filled area, or the outline does not enclose an area.
    """
    # The background is filled over four neighbours, so it cannot slip through a line one pixel wide.
    walls = cv2.copyMakeBorder(outline.astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    cv2.floodFill(walls, None, (0, 0), 2, flags=4)
    outside = walls[1:-1, 1:-1] == 2
    inside = ~outside & ~outline
    thick = np.ones((2 * _MAX_LINE_PX + 3, 2 * _MAX_LINE_PX + 3), np.uint8)
    if cv2.erode(outline.astype(np.uint8), thick).any():
        raise ExcludedError("outline_is_filled", MESSAGES["outline_is_filled"])
    if not inside.any():
        raise ExcludedError("outline_not_closed", MESSAGES["outline_not_closed"])
    # A small loop on an open line encloses something, too, so nearly all of the line must border on the area.
    side = 2 * _MAX_LINE_PX + 1
    near = cv2.dilate(inside.astype(np.uint8), np.ones((side, side), np.uint8)).astype(bool)
    if np.count_nonzero(outline & ~near) > _MAX_LOOSE_FRACTION * np.count_nonzero(outline):
        raise ExcludedError("outline_not_closed", MESSAGES["outline_not_closed"])
    return np.asarray(~outside, dtype=np.bool_)


def read_mask(path: Path) -> masks.Mask:
    """The drawn pixels of a mask image, as a boolean array of shape [height, width].

    Raises:
        ExcludedError: the file cannot be read, is not an image, or has more than two grey levels.
    """
    try:
        content = path.read_bytes()
    except OSError:
        raise ExcludedError("unreadable", "the file cannot be read") from None
    kind = raster_kind(content)
    if kind is None:
        raise ExcludedError("not_an_image", "neither PNG, JPEG, TIFF nor BMP")
    pixels: Pixels = raster.read_frames(content, kind)[0]
    grey = pixels if pixels.ndim == 2 else pixels.max(axis=2)
    top = int(grey.max())
    if np.any((grey != 0) & (grey != top)):
        raise ExcludedError("not_binary", MESSAGES["not_binary"])
    return np.asarray(grey != 0, dtype=np.bool_)

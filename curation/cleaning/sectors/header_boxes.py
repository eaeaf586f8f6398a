"""What a header's regions say about sectors: boxes around them, which may be tight, generous or wrong."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from sono.curation.images.dicom.regions import Region
from sono.curation.images.pixels import Box, Mask

from .geometry import Sector

_FORMAT_2D, _FORMATS_OF_TRACES = 1, (2, 3)  # PS3.3 C.8.5.5.1.1
_VOUCHES = 0.02  # of the sector's longer side: so close are its box and the header's on all four sides
_OF_HEADER = 0.5  # of the header's boxes that the sectors' boxes fill, at least
_IN_HEADER = 0.97  # of a sector's box that lies in the header's


def header_boxes(regions: Sequence[Region]) -> list[Box]:
    """Boxes of the header that hold a sector, from left to right: of 2-D regions, without those within another."""
    boxes = sorted({region.box for region in regions if region.spatial_format == _FORMAT_2D})
    return [box for box in boxes if not any(other != box and _within(box, other) > _IN_HEADER for other in boxes)]


def trace_boxes(regions: Sequence[Region]) -> list[Box]:
    """Boxes of the header that hold a trace of M-mode or of spectral Doppler."""
    return [region.box for region in regions if region.spatial_format in _FORMATS_OF_TRACES]


def vouches(regions: Sequence[Region], sector: Sector) -> bool:
    """Whether a region's box fits the sector's box tightly: two sources that know nothing of each other agree."""
    reach = _VOUCHES * max(sector.box[2:])
    left, top, width, height = sector.box
    mine = left, top, left + width, top + height
    for x, y, across, down in header_boxes(regions):
        if all(abs(a - b) <= reach for a, b in zip(mine, (x, y, x + across, y + down), strict=True)):
            return True
    return False


def disagrees(regions: Sequence[Region], sectors: Sequence[Sector]) -> bool:
    """Whether a sector leaves the header's regions, or a region holds no sector."""
    boxes = header_boxes(regions)
    shown = sum(sector.box[2] * sector.box[3] for sector in sectors)
    if boxes and shown < _OF_HEADER * sum(box[2] * box[3] for box in boxes):
        return True
    return any(leaves_header(regions, sector) for sector in sectors) or any(
        all(_within(sector.box, box) < 0.5 for sector in sectors) for box in boxes
    )


def holds(box: Box, mask: Mask, size: tuple[int, int]) -> bool:
    """Whether most of a panel's texture, at reduced size, lies in a box of the header."""
    step_y, step_x = size[0] / mask.shape[0], size[1] / mask.shape[1]
    x, y, width, height = box
    rows = slice(int(y / step_y), math.ceil((y + height) / step_y))
    columns = slice(int(x / step_x), math.ceil((x + width) / step_x))
    return bool(np.count_nonzero(mask[rows, columns]) > 0.5 * np.count_nonzero(mask))


def leaves_header(regions: Sequence[Region], sector: Sector) -> bool:
    """Whether a sector is not in any region of a header that has regions."""
    boxes = header_boxes(regions)
    return bool(boxes) and max(_within(sector.box, box) for box in boxes) < _IN_HEADER


def _within(box: Box, other: Box) -> float:
    """Share of a box that lies in another."""
    width = min(box[0] + box[2], other[0] + other[2]) - max(box[0], other[0])
    height = min(box[1] + box[3], other[1] + other[3]) - max(box[1], other[1])
    return max(width, 0) * max(height, 0) / (box[2] * box[3])

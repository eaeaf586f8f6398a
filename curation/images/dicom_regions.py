"""The ultrasound regions of a DICOM image: where tissue is shown, in which mode, and how large a pixel is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pydicom.dataset import Dataset

# PS3.3 C.8.5.5.1.1 and C.8.5.5.1.2: Region Spatial Format and Region Data Type.
_FORMAT_2D, _FORMAT_M_MODE, _FORMAT_SPECTRAL = 1, 2, 3
_TYPE_TISSUE, _TYPE_COLOR_FLOW = 1, 2
_UNIT_CM = 3  # PS3.3 C.8.5.5.1.15

Box = tuple[int, int, int, int]
"""x, y, width, height in px."""


@dataclass(frozen=True)
class Region:
    """One item of the Sequence of Ultrasound Regions; ``pixel_mm`` is (x, y), None where the unit is not cm."""

    spatial_format: int
    data_type: int
    box: Box
    pixel_mm: tuple[float, float] | None


def read_regions(dataset: Dataset, height: int, width: int) -> list[Region]:
    """Sequence of Ultrasound Regions (PS3.3 C.8.5.5); empty if a box lies outside the image of height x width px.

    A box outside the image means that the image was scaled or cropped after the header was written. Then none of the
    boxes and none of the spacings can be trusted.
    """
    regions = []
    for item in dataset.get("SequenceOfUltrasoundRegions") or []:
        region = _region(item, height, width)
        if region is None:
            return []
        regions.append(region)
    return regions


def image_mode(regions: Sequence[Region]) -> str:
    """``spectral``, ``m_mode``, ``color_doppler``, ``dual``, ``b_mode`` or ``unknown``."""
    formats = {region.spatial_format for region in regions}
    tissue = _tissue(regions)
    if _FORMAT_SPECTRAL in formats:
        return "spectral"
    if _FORMAT_M_MODE in formats:
        return "m_mode"
    if any(region.data_type == _TYPE_COLOR_FLOW for region in tissue):
        return "color_doppler"
    if len(tissue) > 1:
        return "dual"
    return "b_mode" if tissue and tissue[0].data_type == _TYPE_TISSUE else "unknown"


def tissue_box(regions: Sequence[Region]) -> Box | None:
    """The smallest box around all regions that show tissue; None if there are none."""
    boxes = [region.box for region in _tissue(regions)]
    if not boxes:
        return None
    left, top = min(box[0] for box in boxes), min(box[1] for box in boxes)
    right, bottom = max(box[0] + box[2] for box in boxes), max(box[1] + box[3] for box in boxes)
    return left, top, right - left, bottom - top


def common_pixel_mm(regions: Sequence[Region]) -> tuple[float, float] | None:
    """Width and height of a pixel in mm, if all regions that show tissue agree on them."""
    spacings = {region.pixel_mm for region in _tissue(regions)}
    return spacings.pop() if len(spacings) == 1 else None


def _region(item: Dataset, height: int, width: int) -> Region | None:
    """None if the region lies outside the image."""
    x0, y0 = int(item.RegionLocationMinX0), int(item.RegionLocationMinY0)
    x1, y1 = int(item.RegionLocationMaxX1), int(item.RegionLocationMaxY1)
    # Some scanners write the first column after the region, others the last one in it: allow for one pixel.
    if not (0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height):
        return None
    delta_x, delta_y = abs(float(item.get("PhysicalDeltaX") or 0)), abs(float(item.get("PhysicalDeltaY") or 0))
    in_cm = item.get("PhysicalUnitsXDirection") == _UNIT_CM and item.get("PhysicalUnitsYDirection") == _UNIT_CM
    return Region(
        spatial_format=int(item.get("RegionSpatialFormat") or 0),
        data_type=int(item.get("RegionDataType") or 0),
        box=(x0, y0, min(x1 + 1, width) - x0, min(y1 + 1, height) - y0),
        pixel_mm=(delta_x * 10, delta_y * 10) if in_cm and delta_x > 0 and delta_y > 0 else None,
    )


def _tissue(regions: Sequence[Region]) -> list[Region]:
    return [region for region in regions if region.spatial_format == _FORMAT_2D]

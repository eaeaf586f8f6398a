"""The ultrasound regions of a DICOM image: where tissue is shown, in which mode, and how large a pixel is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pydicom.dataset import Dataset

from sono.curation.images.pixels import Box

# PS3.3 C.8.5.5.1.1 and C.8.5.5.1.2: Region Spatial Format and Region Data Type.
_FORMAT_2D, _FORMAT_M_MODE, _FORMAT_SPECTRAL = 1, 2, 3
_TYPE_TISSUE, _TYPE_COLOR_FLOW = 1, 2
_UNIT_CM = 3  # PS3.3 C.8.5.5.1.15
_PIXEL_CM_MOST = 1.0


@dataclass(frozen=True)
class Region:
    """One item of the Sequence of Ultrasound Regions; ``pixel_mm`` is (x, y), None where the unit is not cm."""

    spatial_format: int
    data_type: int
    box: Box
    pixel_mm: tuple[float, float] | None


def read_regions(dataset: Dataset, height: int, width: int) -> tuple[list[Region], bool]:
    """Sequence of Ultrasound Regions (PS3.3 C.8.5.5) of an image of height x width px.

    Returns:
        The regions that can be read and lie within the image, and whether others were left out.
    """
    try:
        items = list(dataset.get("SequenceOfUltrasoundRegions") or [])
    except Exception:  # noqa: BLE001 - pydicom raises whatever a damaged element makes it stumble over
        return [], True
    found = [_region(item, height, width) for item in items]
    regions = [region for region in found if region is not None]
    return regions, len(regions) < len(found)


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


def common_pixel_mm(regions: Sequence[Region]) -> tuple[float, float] | None:
    """Width and height of a pixel in mm, if all regions that show tissue agree on them."""
    spacings = {region.pixel_mm for region in _tissue(regions)}
    return spacings.pop() if len(spacings) == 1 else None


def _region(item: Dataset, height: int, width: int) -> Region | None:
    """None if the region is damaged or lies outside the image."""
    try:
        return _read_region(item, height, width)
    except Exception:  # noqa: BLE001 - as above
        return None


def _read_region(item: Dataset, height: int, width: int) -> Region | None:
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
        pixel_mm=(delta_x * 10, delta_y * 10) if in_cm and _is_spacing(delta_x) and _is_spacing(delta_y) else None,
    )


def _is_spacing(centimetres: float) -> bool:
    return 0 < centimetres <= _PIXEL_CM_MOST  # written so that NaN fails as well


def _tissue(regions: Sequence[Region]) -> list[Region]:
    return [region for region in regions if region.spatial_format == _FORMAT_2D]

"""Ultrasound regions of a DICOM image: which part of it shows what, at which scale (PS3.3 C.8.5.5)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pydicom.dataset import Dataset

Box = tuple[int, int, int, int]
"""x, y, width, height in px."""

FORMAT_NONE, FORMAT_2D, FORMAT_M_MODE, FORMAT_SPECTRAL = 0, 1, 2, 3  # PS3.3 C.8.5.5.1.1
TYPE_NONE, TYPE_TISSUE, TYPE_COLOR_FLOW, TYPE_PULSED_WAVE = 0, 1, 2, 3  # PS3.3 C.8.5.5.1.2
_UNIT_NONE, _UNIT_CM, _UNIT_SECONDS, _UNIT_CM_PER_SECOND = 0, 3, 4, 7  # PS3.3 C.8.5.5.1.15
_LOW_PRIORITY, _HIGH_PRIORITY = 1, 0  # PS3.3 C.8.5.5.1.3, bit 0 of Region Flags

# PS3.3 C.8.5.6.1.1: what an image shows, as bits of the fourth value of Image Type. Regions have no format for 3-D
# renderings, which are the only ones here without one.
_SHOWS = {FORMAT_NONE: 0x0040, FORMAT_2D: 0x0001, FORMAT_M_MODE: 0x0002, FORMAT_SPECTRAL: 0x0008}
_SHOWS_COLOR_FLOW = 0x0010


@dataclass(frozen=True)
class UltrasoundRegion:
    """One item of the Sequence of Ultrasound Regions (PS3.3 C.8.5.5).

    Attributes:
        box: x, y, width, height in px of the image.
        spatial_format: one of ``FORMAT_2D``, ``FORMAT_M_MODE``, ``FORMAT_SPECTRAL``, ``FORMAT_NONE`` (a rendering).
        data_type: one of ``TYPE_TISSUE``, ``TYPE_COLOR_FLOW``, ``TYPE_PULSED_WAVE``, ``TYPE_NONE``.
        pixel_mm: size of a pixel along x and y; None if not calibrated. M-mode regions use y only, spectral
            ones neither.
        seconds_per_px: along x; only for M-mode and spectral regions.
        cm_s_per_px: velocities rise by it from row to row upwards; only for spectral regions.
        baseline: row of the image at which the velocity is 0.
    """

    box: Box
    spatial_format: int
    data_type: int
    pixel_mm: tuple[float, float] | None
    seconds_per_px: float | None = None
    cm_s_per_px: float | None = None
    baseline: int | None = None

    def check_fits(self, image_width: int, image_height: int) -> None:
        """Raise ``ValueError`` if the format is unknown or the box is not inside an image of that size in px."""
        x, y, width, height = self.box
        if self.spatial_format not in _SHOWS:
            raise ValueError(f"region with spatial format {self.spatial_format}, not one of {tuple(_SHOWS)}")
        if min(x, y) < 0 or min(width, height) < 1 or x + width > image_width or y + height > image_height:
            raise ValueError(
                f"region {(x, y, width, height)} is not inside an image of {image_width} x {image_height} px"
            )


def region_item(region: UltrasoundRegion, frequency_mhz: float) -> Dataset:
    """An item of the US Region Calibration Module (PS3.3 C.8.5.5)."""
    x, y, width, height = region.box
    item = Dataset()
    item.RegionSpatialFormat, item.RegionDataType = region.spatial_format, region.data_type
    # Colour covers the echoes: where both are, the grey levels are not calibrated.
    item.RegionFlags = _HIGH_PRIORITY if region.data_type == TYPE_COLOR_FLOW else _LOW_PRIORITY
    item.RegionLocationMinX0, item.RegionLocationMinY0 = x, y
    item.RegionLocationMaxX1, item.RegionLocationMaxY1 = x + width - 1, y + height - 1
    item.PhysicalUnitsXDirection, item.PhysicalDeltaX = _along_x(region)
    item.PhysicalUnitsYDirection, item.PhysicalDeltaY = _along_y(region)
    if region.baseline is not None:
        item.ReferencePixelX0, item.ReferencePixelY0 = 0, region.baseline - y
        item.ReferencePixelPhysicalValueX = item.ReferencePixelPhysicalValueY = 0.0
    item.TransducerFrequency = round(frequency_mhz * 1000)  # kHz
    return item


def _along_x(region: UltrasoundRegion) -> tuple[int, float]:
    """Unit and increment per pixel; the increment is required even without a unit."""
    if region.spatial_format in (FORMAT_M_MODE, FORMAT_SPECTRAL):
        return (_UNIT_NONE, 1.0) if region.seconds_per_px is None else (_UNIT_SECONDS, region.seconds_per_px)
    return (_UNIT_NONE, 1.0) if region.pixel_mm is None else (_UNIT_CM, region.pixel_mm[0] / 10)


def _along_y(region: UltrasoundRegion) -> tuple[int, float]:
    if region.cm_s_per_px is not None:
        return _UNIT_CM_PER_SECOND, -region.cm_s_per_px  # rows are counted downwards
    if region.spatial_format == FORMAT_SPECTRAL or region.pixel_mm is None:
        return _UNIT_NONE, 1.0
    return _UNIT_CM, region.pixel_mm[1] / 10


def image_type_value(regions: Sequence[UltrasoundRegion]) -> str:
    """Fourth value of Image Type, by what the regions show; without regions, 2D imaging."""
    bits = 0
    for region in regions:
        bits |= _SHOWS[region.spatial_format]
        bits |= _SHOWS_COLOR_FLOW if region.data_type == TYPE_COLOR_FLOW else 0
    return f"{bits or _SHOWS[FORMAT_2D]:04X}"

"""Pixel values of a DICOM file as a screen shows them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset
from pydicom.pixels.processing import apply_color_lut, apply_windowing

from sono.curation.images.pixels import ExcludedError, Pixels

from .image_pixel import ImagePixel


def as_displayed(raw: npt.NDArray[np.generic], bits: int, dataset: Dataset, image: ImagePixel) -> Pixels:
    """One frame as 8-bit grey or RGB.

    Args:
        raw: what ``decoders.decode`` returned: colour is RGB already.
        bits: of each value.

    Raises:
        ExcludedError: the photometric interpretation or the number of bits is not supported.
    """
    interpretation = image.photometric_interpretation
    if raw.ndim == 3:
        return raw.astype(np.uint8)
    if interpretation == "PALETTE COLOR":
        return _by_palette(raw, dataset)
    if interpretation not in ("MONOCHROME1", "MONOCHROME2"):
        raise ExcludedError("unsupported_pixels", "the photometric interpretation does not fit the samples per pixel")
    grey = _grey(raw, bits, dataset, image)
    return np.asarray(255 - grey, dtype=np.uint8) if interpretation == "MONOCHROME1" else grey


def _by_palette(raw: npt.NDArray[np.generic], dataset: Dataset) -> Pixels:
    """The palette's colours. Entries have 16 bits, but some writers keep 8-bit values in them (PS3.3 C.7.9.1)."""
    try:
        colored = apply_color_lut(raw, dataset)
    except Exception:  # noqa: BLE001 - pydicom raises whatever a damaged palette makes it stumble over
        raise ExcludedError("undecodable", "the palette is damaged or missing") from None
    if colored.ndim != 3 or colored.shape[-1] < 3:
        raise ExcludedError("undecodable", "the palette is damaged or missing")
    wide = colored.dtype == np.uint16 and _largest_entry(dataset) > 255
    return np.asarray((colored >> 8 if wide else colored)[..., :3], dtype=np.uint8)


def _largest_entry(dataset: Dataset) -> int:
    names = ("Red", "Green", "Blue")
    data = [dataset.get(f"{name}PaletteColorLookupTableData") for name in names]
    if any(not isinstance(entries, bytes) or len(entries) % 2 for entries in data):
        return 65_535  # segmented palettes, which have 16-bit entries
    order = "<u2" if dataset.original_encoding[1] in (True, None) else ">u2"
    return max(int(np.frombuffer(entries, order).max(initial=0)) for entries in data)


def _grey(raw: npt.NDArray[np.generic], bits: int, dataset: Dataset, image: ImagePixel) -> Pixels:
    """Grey levels as stored when they have 8 bits, else the VOI window or the whole stored range over 0..255."""
    if bits == 8 and raw.dtype == np.uint8:
        return raw.astype(np.uint8)
    if _is_rescaled(dataset):
        raise ExcludedError("unsupported_pixels", "the header's rescale or modality table is not that of ultrasound")
    windowed = _windowed(raw, dataset)
    values = (raw if windowed is None else windowed).astype(np.float64)
    low = -(2.0 ** (bits - 1)) if image.signed else 0.0
    return np.asarray(np.clip(np.rint((values - low) * (255.0 / (2.0**bits - 1))), 0, 255), dtype=np.uint8)


def _is_rescaled(dataset: Dataset) -> bool:
    """Whether windows are about other values than the stored ones. The US Image IOD has no such thing (PS3.3 A.6)."""
    try:
        slope, intercept = dataset.get("RescaleSlope"), dataset.get("RescaleIntercept")
        identity = (slope is None or float(slope) == 1) and not float(intercept or 0)
    except Exception:  # noqa: BLE001 - pydicom raises whatever a damaged element makes it stumble over
        return True
    return not identity or "ModalityLUTSequence" in dataset


def _windowed(raw: npt.NDArray[np.generic], dataset: Dataset) -> npt.NDArray[np.generic] | None:
    """Values through the VOI window, or None where there is none that can be read."""
    if "WindowCenter" not in dataset:
        return None
    try:
        windowed = apply_windowing(raw, dataset)
    except Exception:  # noqa: BLE001 - pydicom raises whatever a damaged window makes it stumble over
        return None
    return windowed if np.isfinite(windowed).all() else None

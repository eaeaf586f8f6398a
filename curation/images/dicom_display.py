"""Pixel values of a DICOM file as a screen shows them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset
from pydicom.pixels.processing import apply_color_lut, apply_windowing

from .pixels import ExcludedError, Pixels

_SIGNED = 1  # of Pixel Representation (PS3.3 C.7.6.3.1)


def as_displayed(raw: npt.NDArray[np.generic], dataset: Dataset) -> Pixels:
    """One frame as 8-bit grey or RGB; colours that were stored as YBR have been converted by ``iter_pixels``.

    Raises:
        ExcludedError: the photometric interpretation or the number of bits is not supported.
    """
    interpretation = str(dataset.PhotometricInterpretation)
    if interpretation == "PALETTE COLOR":
        colored = apply_color_lut(raw, dataset)
        return (colored >> 8).astype(np.uint8) if colored.dtype == np.uint16 else colored.astype(np.uint8)
    if raw.ndim == 3:
        if int(dataset.BitsStored) != 8:
            raise ExcludedError("unsupported_pixels", "a colour image of other than 8 bits a channel")
        return raw.astype(np.uint8)
    if interpretation not in ("MONOCHROME1", "MONOCHROME2"):
        raise ExcludedError("unsupported_pixels", "the photometric interpretation does not fit the samples per pixel")
    grey = _grey(raw, dataset)
    return np.asarray(255 - grey, dtype=np.uint8) if interpretation == "MONOCHROME1" else grey


def _grey(raw: npt.NDArray[np.generic], dataset: Dataset) -> Pixels:
    """Grey levels as stored when they have 8 bits, else the VOI window or the whole stored range over 0..255."""
    bits = int(dataset.BitsStored)
    if bits == 8 and raw.dtype == np.uint8:
        return raw.astype(np.uint8)
    values = (apply_windowing(raw, dataset) if "WindowCenter" in dataset else raw).astype(np.float64)
    low = -(2.0 ** (bits - 1)) if int(dataset.PixelRepresentation) == _SIGNED else 0.0
    return np.asarray(np.clip(np.rint((values - low) * (255.0 / (2.0**bits - 1))), 0, 255), dtype=np.uint8)

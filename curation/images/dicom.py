"""Frames and facts of ultrasound DICOM files.

Attribute names are DICOM's own (PS3.3). Only the attributes named here are read; nothing else of a header travels.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.dataset import Dataset
from pydicom.pixels.processing import apply_color_lut, apply_windowing
from pydicom.pixels.utils import iter_pixels
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    UID,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from sono.manifests import pydicom_warnings

from .pixels import ExcludedError, Pixels

ULTRASOUND_SOP_CLASSES = {
    "1.2.840.10008.5.1.4.1.1.6.1": "Ultrasound Image Storage",
    "1.2.840.10008.5.1.4.1.1.3.1": "Ultrasound Multi-frame Image Storage",
    "1.2.840.10008.5.1.4.1.1.6": "Ultrasound Image Storage (Retired)",
    "1.2.840.10008.5.1.4.1.1.3": "Ultrasound Multi-frame Image Storage (Retired)",
}

# Decoders disagree on some colour files, so the one for each transfer syntax is fixed, not "whichever is installed".
_PLUGINS: dict[UID, str] = {
    JPEGBaseline8Bit: "pillow",
    JPEGExtended12Bit: "gdcm",
    JPEGLossless: "gdcm",
    JPEGLosslessSV1: "gdcm",
    JPEGLSLossless: "pyjpegls",
    JPEGLSNearLossless: "pyjpegls",
    JPEG2000Lossless: "pylibjpeg",
    JPEG2000: "pylibjpeg",
    HTJ2KLossless: "pylibjpeg",
    HTJ2KLosslessRPCL: "pylibjpeg",
    HTJ2K: "pylibjpeg",
    RLELossless: "pydicom",
}

# PS3.3 C.8.5.5.1.1 and C.8.5.5.1.2: Region Spatial Format and Region Data Type.
_FORMAT_2D, _FORMAT_M_MODE, _FORMAT_SPECTRAL = 1, 2, 3
_TYPE_TISSUE, _TYPE_COLOR_FLOW = 1, 2
_UNIT_CM = 3  # PS3.3 C.8.5.5.1.15

_FRAMES_MOST = 100_000  # half an hour of cine; more is a damaged header

Box = tuple[int, int, int, int]
"""x, y, width, height in px."""


@dataclass(frozen=True)
class DicomFacts:
    """What ingest takes from a header. The identifiers and the date go into pseudonyms and nowhere else."""

    patient_id: str | None
    study_id: str | None
    series_id: str | None
    accession: str | None
    study_date: date | None
    manufacturer: str | None
    model: str | None
    mode: str
    plane_texts: tuple[str, ...]  # what the header says of the plane, for lookup in the vocabulary only
    crop: Box  # of the ultrasound regions, or the whole image
    pixel_mm: tuple[float, float] | None  # x, y
    height: int
    width: int
    frame_count: int


def is_dicom(content: bytes) -> bool:
    """Whether the file has the preamble of PS3.10."""
    return content[128:132] == b"DICM"


def read_header(content: bytes, plane_fields: Sequence[str]) -> tuple[Dataset, DicomFacts]:
    """Parse a file and check that it is an ultrasound image.

    Raises:
        ExcludedError: no DICOM, not ultrasound, or without pixels.
    """
    with pydicom_warnings.silenced():
        try:
            dataset = pydicom.dcmread(io.BytesIO(content))
            return dataset, _facts(dataset, plane_fields)
        except ExcludedError:
            raise
        except Exception as error:
            raise ExcludedError("damaged_dicom", "the DICOM header is damaged or truncated") from error


def read_frames(dataset: Dataset, facts: DicomFacts) -> Iterator[tuple[int, Pixels | ExcludedError]]:
    """The frames in order, each as 8-bit grey or RGB of the whole image, or as the reason it cannot be had.

    Raises:
        ExcludedError: nothing of the pixel data decodes.
    """
    syntax = dataset.file_meta.TransferSyntaxUID
    plugin = _PLUGINS.get(syntax, "")
    if syntax.is_compressed and syntax.is_encapsulated and not plugin:
        raise ExcludedError("unsupported_transfer_syntax", "no decoder for the DICOM transfer syntax")
    stream = iter_pixels(dataset, decoding_plugin=plugin)
    for index in range(facts.frame_count):
        with pydicom_warnings.silenced():
            frame = _next_frame(stream, dataset)
            if isinstance(frame, ExcludedError) and facts.frame_count > 1:
                # The stream ends at its first error; the frames behind a damaged one may well be whole.
                frame = _next_frame(iter_pixels(dataset, indices=[index], decoding_plugin=plugin), dataset)
        yield index, frame


def _next_frame(stream: Iterator[npt.NDArray[np.generic]], dataset: Dataset) -> Pixels | ExcludedError:
    try:
        return _displayed(next(stream), dataset)
    except ExcludedError as error:
        return error
    except Exception:  # noqa: BLE001 - decoders raise whatever a damaged stream makes them stumble over
        return ExcludedError("undecodable", "the DICOM pixel data is damaged or truncated")


def frame_times_ms(dataset: Dataset, frame_count: int) -> list[float | None]:
    """Milliseconds since the first frame, from Frame Time Vector, Frame Time or Cine Rate; nulls for a still.

    Frame Time Vector (0018,1065) holds the increments; its first value is 0 (PS3.3 C.7.6.5).
    """
    if frame_count == 1:
        return [None]
    with pydicom_warnings.silenced():
        try:
            vector = dataset.get("FrameTimeVector")
            if vector is not None and len(vector) == frame_count:
                return [float(time) for time in np.cumsum([float(step) for step in vector])]
            step = float(dataset.get("FrameTime") or 0) or _from_rate(dataset)
        except (TypeError, ValueError):
            step = 0.0
    return [index * step if step > 0 else None for index in range(frame_count)]


def _from_rate(dataset: Dataset) -> float:
    rate = float(dataset.get("RecommendedDisplayFrameRate") or dataset.get("CineRate") or 0)
    return 1000.0 / rate if rate > 0 else 0.0


def _facts(dataset: Dataset, plane_fields: Sequence[str]) -> DicomFacts:
    if "SOPClassUID" not in dataset:  # pydicom gives an empty dataset for a file that ends inside an element
        raise ExcludedError("damaged_dicom", "the DICOM header is damaged or truncated")
    if dataset.get("Modality", "US") != "US" or str(dataset.SOPClassUID) not in ULTRASOUND_SOP_CLASSES:
        raise ExcludedError("not_ultrasound", "the DICOM object is not an ultrasound image")
    if "PixelData" not in dataset:
        raise ExcludedError("no_pixels", "the DICOM object has no pixel data, or ends before it")
    height, width = int(dataset.Rows), int(dataset.Columns)
    frame_count = int(dataset.get("NumberOfFrames") or 1)
    if not (height > 0 and width > 0 and 0 < frame_count <= _FRAMES_MOST):
        raise ExcludedError("damaged_dicom", "the DICOM header gives impossible rows, columns or number of frames")
    regions = _regions(dataset, height, width)
    flat = [region for region in regions if region.spatial_format == _FORMAT_2D]
    return DicomFacts(
        patient_id=_identifier(dataset, "PatientID"),
        study_id=_identifier(dataset, "StudyInstanceUID"),
        series_id=_identifier(dataset, "SeriesInstanceUID"),
        accession=_identifier(dataset, "AccessionNumber"),
        study_date=_study_date(dataset),
        manufacturer=_device_name(dataset, "Manufacturer"),
        model=_device_name(dataset, "ManufacturerModelName"),
        mode=_mode(regions),
        plane_texts=tuple(_plane_texts(dataset, plane_fields)),
        crop=_union([region.box for region in flat]) if flat else (0, 0, width, height),
        pixel_mm=_pixel_mm(dataset, flat),
        height=height,
        width=width,
        frame_count=frame_count,
    )


def _study_date(dataset: Dataset) -> date | None:
    try:
        return datetime.strptime(str(dataset.get("StudyDate") or ""), "%Y%m%d").date()
    except ValueError:
        return None


@dataclass(frozen=True)
class _Region:
    spatial_format: int
    data_type: int
    box: Box
    pixel_mm: tuple[float, float] | None


def _regions(dataset: Dataset, height: int, width: int) -> list[_Region]:
    """Sequence of Ultrasound Regions (PS3.3 C.8.5.5); empty when a box lies outside the image.

    A box outside the image means that the image was scaled or cut after the header was written. Then none of its
    boxes and none of its spacings can be believed.
    """
    regions = []
    for item in dataset.get("SequenceOfUltrasoundRegions") or []:
        x0, y0 = int(item.RegionLocationMinX0), int(item.RegionLocationMinY0)
        x1, y1 = int(item.RegionLocationMaxX1), int(item.RegionLocationMaxY1)
        # Some scanners write the first column after the region, others the last one in it: one pixel is forgiven.
        if not (0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height):
            return []
        delta_x, delta_y = abs(float(item.get("PhysicalDeltaX") or 0)), abs(float(item.get("PhysicalDeltaY") or 0))
        in_cm = item.get("PhysicalUnitsXDirection") == _UNIT_CM and item.get("PhysicalUnitsYDirection") == _UNIT_CM
        regions.append(
            _Region(
                spatial_format=int(item.get("RegionSpatialFormat") or 0),
                data_type=int(item.get("RegionDataType") or 0),
                box=(x0, y0, min(x1 + 1, width) - x0, min(y1 + 1, height) - y0),
                pixel_mm=(delta_x * 10, delta_y * 10) if in_cm and delta_x > 0 and delta_y > 0 else None,
            )
        )
    return regions


def _mode(regions: Sequence[_Region]) -> str:
    formats = {region.spatial_format for region in regions}
    tissue = [region for region in regions if region.spatial_format == _FORMAT_2D]
    if _FORMAT_SPECTRAL in formats:
        return "spectral"
    if _FORMAT_M_MODE in formats:
        return "m_mode"
    if any(region.data_type == _TYPE_COLOR_FLOW for region in tissue):
        return "color_doppler"
    if len(tissue) > 1:
        return "dual"
    return "b_mode" if tissue and tissue[0].data_type == _TYPE_TISSUE else "unknown"


def _pixel_mm(dataset: Dataset, flat: Sequence[_Region]) -> tuple[float, float] | None:
    """From the regions where all of them agree, else from Pixel Spacing (row spacing first) where there are none."""
    spacings = {region.pixel_mm for region in flat}
    if spacings:
        return spacings.pop() if len(spacings) == 1 else None
    if dataset.get("SequenceOfUltrasoundRegions") or not dataset.get("PixelSpacing"):
        return None
    row, column = (float(value) for value in dataset.PixelSpacing)
    return (column, row) if row > 0 and column > 0 else None


def _union(boxes: Sequence[Box]) -> Box:
    left, top = min(box[0] for box in boxes), min(box[1] for box in boxes)
    right, bottom = max(box[0] + box[2] for box in boxes), max(box[1] + box[3] for box in boxes)
    return left, top, right - left, bottom - top


def _identifier(dataset: Dataset, keyword: str) -> str | None:
    return str(dataset.get(keyword) or "").strip() or None


def _device_name(dataset: Dataset, keyword: str) -> str | None:
    """A device's name, only if it looks like one: free text can hold anything."""
    text = " ".join(str(dataset.get(keyword) or "").split())
    return text if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9 .,&/()+_-]{0,47}", text) else None


def _plane_texts(dataset: Dataset, fields: Sequence[str]) -> Iterator[str]:
    for field in fields:
        value = dataset.get(field)
        if field.endswith("CodeSequence"):
            for item in value or []:
                yield str(item.get("CodeMeaning") or "")
        elif value:
            yield str(value)


def _displayed(raw: npt.NDArray[np.generic], dataset: Dataset) -> Pixels:
    """Pixel values as a screen shows them, 8 bit. ``iter_pixels`` has made RGB of YBR already."""
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
    low = -(2.0 ** (bits - 1)) if int(dataset.PixelRepresentation) == 1 else 0.0
    return np.asarray(np.clip(np.rint((values - low) * (255.0 / (2.0**bits - 1))), 0, 255), dtype=np.uint8)

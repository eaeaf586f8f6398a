"""Ultrasound DICOM files: what ingest takes from the header, and the frames.

Attribute names are DICOM's own (PS3.3). Only the attributes named here are read; nothing else of a header is kept.
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

from .dicom_display import as_displayed
from .dicom_regions import Box, common_pixel_mm, image_mode, read_regions, tissue_box
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

_FRAMES_MOST = 100_000  # half an hour of cine; more is a damaged header


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
    plane_texts: tuple[str, ...]  # what the header says about the plane, only for lookup in the vocabulary
    crop: Box  # of the ultrasound regions, or the whole image
    pixel_mm: tuple[float, float] | None  # x, y
    height: int
    width: int
    frame_count: int


def read_header(content: bytes, plane_fields: Sequence[str]) -> tuple[Dataset, DicomFacts]:
    """Parse a file and check that it is an ultrasound image.

    Raises:
        ExcludedError: the file is damaged, not ultrasound, or without pixels.
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
    """The frames in order, each as 8-bit grey or RGB of the whole image, or the reason why it cannot be decoded.

    Raises:
        ExcludedError: there is no decoder for the transfer syntax.
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
                # The stream ends at its first error; the frames after a damaged one may be intact.
                frame = _next_frame(iter_pixels(dataset, indices=[index], decoding_plugin=plugin), dataset)
        yield index, frame


def _next_frame(stream: Iterator[npt.NDArray[np.generic]], dataset: Dataset) -> Pixels | ExcludedError:
    try:
        return as_displayed(next(stream), dataset)
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
    regions = read_regions(dataset, height, width)
    return DicomFacts(
        patient_id=_identifier(dataset, "PatientID"),
        study_id=_identifier(dataset, "StudyInstanceUID"),
        series_id=_identifier(dataset, "SeriesInstanceUID"),
        accession=_identifier(dataset, "AccessionNumber"),
        study_date=_study_date(dataset),
        manufacturer=_device_name(dataset, "Manufacturer"),
        model=_device_name(dataset, "ManufacturerModelName"),
        mode=image_mode(regions),
        plane_texts=tuple(_plane_texts(dataset, plane_fields)),
        crop=tissue_box(regions) or (0, 0, width, height),
        pixel_mm=common_pixel_mm(regions) if _has_regions(dataset) else _pixel_spacing(dataset),
        height=height,
        width=width,
        frame_count=frame_count,
    )


def _study_date(dataset: Dataset) -> date | None:
    try:
        return datetime.strptime(str(dataset.get("StudyDate") or ""), "%Y%m%d").date()
    except ValueError:
        return None


def _has_regions(dataset: Dataset) -> bool:
    return bool(dataset.get("SequenceOfUltrasoundRegions"))


def _pixel_spacing(dataset: Dataset) -> tuple[float, float] | None:
    """Width and height of a pixel in mm from Pixel Spacing, which has the row spacing first (PS3.3 10.7.1.3)."""
    if not dataset.get("PixelSpacing"):
        return None
    row, column = (float(value) for value in dataset.PixelSpacing)
    return (column, row) if row > 0 and column > 0 else None


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

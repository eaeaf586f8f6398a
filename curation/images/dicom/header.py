"""What ingest takes from the header of an ultrasound DICOM file.

Attribute names are DICOM's own (PS3.3). Only the attributes named here are read; nothing else of a header is kept.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from typing import TypeVar

import numpy as np
from pydicom.dataset import Dataset

from sono.curation.images.pixels import ExcludedError

from .image_pixel import ImagePixel, read_image_pixel
from .regions import Region, common_pixel_mm, read_regions

ULTRASOUND_SOP_CLASSES = {
    "1.2.840.10008.5.1.4.1.1.6.1": "Ultrasound Image Storage",
    "1.2.840.10008.5.1.4.1.1.3.1": "Ultrasound Multi-frame Image Storage",
    "1.2.840.10008.5.1.4.1.1.6": "Ultrasound Image Storage (Retired)",
    "1.2.840.10008.5.1.4.1.1.3": "Ultrasound Multi-frame Image Storage (Retired)",
}

_MULTI_FRAME = {"1.2.840.10008.5.1.4.1.1.3.1", "1.2.840.10008.5.1.4.1.1.3"}
_DATE = re.compile(r"(?P<year>\d{4})(?P<between>[.-]?)(?P<month>\d{2})(?P=between)(?P<day>\d{2})", re.ASCII)
_PIXEL_MM_MOST = 10.0  # a probe's whole depth would be a few dozen pixels

Value = TypeVar("Value")


@dataclass(frozen=True)
class DicomFacts:
    """What ingest takes from a header. The identifiers and the date go into pseudonyms and nowhere else.

    ``manufacturer`` and ``model`` are as they were typed: a name of a list, or anything at all.
    """

    patient_id: str | None
    issuer: str | None  # of the patient's number
    study_id: str | None
    series_id: str | None
    accession: str | None
    study_date: date | None
    manufacturer: str | None
    model: str | None
    plane_texts: tuple[str, ...]  # what the header says of the plane, for lookup in the vocabulary only
    regions: tuple[Region, ...]  # those that are valid
    pixel_mm: tuple[float, float] | None  # x, y
    image: ImagePixel
    unreadable: tuple[ExcludedError, ...]  # optional attributes that are damaged, and are taken as absent


def read_header(dataset: Dataset, plane_fields: Sequence[str]) -> DicomFacts:
    """Check that a data set is an ultrasound image, and take what is needed of it.

    An optional attribute that cannot be read costs itself only.

    Raises:
        ExcludedError: it is not ultrasound, or an attribute that everything depends on is damaged.
    """
    try:
        sop_class = str(dataset.get("SOPClassUID") or "")
    except Exception:  # noqa: BLE001 - pydicom raises whatever a damaged element makes it stumble over
        sop_class = ""
    if not sop_class:  # pydicom gives an empty data set for a file that ends inside an element
        raise ExcludedError("damaged_dicom", "the DICOM header is damaged or truncated")
    optional = _Optional()
    modality = optional.read("modality", lambda: str(dataset.get("Modality") or "US").strip(), "US")
    if modality != "US" or sop_class not in ULTRASOUND_SOP_CLASSES:
        raise ExcludedError("not_ultrasound", "the DICOM object is not an ultrasound image")
    image = read_image_pixel(dataset, multi_frame=sop_class in _MULTI_FRAME)
    regions, lost = read_regions(dataset, image.rows, image.columns)
    if lost:
        optional.add("region")
    spacing: Callable[[], tuple[float, float] | None] = lambda: _pixel_spacing(dataset)  # noqa: E731
    return DicomFacts(
        patient_id=_required(dataset, "PatientID"),
        issuer=_issuer(dataset),
        study_id=_required(dataset, "StudyInstanceUID"),
        series_id=optional.read("series", lambda: _identifier(dataset, "SeriesInstanceUID"), None),
        accession=optional.read("accession_number", lambda: _identifier(dataset, "AccessionNumber"), None),
        study_date=optional.read("study_date", lambda: _study_date(dataset), None),
        manufacturer=optional.read("manufacturer", lambda: _identifier(dataset, "Manufacturer"), None),
        model=optional.read("model", lambda: _identifier(dataset, "ManufacturerModelName"), None),
        plane_texts=optional.read("plane", lambda: tuple(_plane_texts(dataset, plane_fields)), ()),
        regions=tuple(regions),
        pixel_mm=common_pixel_mm(regions) if regions or lost else optional.read("pixel_spacing", spacing, None),
        image=image,
        unreadable=tuple(optional.unreadable),
    )


class _Optional:
    """Reads attributes that may be damaged, and collects which were."""

    def __init__(self) -> None:
        self.unreadable: list[ExcludedError] = []

    def read(self, name: str, get: Callable[[], Value], default: Value) -> Value:
        try:
            return get()
        except Exception:  # noqa: BLE001 - pydicom raises whatever a damaged element makes it stumble over
            self.add(name)
            return default

    def add(self, name: str) -> None:
        message = "an optional attribute of the DICOM header is damaged and was taken as absent; the frames stay"
        self.unreadable.append(ExcludedError(f"unreadable_{name}", message))


def frame_times_ms(dataset: Dataset, frame_count: int) -> list[float | None]:
    """Milliseconds since the first frame, from Frame Time Vector, Frame Time or Cine Rate; nulls for a still.

    Frame Time Vector (0018,1065) holds the increments; its first value should be 0 (PS3.3 C.7.6.5), and counts as if it
    were. What is damaged, negative or not finite counts as absent.
    """
    if frame_count == 1:
        return [None]
    try:
        vector = [float(step) for step in dataset.get("FrameTimeVector") or []]
        if len(vector) >= frame_count and all(math.isfinite(step) and step >= 0 for step in vector):
            return [float(time) for time in np.cumsum([0.0, *vector[1:frame_count]])]
        step = float(dataset.get("FrameTime") or 0) or _from_rate(dataset)
    except Exception:  # noqa: BLE001 - pydicom raises whatever a damaged element makes it stumble over
        step = 0.0
    last = step * frame_count
    return [index * step if step > 0 and math.isfinite(last) else None for index in range(frame_count)]


def _from_rate(dataset: Dataset) -> float:
    rate = float(dataset.get("RecommendedDisplayFrameRate") or dataset.get("CineRate") or 0)
    return 1000.0 / rate if rate > 0 else 0.0


def _study_date(dataset: Dataset) -> date | None:
    """Eight digits, or as before DICOM, 2024.05.31 (PS3.5 6.2)."""
    text = str(dataset.get("StudyDate") or "").strip()
    if not text:
        return None
    match = _DATE.fullmatch(text)
    if match is None:
        raise ValueError("not a date")
    return date(int(match["year"]), int(match["month"]), int(match["day"]))


def _pixel_spacing(dataset: Dataset) -> tuple[float, float] | None:
    """Width and height of a pixel in mm from Pixel Spacing, which has the row spacing first (PS3.3 10.7.1.3)."""
    if not dataset.get("PixelSpacing"):
        return None
    row, column = (float(value) for value in dataset.PixelSpacing)
    if not (0 < row <= _PIXEL_MM_MOST and 0 < column <= _PIXEL_MM_MOST):  # so that NaN fails as well
        raise ValueError("not a spacing")
    return column, row


def _required(dataset: Dataset, keyword: str) -> str | None:
    """An identifier without which nobody knows whose the image is: where it is damaged, the file is.

    Raises:
        ExcludedError: the attribute is there and cannot be read.
    """
    try:
        return _identifier(dataset, keyword)
    except Exception:  # noqa: BLE001 - as above
        raise ExcludedError("damaged_dicom", "the DICOM header is damaged or truncated") from None


def _identifier(dataset: Dataset, keyword: str) -> str | None:
    return str(dataset.get(keyword) or "").strip() or None


def _issuer(dataset: Dataset) -> str | None:
    """Who issued the patient's number (PS3.3 C.7.1.1): its name, else its universal identifier.

    Without it two hospitals' patients could be taken for one, so that one that is damaged costs the file.

    Raises:
        ExcludedError: it is there and cannot be read.
    """
    if issuer := _required(dataset, "IssuerOfPatientID"):
        return issuer
    try:
        qualifiers = list(dataset.get("IssuerOfPatientIDQualifiersSequence") or [])
        return next((found for item in qualifiers if (found := _identifier(item, "UniversalEntityID"))), None)
    except Exception:  # noqa: BLE001 - as above
        raise ExcludedError("damaged_dicom", "the DICOM header is damaged or truncated") from None


def _plane_texts(dataset: Dataset, fields: Sequence[str]) -> Iterator[str]:
    for field in fields:
        value = dataset.get(field)
        if field.endswith("CodeSequence"):
            for item in value or []:
                yield str(item.get("CodeMeaning") or "")
        elif value:
            yield str(value)

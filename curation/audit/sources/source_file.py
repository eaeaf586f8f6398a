"""One file of the archive as the audit reads it: what it says about its frames, and its frames."""

from __future__ import annotations

import datetime
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from pydicom.dataset import Dataset

from sono.curation.images import raster
from sono.curation.images.dicom.file import read_dicom_file
from sono.curation.images.dicom.frames import open_dicom
from sono.curation.images.pixels import ExcludedError, Pixels
from sono.curation.images.signatures import read_image_file
from sono.manifests import pydicom_warnings

from .header_values import NO_FILE, NO_HEADER, NO_IMAGE, HeaderValues, dicom_values, raster_values

Frames = Iterator[Pixels | ExcludedError]


@dataclass(frozen=True)
class SourceFacts:
    """What a file, and its row of the metadata, say about its frames; None where they say nothing.

    Attributes:
        pixel_mm: width and height of a pixel, in mm.
        times_ms: one per frame.
        plane_texts: what may name the plane, the strongest first.
    """

    rows: int
    columns: int
    frame_count: int
    pixel_mm: tuple[float, float] | None
    times_ms: Sequence[float | None]
    patient_id: str | None
    issuer: str | None
    study_id: str | None
    series_id: str | None
    accession: str | None
    study_date: datetime.date | None
    manufacturer: str | None
    model: str | None
    plane: str | None  # of the metadata
    plane_texts: Sequence[str]


@dataclass(frozen=True)
class AuditedFile:
    """``facts`` is None where the file holds no image that can be read; then it has no frames."""

    content: bytes
    values: HeaderValues
    facts: SourceFacts | None
    frames: Callable[[], Frames] = field(default=lambda: iter(()))


def read_source(file: Mapping[str, Any], plane_fields: Sequence[str]) -> AuditedFile:
    """Read a file whose row has the columns of ``parts.INPUT``."""
    try:
        content, kind = read_image_file(Path(os.fsdecode(cast(bytes, file["path"]))))
    except OSError:
        return AuditedFile(b"", HeaderValues(unread=NO_FILE), None)
    with pydicom_warnings.silenced():
        if kind == "dicom":
            return _read_dicom(content, file, plane_fields)
        if kind is None:
            return AuditedFile(content, HeaderValues(unread=NO_IMAGE), None)
        return _read_raster(content, kind, file)


def _read_dicom(content: bytes, file: Mapping[str, Any], plane_fields: Sequence[str]) -> AuditedFile:
    try:
        dataset = read_dicom_file(content).dataset
    except ExcludedError:
        return AuditedFile(content, HeaderValues(unread=NO_HEADER), None)
    values = dicom_values(*(part for part in (getattr(dataset, "file_meta", None), dataset) if part is not None))
    try:
        image = open_dicom(content, plane_fields)
    except ExcludedError:
        return AuditedFile(content, values, None)
    facts = SourceFacts(
        rows=int(dataset.Rows),
        columns=int(dataset.Columns),
        frame_count=image.frame_count,
        pixel_mm=(file["pixel_mm"], file["pixel_mm"]) if file["pixel_mm"] else image.facts.pixel_mm,
        times_ms=image.times_ms,
        patient_id=file["patient_id"] or _text(dataset, "PatientID"),
        issuer=file["issuer"] if file["patient_id"] else image.facts.issuer,
        study_id=file["study_id"] or _text(dataset, "StudyInstanceUID"),
        series_id=_text(dataset, "SeriesInstanceUID"),
        accession=_text(dataset, "AccessionNumber"),
        study_date=file["date"] or image.facts.study_date,
        manufacturer=_text(dataset, "Manufacturer"),
        model=_text(dataset, "ManufacturerModelName"),
        plane=file["plane"],
        plane_texts=image.facts.plane_texts,
    )
    return AuditedFile(content, values, facts, image.frames)


def _read_raster(content: bytes, kind: str, file: Mapping[str, Any]) -> AuditedFile:
    try:
        count = raster.count_frames(content, kind)
    except ExcludedError:
        return AuditedFile(content, raster_values(content, 1), None)
    values = raster_values(content, count)
    try:
        height, width = next(raster.read_frames(content, kind)).shape[:2]
    except ExcludedError:
        return AuditedFile(content, values, None)
    facts = SourceFacts(
        rows=height,
        columns=width,
        frame_count=count,
        pixel_mm=(file["pixel_mm"], file["pixel_mm"]) if file["pixel_mm"] else None,
        times_ms=[None] * count,
        patient_id=file["patient_id"],
        issuer=file["issuer"],
        study_id=file["study_id"],
        series_id=None,
        accession=None,
        study_date=file["date"],
        manufacturer=None,
        model=None,
        plane=file["plane"],
        plane_texts=(),
    )
    return AuditedFile(content, values, facts, lambda: _pages(content, kind))


def _pages(content: bytes, kind: str) -> Frames:
    try:
        yield from raster.read_frames(content, kind)
    except ExcludedError as error:
        yield error


def _text(dataset: Dataset, keyword: str) -> str | None:
    """An attribute as text; None if it is absent, empty or damaged."""
    try:
        return str(dataset.get(keyword) or "").strip() or None
    except Exception:  # noqa: BLE001 - pydicom raises whatever a damaged element makes it stumble over
        return None

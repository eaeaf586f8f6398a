"""One file of the archive, opened: its frames, and the columns that they share, with pseudonyms in place of names."""

from __future__ import annotations

import datetime
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import cast

from sono.curation.images import raster
from sono.curation.images.dicom.frames import open_dicom
from sono.curation.images.dicom.regions import Region
from sono.curation.images.pixels import ExcludedError, Pixels
from sono.curation.images.signatures import read_image_file
from sono.manifests.pseudonyms import Pseudonymizer
from sono.manifests.vocabulary import Vocabulary

from .config import IngestSection
from .scanners import manufacturer_name, model_name

MESSAGES: Mapping[str, str] = {
    "patient_unknown": "no patient is known for the file; without one it could end in two splits",
    "unknown_plane": "the plane in the metadata is not in the vocabulary",
    "bad_metadata": "the file's row in the metadata cannot be used",
    "not_in_metadata": "the metadata has no row for the file",
    "ambiguous_name": "the metadata names the file by its bare name, which several files have",
    "two_extensions": "another file has the same path but for its extension",
    "not_an_image": "neither DICOM nor PNG, JPEG, TIFF or BMP",
    "empty_file": "the file has 0 bytes",
    "unreadable": "the file cannot be read",
}


_PATIENT_COLUMNS = ("patient_key", "patient_center_key", "patient_number_key")  # as ``PatientKeys``


@dataclass(frozen=True)
class Source:
    """An opened file.

    Attributes:
        columns: of ``frames``, those that all its frames share.
        frames: as a screen shows them, decoded one by one; the reason where one cannot be.
        times_ms: of each frame, since the first; None for stills.
        regions: of a DICOM header, those that are valid.
        cine: the frames follow each other in time.
        png: the file's content if it is a PNG, so that it need not be compressed again.
        left_out: what of the file is lost although its frames stay.
    """

    columns: Mapping[str, object]
    frames: Iterator[Pixels | ExcludedError]
    times_ms: Sequence[float | None]
    regions: Sequence[Region] = ()
    cine: bool = False
    png: bytes | None = None
    left_out: Sequence[ExcludedError] = ()


def open_source(
    row: Mapping[str, object], keys: Pseudonymizer, vocabulary: Vocabulary, section: IngestSection, center: str
) -> Source:
    """Open the file of an input row, whose columns are those of ``parts.INPUT``.

    Args:
        center: that the file is from; a patient's number counts there.

    Raises:
        ExcludedError: the file, or its row, cannot be used.
    """
    if row["problem"]:
        raise _excluded(str(row["problem"]))
    try:
        content, kind = read_image_file(Path(os.fsdecode(cast(bytes, row["path"]))))
    except OSError:
        raise _excluded("unreadable") from None
    if kind is None:
        raise _excluded("not_an_image")
    if kind == "dicom":
        source = _open_dicom(content, row, keys, vocabulary, section, center)
    else:
        source = _open_raster(content, kind, row, keys)
    shared = {
        "source_key": row["source_key"],
        "name_key": row["name_key"],
        "source_digest": keys.file(content),
    }
    return replace(source, columns={**source.columns, **shared})


def _excluded(reason: str) -> ExcludedError:
    return ExcludedError(reason, MESSAGES[reason])


def _open_dicom(
    content: bytes,
    row: Mapping[str, object],
    keys: Pseudonymizer,
    vocabulary: Vocabulary,
    section: IngestSection,
    center: str,
) -> Source:
    image = open_dicom(content, section.plane_fields)
    facts = image.facts
    patient = _patient_columns(row)
    if patient is None and facts.patient_id:
        found = keys.patient_keys(facts.patient_id, issuer=facts.issuer or "", center=center)
        patient = dict(zip(_PATIENT_COLUMNS, found, strict=True))
    accession_key = keys.accession(facts.accession) if facts.accession else None
    study_key = row["study_key"] or (keys.study(facts.study_id) if facts.study_id else None)
    if patient is None and study_key is not None and section.missing_patient == "study":
        patient = {"patient_key": keys.patient_of_study(str(study_key))}
    if patient is None:
        raise _excluded("patient_unknown")
    header_plane = next(filter(None, map(vocabulary.find_plane, facts.plane_texts)), None)
    spacing = (row["pixel_mm"], row["pixel_mm"]) if row["pixel_mm"] else facts.pixel_mm or (None, None)
    return Source(
        columns={
            **patient,
            "study_key": study_key or keys.only_study(patient["patient_key"]),
            "accession_key": accession_key,
            "study_day": _day(keys, patient, row["date"] or facts.study_date),
            "series_key": keys.series(facts.series_id) if facts.series_id else None,
            "source_height": facts.image.rows,
            "source_width": facts.image.columns,
            "frame_count": image.frame_count,
            "manufacturer": manufacturer_name(facts.manufacturer, keys),
            "model": model_name(facts.model, keys),
            "plane": row["plane"] or header_plane,
            "plane_source": "metadata" if row["plane"] else "header" if header_plane else None,
            "pixel_mm_x": spacing[0],
            "pixel_mm_y": spacing[1],
        },
        frames=image.frames(),
        times_ms=image.times_ms,
        regions=facts.regions,
        cine=image.frame_count > 1,
        left_out=tuple(image.left_out),
    )


def _open_raster(content: bytes, kind: str, row: Mapping[str, object], keys: Pseudonymizer) -> Source:
    patient = _patient_columns(row)
    if patient is None:
        raise _excluded("patient_unknown")
    pages = raster.read_frames(content, kind)
    first = next(pages)
    height, width = first.shape[:2]
    count = raster.count_frames(content, kind)
    return Source(
        columns={
            **patient,
            "study_key": row["study_key"] or keys.only_study(patient["patient_key"]),
            "study_day": _day(keys, patient, row["date"]),
            "source_height": height,
            "source_width": width,
            "frame_count": count,
            "plane": row["plane"],
            "plane_source": "metadata" if row["plane"] else None,
            "pixel_mm_x": row["pixel_mm"],
            "pixel_mm_y": row["pixel_mm"],
        },
        frames=(_same_size(page, height, width) for page in chain([first], pages)),
        times_ms=[None] * count,
        png=content if kind == "png" else None,
    )


def _same_size(page: Pixels, height: int, width: int) -> Pixels | ExcludedError:
    if page.shape[:2] != (height, width):
        return ExcludedError("unsupported_pixels", "a page of another size than the first")
    return page


def _patient_columns(row: Mapping[str, object]) -> dict[str, str] | None:
    """The patient that the input row names, if it names one."""
    return {name: str(row[name]) for name in _PATIENT_COLUMNS} if row["patient_key"] else None


def _day(keys: Pseudonymizer, patient: Mapping[str, str], date: object) -> int | None:
    calendar = patient.get("patient_number_key", patient["patient_key"])
    return keys.day(calendar, date) if isinstance(date, datetime.date) else None

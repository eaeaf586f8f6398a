"""Ingest of one part: each file is opened once, and only pseudonyms leave."""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pyarrow as pa
from pydantic import BaseModel, ConfigDict

from sono.curation.images import dicom, raster
from sono.curation.images.pixels import (
    ExcludedError,
    Pixels,
    bare_png,
    encode_png,
    pixel_sha256,
    pixel_statistics,
    without_equal_channels,
)
from sono.manifests.pseudonyms import Pseudonymizer
from sono.manifests.schemas import FRAMES, TableSpec
from sono.manifests.stages import Exclusion, StageOutput
from sono.manifests.vocabulary import Vocabulary

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


class IngestSection(BaseModel):
    """``[ingest]`` of ``sono.toml``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    missing_patient: Literal["exclude", "study"] = "exclude"  # study: it stands for the patient
    plane_fields: tuple[str, ...] = ("ViewCodeSequence", "SeriesDescription", "ProtocolName")


@dataclass(frozen=True)
class IngestStage:
    """From file rows to frames. Its input's columns are those of ``_INPUT``; it alone sees a source's bytes."""

    keys: Pseudonymizer = field(repr=False)
    vocabulary: Vocabulary
    center: str
    section: IngestSection

    name = "ingest"
    version = 2

    @property
    def output(self) -> TableSpec:
        return FRAMES

    def config(self) -> Mapping[str, object]:
        synonyms = {plane.id: [plane.name, *plane.synonyms] for plane in self.vocabulary.planes.values()}
        return {**self.section.model_dump(mode="json"), "center": self.center, "planes": synonyms}

    def __call__(self, part: pa.Table) -> StageOutput:
        rows: list[dict[str, object]] = []
        exclusions: list[Exclusion] = []
        for file in part.to_pylist():
            try:
                for frame in self._frames(file):
                    if isinstance(frame, Exclusion):
                        exclusions.append(frame)
                    else:
                        rows.append(frame)
            except ExcludedError as error:
                exclusions.append(Exclusion(file["source_key"], error.reason, error.message))
        return StageOutput(FRAMES.from_rows(rows), exclusions)

    def _frames(self, file: Mapping[str, object]) -> Iterator[dict[str, object] | Exclusion]:
        if file["problem"]:
            raise ExcludedError(str(file["problem"]), MESSAGES[str(file["problem"])])
        content = _read(Path(str(file["path"])))
        source = self._dicom(content, file) if dicom.is_dicom(content) else self._image(content, file)
        fixed: dict[str, object] = {
            **source.columns,
            "source_key": file["source_key"],
            "name_key": file["name_key"],
            "source_sha256": hashlib.sha256(content).hexdigest(),
            "center": file["center"] or self.center,
            "edited_fraction": 0.0,
            "burned_in_text": "unchecked",
        }
        for index, time_ms, pixels, png in source.frames:
            if isinstance(pixels, ExcludedError):
                yield Exclusion(str(file["source_key"]), pixels.reason, pixels.message, index)
                continue
            kept = without_equal_channels(pixels)
            yield {
                **fixed,
                "frame_id": self.keys.frame(str(file["source_key"]), index),
                "image": {"bytes": (png and bare_png(png, kept)) or encode_png(kept), "path": None},
                "height": kept.shape[0],
                "width": kept.shape[1],
                "frame_index": index,
                "frame_time_ms": time_ms,
                "pixel_sha256": pixel_sha256(kept),
                **vars(pixel_statistics(kept)),
            }

    def _dicom(self, content: bytes, file: Mapping[str, object]) -> _Source:
        dataset, facts = dicom.read_header(content, self.section.plane_fields)
        patient_key = file["patient_key"] or (self.keys.patient(facts.patient_id) if facts.patient_id else None)
        accession_key = self.keys.accession(facts.accession) if facts.accession else None
        study_key = file["study_key"] or (self.keys.study(facts.study_id) if facts.study_id else None)
        if patient_key is None and study_key is not None and self.section.missing_patient == "study":
            patient_key = self.keys.patient_of_study(str(study_key))
        if patient_key is None:
            raise ExcludedError("patient_unknown", MESSAGES["patient_unknown"])
        date = file["date"] or facts.study_date
        x, y, width, height = facts.crop
        times = dicom.frame_times_ms(dataset, facts.frame_count)
        header_plane = next(filter(None, map(self.vocabulary.find_plane, facts.plane_texts)), None)
        spacing = (file["pixel_mm"], file["pixel_mm"]) if file["pixel_mm"] else facts.pixel_mm or (None, None)
        return _Source(
            columns={
                "patient_key": patient_key,
                "study_key": study_key or self.keys.only_study(str(patient_key)),
                "accession_key": accession_key,
                "study_day": self._day(patient_key, date),
                "series_key": self.keys.series(facts.series_id) if facts.series_id else None,
                "crop": list(facts.crop),
                "source_height": facts.height,
                "source_width": facts.width,
                "frame_count": facts.frame_count,
                "manufacturer": facts.manufacturer,
                "model": facts.model,
                "mode": facts.mode,
                "plane": file["plane"] or header_plane,
                "plane_source": "metadata" if file["plane"] else "header" if header_plane else None,
                "pixel_mm_x": spacing[0],
                "pixel_mm_y": spacing[1],
                "sector": {"kind": "unknown", "box": [0, 0, width, height], "confidence": 0.0},
            },
            frames=(
                (
                    index,
                    times[index],
                    pixels if isinstance(pixels, ExcludedError) else pixels[y : y + height, x : x + width],
                    None,
                )
                for index, pixels in dicom.read_frames(dataset, facts)
            ),
        )

    def _image(self, content: bytes, file: Mapping[str, object]) -> _Source:
        kind = raster.image_kind(content)
        if kind is None:
            raise ExcludedError("not_an_image", MESSAGES["not_an_image"])
        if file["patient_key"] is None:
            raise ExcludedError("patient_unknown", MESSAGES["patient_unknown"])
        pages = raster.read_frames(content, kind)
        height, width = pages[0].shape[:2]
        return _Source(
            columns={
                "patient_key": file["patient_key"],
                "study_key": file["study_key"] or self.keys.only_study(str(file["patient_key"])),
                "study_day": self._day(file["patient_key"], file["date"]),
                "crop": [0, 0, width, height],
                "source_height": height,
                "source_width": width,
                "frame_count": len(pages),
                "mode": "unknown",
                "plane": file["plane"],
                "plane_source": "metadata" if file["plane"] else None,
                "pixel_mm_x": file["pixel_mm"],
                "pixel_mm_y": file["pixel_mm"],
                "sector": {"kind": "unknown", "box": [0, 0, width, height], "confidence": 0.0},
            },
            frames=(
                (index, None, _same_size(page, height, width), content if kind == "png" else None)
                for index, page in enumerate(pages)
            ),
        )

    def _day(self, patient_key: object, date: object) -> int | None:
        return self.keys.day(str(patient_key), date) if isinstance(date, datetime.date) else None


@dataclass(frozen=True)
class _Source:
    """An opened file: the columns all its frames share; and index, time, pixels and (for a PNG) the file's bytes."""

    columns: Mapping[str, object]
    frames: Iterator[tuple[int, float | None, Pixels | ExcludedError, bytes | None]]


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        raise ExcludedError("unreadable", MESSAGES["unreadable"]) from None


def _same_size(page: Pixels, height: int, width: int) -> Pixels | ExcludedError:
    if page.shape[:2] != (height, width):
        return ExcludedError("unsupported_pixels", "a page of another size than the first")
    return page

"""Ingest: from files to the ``frames`` table. Behind this stage nothing identifies a patient any more."""

from __future__ import annotations

import datetime
import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
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
from sono.manifests.errors import UserError
from sono.manifests.pseudonyms import Pseudonymizer
from sono.manifests.query import query
from sono.manifests.schemas import FRAMES, TableSpec
from sono.manifests.stages import Engine, Exclusion, Part, Progress, RunReport, StageOutput, fingerprint, run_stage
from sono.manifests.store import TableStore
from sono.manifests.vocabulary import Vocabulary
from sono.manifests.workspace import Workspace

from .files import SourceFile, cut, find_files, part_of
from .metadata import FileMetadata, Metadata, read_metadata, require_center

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
class IngestReport:
    """What ingest did; ``warnings`` are about rows of the metadata, by line number."""

    run: RunReport
    files: int
    warnings: Sequence[str] = ()
    unused_metadata_rows: int = 0


def ingest(
    workspace: Workspace,
    sources: Sequence[Path],
    *,
    engine: Engine,
    center: str | None = None,
    metadata: Path | None = None,
    patient_regex: str | None = None,
    progress: Callable[[Progress], None] = lambda _: None,
) -> list[IngestReport]:
    """Bring the frames of every folder in ``sources`` into the workspace, one report a folder.

    Running again reads only what is new or changed. Frames of files that have left a folder leave the workspace; other
    folders' frames stay. The caller holds ``workspace.writing()``.

    Args:
        center: the hospital that the files are from, where the metadata does not say; None: the workspace's.
        metadata: CSV that says of files what their headers do not; where both speak, the CSV holds.
        patient_regex: finds the patient in a file's path relative to its folder; its first group is the identifier.

    Raises:
        UserError: a folder, the CSV or the expression cannot be used, or two folders have files of the same path.
    """
    pattern = _pattern(patient_regex)
    rows = read_metadata(metadata, workspace.vocabulary, patient_required=pattern is None) if metadata else None
    skip = [metadata] if metadata else []
    center = workspace.center if center is None else require_center(center)
    plans = [
        _plan(workspace, center, source, find_files(source, workspace.keys, skip), rows, pattern) for source in sources
    ]
    _check_paths(workspace.store, plans)
    reports = []
    for plan in plans:
        run = run_stage(plan.stage, plan.parts, workspace.store, engine=engine, scope=plan.scope, progress=progress)
        reports.append(
            IngestReport(run, plan.files, rows.warnings if rows else (), len(rows.rows) - plan.used_rows if rows else 0)
        )
    return reports


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


@dataclass(frozen=True)
class _Plan:
    stage: IngestStage
    scope: str
    parts: Sequence[Part]
    source_keys: frozenset[str]
    files: int
    used_rows: int


_INPUT = pa.schema(
    {
        "path": pa.string(),
        "source_key": pa.string(),
        "name_key": pa.string(),
        "patient_key": pa.string(),
        "study_key": pa.string(),
        "plane": pa.string(),
        "center": pa.string(),
        "pixel_mm": pa.float64(),
        "date": pa.date32(),
        "problem": pa.string(),
    }
)


def _pattern(regex: str | None) -> re.Pattern[str] | None:
    if regex is None:
        return None
    try:
        pattern = re.compile(regex)
    except re.error as error:
        raise UserError(f"not a regular expression: {error}", where="--patient-regex", fix="mend it") from error
    if pattern.groups < 1:
        raise UserError(
            "the expression has no group",
            where="--patient-regex",
            fix="put the patient's part in brackets: '^(\\d{3})_'",
        )
    return pattern


def _plan(
    workspace: Workspace,
    center: str,
    folder: Path,
    files: Sequence[SourceFile],
    metadata: Metadata | None,
    pattern: re.Pattern[str] | None,
) -> _Plan:
    names = Counter(file.name_key for file in files)
    clashing = _clashing(files)
    rows: dict[str, dict[str, object]] = {}
    used = 0
    for file in files:
        found, problem = None, None
        if metadata is not None:
            found = metadata.find(file.relative, names[file.name_key] == 1)
            used += found is not None
            if found is None and names[file.name_key] > 1 and metadata.find(file.relative, True):
                problem = "ambiguous_name"
            elif found is None and pattern is None and _is_raster(file.path):
                problem = "not_in_metadata"
        if file.relative in clashing:
            problem = "two_extensions"
        rows[file.relative] = _input_row(file, found, problem, pattern, workspace.keys)
    return _Plan(
        stage=IngestStage(workspace.keys, workspace.vocabulary, center, workspace.section("ingest", IngestSection)),
        scope=workspace.keys.folder(str(folder.resolve())),
        parts=[part_of(part, rows, _INPUT, workspace.keys, "ingest") for part in cut(files)],
        source_keys=frozenset(file.source_key for file in files),
        files=len(files),
        used_rows=used,
    )


def _clashing(files: Sequence[SourceFile]) -> set[str]:
    """Images whose paths differ in the extension only, and so share a key. A text beside an image is no clash."""
    by_key: dict[str, list[SourceFile]] = {}
    for file in files:
        by_key.setdefault(file.source_key, []).append(file)
    clashing: set[str] = set()
    for same in by_key.values():
        images = [file for file in same if len(same) > 1 and _is_image(file.path)]
        if len(images) > 1:
            clashing |= {file.relative for file in images}
    return clashing


def _input_row(
    file: SourceFile,
    found: FileMetadata | None,
    problem: str | None,
    pattern: re.Pattern[str] | None,
    keys: Pseudonymizer,
) -> dict[str, object]:
    row = found or FileMetadata()
    patient_id = row.patient_id
    if not patient_id and pattern is not None:
        match = pattern.search(file.relative)
        patient_id = (match.group(1) or "").strip() if match else ""
        problem = problem or (None if patient_id else "patient_unknown")
    if file.size == 0:
        problem = "empty_file"
    return {
        "path": str(file.path),
        "source_key": file.source_key,
        "name_key": file.name_key,
        "patient_key": keys.patient(patient_id) if patient_id else None,
        "study_key": keys.study(row.study_id) if row.study_id else None,
        "plane": row.plane,
        "center": row.center,
        "pixel_mm": row.pixel_mm,
        "date": row.date,
        "problem": problem or row.problem,
    }


def _check_paths(store: TableStore, plans: Sequence[_Plan]) -> None:
    """Two folders must not hold files of the same relative path: their frames would have the same keys."""
    scopes = {plan.scope for plan in plans}
    seen: set[str] = set()
    for plan in plans:
        if not seen.isdisjoint(plan.source_keys):
            raise UserError(
                f"{len(seen & plan.source_keys)} files have the same path in two of the folders",
                fix="ingest the folder that holds both",
            )
        seen |= plan.source_keys
    # A part with the same files, unchanged, is that of a folder that was moved: it is taken over, not a clash.
    planned = {(part.name, fingerprint(plan.stage, part)) for plan in plans for part in plan.parts}
    other = [
        name
        for name, info in store.parts(FRAMES).items()
        if info.scope not in scopes and (name, info.fingerprint) not in planned
    ]
    if not other:
        return
    paths = [str(store.path(FRAMES, name)) for name in other]
    rows = query("SELECT DISTINCT source_key FROM read_parquet($paths)", {"paths": paths})
    known = set(rows["source_key"].to_pylist())
    if not known.isdisjoint(seen):
        raise UserError(
            f"{len(known & seen)} files have the same path as files ingested from another folder before",
            fix="ingest the folder that holds both, or the folder at its old place if it was moved",
        )


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        raise ExcludedError("unreadable", MESSAGES["unreadable"]) from None


def _first_bytes(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(132)
    except OSError:
        return b""


def _is_image(path: Path) -> bool:
    first = _first_bytes(path)
    return dicom.is_dicom(first) or raster.image_kind(first) is not None


def _is_raster(path: Path) -> bool:
    first = _first_bytes(path)
    # DICOM is asked about first: the preamble of a DICOM file may be a TIFF header.
    return not dicom.is_dicom(first) and raster.image_kind(first) is not None


def _same_size(page: Pixels, height: int, width: int) -> Pixels | ExcludedError:
    if page.shape[:2] != (height, width):
        return ExcludedError("unsupported_pixels", "a page of another size than the first")
    return page

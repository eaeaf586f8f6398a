"""What ingest has to do: a folder's files joined with the metadata and cut into parts."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from sono.curation.images import dicom, raster
from sono.manifests.errors import UserError
from sono.manifests.pseudonyms import Pseudonymizer
from sono.manifests.query import query
from sono.manifests.schemas import FRAMES
from sono.manifests.stages import Part, fingerprint
from sono.manifests.store import TableStore
from sono.manifests.workspace import Workspace

from .files import SourceFile, cut, part_of
from .metadata import FileMetadata, Metadata
from .stage import IngestSection, IngestStage


@dataclass(frozen=True)
class FolderPlan:
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


def patient_pattern(regex: str | None) -> re.Pattern[str] | None:
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


def plan_folder(
    workspace: Workspace,
    center: str,
    folder: Path,
    files: Sequence[SourceFile],
    metadata: Metadata | None,
    pattern: re.Pattern[str] | None,
) -> FolderPlan:
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
    return FolderPlan(
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


def check_paths(store: TableStore, plans: Sequence[FolderPlan]) -> None:
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

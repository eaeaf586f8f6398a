"""What ingest has to do: a folder's files, joined with the metadata and cut into parts."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from sono.curation.cleaning.config import CleaningSection
from sono.curation.images.signatures import SIGNATURE_BYTES, image_kind
from sono.manifests.errors import UserError
from sono.manifests.pseudonyms import Pseudonymizer
from sono.manifests.query import query
from sono.manifests.schemas import FRAMES
from sono.manifests.stages import Part, fingerprint
from sono.manifests.store import TableStore
from sono.manifests.workspace import Workspace

from .config import IngestSection
from .files import SourceFile, cut, part_of
from .metadata import FileMetadata, Metadata
from .stage import IngestStage

INPUT = pa.schema(
    {
        "path": pa.binary(),  # as the file system has it: names need not be UTF-8
        "source_key": pa.string(),
        "name_key": pa.string(),
        "patient_key": pa.string(),
        "patient_center_key": pa.string(),
        "patient_number_key": pa.string(),
        "study_key": pa.string(),
        "plane": pa.string(),
        "center": pa.string(),
        "pixel_mm": pa.float64(),
        "date": pa.date32(),
        "problem": pa.string(),  # the reason code, if the file is to be left out unread
    }
)


@dataclass(frozen=True)
class FolderPlan:
    """What is to be done for one folder.

    Attributes:
        scope: the folder's pseudonym.
        matched_rows: how many rows of the metadata match its files.
    """

    stage: IngestStage
    scope: str
    parts: Sequence[Part]
    source_keys: frozenset[str]
    files: int
    matched_rows: int


def patient_pattern(regex: str | None) -> re.Pattern[str] | None:
    """The compiled ``--patient-regex``.

    Raises:
        UserError: it is not a regular expression, or has no group.
    """
    if regex is None:
        return None
    try:
        pattern = re.compile(regex)
    except re.error as error:
        raise UserError(
            f"not a regular expression: {error}", where="--patient-regex", fix="correct the expression"
        ) from error
    if pattern.groups < 1:
        raise UserError(
            "the expression has no group",
            where="--patient-regex",
            fix="put parentheses around the part that is the patient, as in '^(\\d{3})_'",
        )
    return pattern


def plan_folder(
    workspace: Workspace,
    center: str,
    folder: Path,
    files: Sequence[SourceFile],
    metadata: Metadata | None,
    pattern: re.Pattern[str] | None,
    *,
    cropped: bool,
) -> FolderPlan:
    """The parts of ``folder``, whose files are given.

    Args:
        center: of files for which the metadata names none.
        metadata: None if no CSV was given.
        pattern: finds the patient in a file's relative path, as its first group.
        cropped: the files show nothing but ultrasound.
    """
    names = Counter(file.name_key for file in files)
    clashing = _clashing(files)
    rows: dict[str, dict[str, object]] = {}
    matches = 0
    for file in files:
        found, problem = _look_up(file, metadata, unique=names[file.name_key] == 1, pattern=pattern)
        matches += found is not None
        if file.relative in clashing:
            problem = "two_extensions"
        rows[file.relative] = _input_row(file, found, problem, pattern, workspace.keys, center)
    return FolderPlan(
        stage=IngestStage(
            workspace.keys,
            workspace.vocabulary,
            center,
            workspace.section("ingest", IngestSection),
            workspace.section("cleaning", CleaningSection),
            cropped,
        ),
        scope=workspace.keys.folder(str(folder.resolve())),
        parts=[part_of(part, rows, INPUT, workspace.keys, "ingest") for part in cut(files)],
        source_keys=frozenset(file.source_key for file in files),
        files=len(files),
        matched_rows=matches,
    )


def check_paths(store: TableStore, plans: Sequence[FolderPlan]) -> None:
    """Check that no two folders hold files of the same relative path: their frames would have the same keys.

    Raises:
        UserError: two of the folders do, or one of them and a folder that was ingested before.
    """
    seen: set[str] = set()
    for plan in plans:
        if not seen.isdisjoint(plan.source_keys):
            raise UserError(
                f"{len(seen & plan.source_keys)} files have the same path in two of the folders",
                fix="ingest the folder that contains both",
            )
        seen |= plan.source_keys
    earlier = _earlier_sources(store, plans)
    if not earlier.isdisjoint(seen):
        raise UserError(
            f"{len(earlier & seen)} files have the same path as files already ingested from another folder",
            fix="ingest the folder that contains both, or the folder at its old path if it was moved",
        )


def _clashing(files: Sequence[SourceFile]) -> set[str]:
    """Images whose paths differ only in the extension, and so share a key. A text file beside an image is no clash."""
    by_key: dict[str, list[SourceFile]] = {}
    for file in files:
        by_key.setdefault(file.source_key, []).append(file)
    clashing: set[str] = set()
    for same in by_key.values():
        images = [file for file in same if len(same) > 1 and _kind(file.path)]
        if len(images) > 1:
            clashing |= {file.relative for file in images}
    return clashing


def _look_up(
    file: SourceFile, metadata: Metadata | None, *, unique: bool, pattern: re.Pattern[str] | None
) -> tuple[FileMetadata | None, str | None]:
    """The file's row of the metadata, and the reason code if it needs one and has none.

    Args:
        unique: no other file has the same bare name.
    """
    if metadata is None:
        return None, None
    found = metadata.find(file.relative, unique)
    if found is None and not unique and metadata.find(file.relative, True):
        return None, "ambiguous_name"
    if found is None and pattern is None and _kind(file.path) not in (None, "dicom"):
        return None, "not_in_metadata"
    return found, None


def _input_row(
    file: SourceFile,
    found: FileMetadata | None,
    problem: str | None,
    pattern: re.Pattern[str] | None,
    keys: Pseudonymizer,
    center: str,
) -> dict[str, object]:
    row = found or FileMetadata()
    patient_id = row.patient_id
    if not patient_id and pattern is not None:
        match = pattern.search(file.relative)
        patient_id = (match.group(1) or "").strip() if match else ""
        problem = problem or (None if patient_id else "patient_unknown")
    patient = keys.patient_keys(patient_id, issuer=row.issuer, center=row.center or center) if patient_id else None
    if file.size == 0:
        problem = "empty_file"
    if file.unreadable:
        problem = "unreadable"
    return {
        "path": os.fsencode(file.path),
        "source_key": file.source_key,
        "name_key": file.name_key,
        "patient_key": patient and patient.patient,
        "patient_center_key": patient and patient.center,
        "patient_number_key": patient and patient.number,
        "study_key": keys.study(row.study_id) if row.study_id else None,
        "plane": row.plane,
        "center": row.center,
        "pixel_mm": row.pixel_mm,
        "date": row.date,
        "problem": problem or row.problem,
    }


def _kind(path: Path) -> str | None:
    """``image_kind`` of a file; None if it cannot be read."""
    try:
        with path.open("rb") as file:
            return image_kind(file.read(SIGNATURE_BYTES))
    except OSError:
        return None


def _earlier_sources(store: TableStore, plans: Sequence[FolderPlan]) -> set[str]:
    """The keys of files in the workspace that come from other folders than those of ``plans``."""
    scopes = {plan.scope for plan in plans}
    # A part with the same files, unchanged, is that of a folder that was moved: it is taken over and does not clash.
    planned = {(part.name, fingerprint(plan.stage, part)) for plan in plans for part in plan.parts}
    paths = [
        str(store.path(FRAMES, name))
        for name, info in store.parts(FRAMES).items()
        if info.scope not in scopes and (name, info.fingerprint) not in planned
    ]
    if not paths:
        return set()
    rows = query("SELECT DISTINCT source_key FROM read_parquet($paths)", {"paths": paths})
    return set(rows["source_key"].to_pylist())

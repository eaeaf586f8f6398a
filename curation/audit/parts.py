"""What an audit has to do: the archive's files, each with the parts of the workspace that come from it."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pyarrow as pa

from sono.curation.ingest.files import SourceFile, cut, find_files
from sono.curation.ingest.metadata import FileMetadata, Metadata
from sono.manifests.errors import UserError
from sono.manifests.fingerprints import part_digest
from sono.manifests.schemas import EXCLUSIONS, FRAMES, QC
from sono.manifests.stages import Part
from sono.manifests.store import part_name
from sono.manifests.workspace import Workspace

INPUT = pa.schema(
    {
        "path": pa.binary(),  # as the file system has it: names need not be UTF-8
        "relative": pa.binary(),  # below the folder
        "source_key": pa.string(),
        "frames_parts": pa.list_(pa.string()),  # that have frames of it
        "left_out": pa.bool_(),  # the entire file
        "frames_left_out": pa.list_(pa.int32()),
        "patient_id": pa.string(),  # this and the next: of the metadata, or of the path
        "issuer": pa.string(),
        "study_id": pa.string(),
        "plane": pa.string(),
        "pixel_mm": pa.float64(),
        "date": pa.date32(),
    }
)
"""These rows exist in memory only: they hold what identifies."""


@dataclass(frozen=True)
class Archive:
    """The files of all folders, and what the metadata says about them, by source path below the folder."""

    files: Sequence[SourceFile]
    described: Mapping[str, FileMetadata]
    unmatched: Sequence[tuple[str, FileMetadata]] = field(default=())  # rows of the metadata that match no file

    @property
    def centers(self) -> set[str]:
        """That the metadata names."""
        rows = [*self.described.values(), *(row for _, row in self.unmatched)]
        return {row.center for row in rows if row.center}


def find_archive(
    workspace: Workspace,
    sources: Sequence[Path],
    skip: Sequence[Path],
    metadata: Metadata | None,
    pattern: re.Pattern[str] | None,
) -> Archive:
    """List the folders and match the metadata with them.

    Args:
        skip: files in the folders that are no part of the archive.
        pattern: finds the patient in a file's path, as its first group.
    """
    files: list[SourceFile] = []
    described: dict[str, FileMetadata] = {}
    used: set[int] = set()
    for source in sources:
        found = find_files(source, workspace.keys, skip)
        names = Counter(file.name_key for file in found)
        for file in found:
            row = metadata.find(file.relative, names[file.name_key] == 1) if metadata else None
            used.add(id(row))
            described[str(file.path)] = _described(file, row, pattern)
        files += found
    rows = metadata.rows.items() if metadata else ()
    return Archive(files, described, [(name, row) for name, row in rows if id(row) not in used])


def audit_parts(workspace: Workspace, archive: Archive, words: str) -> list[Part]:
    """The archive in parts.

    Args:
        words: a digest of everything that the workspace says.

    Raises:
        UserError: frames come from files that are in none of the folders.
    """
    frames_parts = _frames_parts(workspace)
    lost = set(frames_parts) - {file.source_key for file in archive.files}
    if lost:
        raise UserError(
            f"{len(lost):,} of the files that were ingested are in none of these folders",
            fix="give every folder that was ingested; if files were removed since, ingest it again",
        )
    left_out = _left_out(workspace)
    read = {name for names in frames_parts.values() for name in names}
    contents = {name: _contents(workspace, name) for name in read}
    return [_part(workspace, archive, files, frames_parts, left_out, contents, words) for files in _cut(archive.files)]


def _described(file: SourceFile, row: FileMetadata | None, pattern: re.Pattern[str] | None) -> FileMetadata:
    if row is not None and row.patient_id:
        return row
    match = pattern.search(file.relative) if pattern else None
    patient = (match.group(1) or "").strip() if match else ""
    given = row or FileMetadata()
    return FileMetadata(patient, given.study_id, given.plane, given.center, given.pixel_mm, given.date, given.issuer)


def _cut(files: Sequence[SourceFile]) -> Iterator[list[SourceFile]]:
    """As ingest cuts a folder, but files of one key stay together."""
    by_key: dict[str, list[SourceFile]] = {}
    for file in files:
        by_key.setdefault(file.source_key, []).append(file)
    firsts = [same[0] for same in by_key.values()]
    for part in cut(firsts):
        yield [file for first in part for file in by_key[first.source_key]]


def _frames_parts(workspace: Workspace) -> dict[str, list[str]]:
    """The parts that have frames of a source, by its key."""
    found: dict[str, list[str]] = {}
    for path in workspace.store.paths(FRAMES):
        name = part_name(path)
        for source_key in set(workspace.store.read(FRAMES, name, ["source_key"])["source_key"].to_pylist()):
            found.setdefault(source_key, []).append(name)
    return found


def _left_out(workspace: Workspace) -> dict[str, set[int | None]]:
    """Indices of frames that ingest left out, by source; None stands for the entire file."""
    found: dict[str, set[int | None]] = {}
    for row in workspace.store.read_all(EXCLUSIONS, ["source_key", "frame_index", "stage", "reason"]).to_pylist():
        stays = row["reason"].startswith("unreadable_") or row["reason"] == "frames_missing"  # the file's frames do
        beside = row["reason"] == "not_an_image"  # a text, which has the key of the image that it stands beside
        if row["stage"] == "ingest" and not stays and not beside:
            found.setdefault(row["source_key"], set()).add(row["frame_index"])
    return found


def _contents(workspace: Workspace, name: str) -> list[str]:
    """Of the parts that the audit of a part of frames reads."""
    paths = [workspace.store.path(table, name) for table in (FRAMES, QC)]
    return [part_digest(path) for path in paths if path.exists()]


def _part(
    workspace: Workspace,
    archive: Archive,
    files: Sequence[SourceFile],
    frames_parts: Mapping[str, list[str]],
    left_out: Mapping[str, set[int | None]],
    contents: Mapping[str, list[str]],
    words: str,
) -> Part:
    rows = [
        _row(file, archive, frames_parts.get(file.source_key, []), left_out.get(file.source_key, set()))
        for file in files
    ]
    facts = [
        [file.relative, file.size, file.mtime_ns, {name: value for name, value in row.items() if name not in _PATHS}]
        for file, row in zip(files, rows, strict=True)
    ]
    read = sorted({name for file in files for name in frames_parts.get(file.source_key, [])})
    digest = json.dumps([facts, [contents[name] for name in read], words], sort_keys=True, default=str)
    return Part(
        name=workspace.keys.content("\n".join(["audit", *(file.source_key for file in files)])),
        digest=workspace.keys.content(digest),
        load=partial(pa.Table.from_pylist, rows, schema=INPUT),
    )


_PATHS = ("path", "relative")


def _row(file: SourceFile, archive: Archive, parts: list[str], left_out: set[int | None]) -> dict[str, object]:
    row = archive.described[str(file.path)]
    return {
        "path": os.fsencode(file.path),
        "relative": os.fsencode(file.relative),
        "source_key": file.source_key,
        "frames_parts": parts,
        "left_out": None in left_out,
        "frames_left_out": sorted(index for index in left_out if index is not None),
        "patient_id": row.patient_id or None,
        "issuer": row.issuer or None,
        "study_id": row.study_id or None,
        "plane": row.plane,
        "pixel_mm": row.pixel_mm,
        "date": row.date,
    }

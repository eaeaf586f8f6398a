"""Ingest: from files to the ``frames`` table. Behind this stage nothing identifies a patient any more."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from sono.manifests.stages import Engine, Progress, RunReport, run_stage
from sono.manifests.workspace import Workspace

from .files import find_files
from .metadata import read_metadata, require_center
from .parts import check_paths, patient_pattern, plan_folder


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
    pattern = patient_pattern(patient_regex)
    rows = read_metadata(metadata, workspace.vocabulary, patient_required=pattern is None) if metadata else None
    skip = [metadata] if metadata else []
    center = workspace.center if center is None else require_center(center)
    plans = [
        plan_folder(workspace, center, source, find_files(source, workspace.keys, skip), rows, pattern)
        for source in sources
    ]
    check_paths(workspace.store, plans)
    reports = []
    for plan in plans:
        run = run_stage(plan.stage, plan.parts, workspace.store, engine=engine, scope=plan.scope, progress=progress)
        reports.append(
            IngestReport(run, plan.files, rows.warnings if rows else (), len(rows.rows) - plan.used_rows if rows else 0)
        )
    return reports

"""Ingest: from files to the ``frames`` table. After this stage nothing identifies a patient."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from sono.curation.cleaning.required import require_readers
from sono.manifests.pulled import refuse_pulled
from sono.manifests.stages import Engine, Progress, RunReport, run_stage
from sono.manifests.workspace import Workspace

from .files import find_files
from .losses import check_losses
from .metadata import read_metadata, require_center
from .parts import check_paths, patient_pattern, plan_folder


@dataclass(frozen=True)
class IngestReport:
    """What ingest did with one folder; ``warnings`` are about rows of the metadata, by line number."""

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
    cropped: bool = False,
    force: bool = False,
    progress: Callable[[Progress], None] = lambda _: None,
) -> list[IngestReport]:
    """Bring the frames of every folder in ``sources`` into the workspace. The caller holds ``workspace.writing()``.

    Running it again reads only what is new or changed. Frames of files that were removed from a folder are removed from
    the workspace; other folders' frames stay.

    Args:
        center: the hospital that the files are from, unless the metadata says otherwise; None means the workspace's.
        metadata: CSV with what headers do not say about the files; it takes precedence over headers.
        patient_regex: finds the patient in a file's path relative to its folder, as its first group.
        cropped: the files show nothing but ultrasound, so that all of a frame is kept; text is removed all the same.
        force: go on even if that removes most of the frames that the workspace has of a folder.

    Returns:
        One report per folder.

    Raises:
        UserError: what reads burned-in text is missing, a folder, the CSV or the expression cannot be used, two folders
            have files of the same path, or most frames of a folder would be removed.
    """
    require_readers()
    refuse_pulled(workspace.path, "nothing is ingested into it")
    pattern = patient_pattern(patient_regex)
    rows = read_metadata(metadata, workspace.vocabulary, patient_required=pattern is None) if metadata else None
    skip = [metadata] if metadata else []
    center = workspace.center if center is None else require_center(center)
    plans = [
        plan_folder(workspace, center, source, find_files(source, workspace.keys, skip), rows, pattern, cropped=cropped)
        for source in sources
    ]
    check_paths(workspace.store, plans)
    if not force:
        for plan, source in zip(plans, sources, strict=True):
            check_losses(workspace.store, plan, source)
    reports = []
    for plan in plans:
        run = run_stage(plan.stage, plan.parts, workspace.store, engine=engine, scope=plan.scope, progress=progress)
        reports.append(
            IngestReport(
                run,
                plan.files,
                warnings=rows.warnings if rows else (),
                unused_metadata_rows=len(rows.rows) - plan.matched_rows if rows else 0,
            )
        )
    return reports

"""The audit: every frame and table of a workspace against the archive that it was made from."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from sono.curation.cleaning.required import require_readers
from sono.curation.ingest.config import IngestSection
from sono.curation.ingest.metadata import read_metadata
from sono.curation.ingest.parts import patient_pattern
from sono.manifests.errors import UserError
from sono.manifests.fingerprints import tables_fingerprint
from sono.manifests.handoff import handoff_file
from sono.manifests.pulled import refuse_pulled
from sono.manifests.schemas import FRAMES, TABLES
from sono.manifests.stages import Crashed, Engine, Progress, run_stage
from sono.manifests.store import TableStore
from sono.manifests.withdrawn import read_withdrawn
from sono.manifests.workspace import Workspace

from .checks.consistency import judge_pairs
from .checks.textless import save_textless
from .findings import FINDINGS, Findings
from .parts import Archive, audit_parts, find_archive
from .report.page import write_audit_page
from .report.result import AuditReport, report_of, save_report, sources_fingerprint
from .sources.header_values import HeaderValues
from .sources.record_values import record_values, require_records
from .stage import AuditStage, hunt
from .words.allowed_words import allowed_words
from .words.dates import readable_dates
from .words.hunt import Hunter, load_hunter
from .words.workspace_words import FOLDER, PartScan, WorkspaceWords, scan_files, table_parts


def audit(
    workspace: Workspace,
    sources: Sequence[Path],
    *,
    engine: Engine,
    centers: Sequence[str] = (),
    metadata: Path | None = None,
    patient_regex: str | None = None,
    records: Sequence[Path] = (),
    own_words: Iterable[str] = (),
    progress: Callable[[Progress], None] = lambda _: None,
) -> AuditReport:
    """Audit the workspace, and write ``audit/`` and ``reports/audit.html``. The caller holds ``workspace.writing()``.

    Running it again audits only what has changed.

    Args:
        sources: every folder that was ingested.
        centers: names of centers that were given to ``ingest``; their words may be in the workspace.
        metadata, patient_regex: as they were given to ``ingest``.
        records: as they were given to ``caption``; what they say about persons must not be in the workspace either.
        own_words: texts whose words may be in the workspace: those of the hospital's own templates.

    Raises:
        UserError: there are no frames, a folder, records or a reader of text are missing, or frames are from elsewhere.
    """
    require_readers()
    refuse_pulled(workspace.path, "there is no archive to audit it against")
    if not workspace.store.count_rows(FRAMES):
        raise UserError("there are no frames to audit", where=str(workspace.path), fix="run sono-curate ingest first")
    require_records(records)
    archive = _list_archive(workspace, sources, metadata, patient_regex)
    named = sorted({workspace.center, *centers, *archive.centers})
    allowed = allowed_words([*own_words, *named])
    findings = Findings()
    words = _scan(workspace, allowed, engine, findings, progress)
    _audit_archive(workspace, archive, named, records, words, allowed, engine, findings, progress)
    report = report_of(
        findings.table().to_pylist(),
        files=len(archive.files),
        frames=workspace.store.count_rows(FRAMES),
        tables_fingerprint=tables_fingerprint(workspace.store, TABLES.values()),
        sources_fingerprint=sources_fingerprint(workspace, archive.files),
    )
    save_report(workspace, report)
    write_audit_page(workspace, report)
    return report


def _list_archive(
    workspace: Workspace, sources: Sequence[Path], metadata: Path | None, patient_regex: str | None
) -> Archive:
    pattern = patient_pattern(patient_regex)
    rows = read_metadata(metadata, workspace.vocabulary, patient_required=pattern is None) if metadata else None
    return find_archive(workspace, sources, [metadata] if metadata else [], rows, pattern)


def _scan(
    workspace: Workspace,
    allowed: frozenset[str],
    engine: Engine,
    findings: Findings,
    progress: Callable[[Progress], None],
) -> WorkspaceWords:
    """Everything that the workspace says and that no rule explains."""
    places = table_parts(workspace.store)
    words = scan_files(workspace.path, allowed)
    scan = PartScan(allowed, words.abbreviated())
    for done, result in enumerate(engine(scan, places), start=1):
        if isinstance(result, Crashed):
            raise UserError(
                "a part crashes the library that reads it",
                where=str(workspace.path),
                fix=f"run: sono-curate check {workspace.path}",
            )
        words.merge(result.words)
        words.explain(result.abbreviated)
        findings.add(result.findings)
        progress(Progress("tables", len(places), done, len(words.pieces), 0))
    for place in words.overfull:
        findings.failed("text_removed", "more_text_than_any_table_holds", place)
    dated = list(readable_dates(words.pieces))
    for piece in dated:
        for place in words.pieces[piece]:
            findings.failed("date_shifted", "a_readable_date", place)
    if not dated:
        findings.passed("date_shifted", "workspace")
    return words


def _audit_archive(
    workspace: Workspace,
    archive: Archive,
    centers: Sequence[str],
    records: Sequence[Path],
    words: WorkspaceWords,
    allowed: frozenset[str],
    engine: Engine,
    findings: Findings,
    progress: Callable[[Progress], None],
) -> None:
    """Every file against its frames and ``words``; every row of the metadata and every record against ``words``."""
    store = TableStore(workspace.path / FOLDER)
    store.clear_leftovers()
    with handoff_file(store.root) as file, handoff_file(store.root) as textless:
        words.save(file)
        save_textless(store.paths(FINDINGS), textless)
        digest = hashlib.sha256(file.read_bytes() + "\n".join(sorted(allowed)).encode()).hexdigest()
        stage = AuditStage(
            workspace.store,
            workspace.keys,
            workspace.vocabulary,
            tuple(workspace.section("ingest", IngestSection).plane_fields),
            words=file,
            allowed=allowed,
            textless=textless,
            withdrawn=read_withdrawn(workspace.path),
            centers=("", *centers),
        )
        parts = audit_parts(workspace, archive, workspace.keys.content(digest))
        done = run_stage(stage, parts, store, engine=engine, progress=progress)
        hunter = load_hunter(file, allowed)
        _hunt_descriptions(archive, hunter, findings)
        _hunt_records(records, hunter, findings)
    for reason, files in done.exclusions.items():
        findings.failed("pixels_retained", reason, "archive", files)  # a decoder that crashes proves nothing
    judge_pairs(store.paths(FINDINGS), findings)
    for name in store.parts(FINDINGS):
        findings.add(store.read(FINDINGS, name))


def _hunt_descriptions(archive: Archive, hunter: Hunter, findings: Findings) -> None:
    """Rows of the metadata that are about no file."""
    for name, row in archive.unmatched:
        values = HeaderValues([(f"metadata_{key}", text) for key, text in _cells(name, row) if text])
        values.dates.update({row.date} if row.date else ())
        hunt(values, hunter, findings)


def _cells(name: str, row: object) -> Iterable[tuple[str, str]]:
    yield "file", " ".join(os.fsencode(name).decode(errors="replace").split("/"))
    for key in ("patient_id", "issuer", "study_id"):
        yield key, str(getattr(row, key))


def _hunt_records(records: Sequence[Path], hunter: Hunter, findings: Findings) -> None:
    for values in record_values(records):
        if values is None:
            findings.empty("text_removed", "a_record_is_not_understood", "records")
        else:
            hunt(values, hunter, findings)

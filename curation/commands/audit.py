"""The command that holds a workspace against the archive that it was made from."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sono.manifests import console

from .captions import template_texts
from .options import JsonOption, TemplatesOption, WorkersOption, WorkspaceArgument, writing_to

if TYPE_CHECKING:
    from sono.curation.audit.result import AuditReport


def audit(
    workspace: WorkspaceArgument,
    sources: Annotated[list[Path], typer.Argument(metavar="SOURCE", help="Every folder that was ingested.")],
    center: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Center that was given to ingest; may be repeated."),
    ] = None,
    metadata: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The CSV that was given to ingest, if one was.")
    ] = None,
    patient_regex: Annotated[
        str | None,
        typer.Option(metavar="REGEX", help="The regular expression that was given to ingest, if one was."),
    ] = None,
    records: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE", help="Clinical records, or folders of them, that were given to caption; may be repeated."
        ),
    ] = None,
    templates: TemplatesOption = None,
    workers: WorkersOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Read the archive again and check that every frame and table is faithful to it and identifies nobody.

    Counts the ten actions of the MIDI-B benchmark and writes reports/audit.html. Exits with 1 if anything fails.

    Example: sono-curate audit archive /data/scans --metadata scans.csv
    """
    from sono.curation.audit.run import audit as run

    with writing_to(workspace, workers, show_progress=not as_json) as (opened, engine, progress):
        report = run(
            opened,
            sources,
            engine=engine,
            centers=center or [],
            metadata=metadata,
            patient_regex=patient_regex,
            records=records or [],
            own_words=template_texts(opened, templates),
            progress=progress,
        )
    if as_json:
        console.print_json({"passed": report.passed, **asdict(report)})
    else:
        _print_report(report, workspace / "reports" / "audit.html")
    if not report.passed:
        raise typer.Exit(console.EXIT_USER_ERROR)


def _print_report(report: AuditReport, page: Path) -> None:
    print(f"{report.frames:,} frames against {report.files:,} files.")
    for name, counts in report.actions.items():
        print(f"{name:<22}{counts.passed:>12,} passed {counts.empty:>12,} empty {counts.failed:>12,} failed")
    for failure in report.failures:
        print(f"failed: {failure.action} in {failure.table}: {failure.reason} ({failure.checks:,})")
    print(f"{'Passed' if report.passed else 'Failed'}. Look at {page}")

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
    from sono.curation.audit.report.result import AuditReport


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
    """Check every frame and table against the archive: nothing needed is lost, and nothing identifies anybody.

    Reads every file again, and every stored image for text that is left (half a second each, the first time). Counts
    the ten actions of the MIDI-B benchmark, writes reports/audit.html, and exits with 1 if anything fails.

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
    print(f"{report.frames:,} frames, checked against {report.files:,} files.")
    print(f"{'':<22}{'passed':>12}{'empty':>12}{'failed':>12}")
    for name, counts in report.actions.items():
        print(f"{name:<22}{counts.passed:>12,}{counts.empty:>12,}{counts.failed:>12,}")
    print("Empty checks had nothing to judge.")
    for failure in report.failures:
        frames = f", for example in {failure.examples[0]}" if failure.examples else ""
        print(f"failed: {failure.action} in {failure.table}: {failure.reason} ({failure.checks:,}{frames})")
    for advice in report.advice:
        print(f"to do: {advice}")
    print(f"{'Passed' if report.passed else 'Failed'}. Look at {page}")

"""Commands that bring frames into the workspace and judge them: ``ingest`` and ``qc``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sono.manifests import console

from .options import (
    JsonOption,
    WorkersOption,
    WorkspaceArgument,
    counts_text,
    print_exclusions,
    print_next,
    work_text,
    writing_to,
)

if TYPE_CHECKING:
    from sono.curation.ingest.run import IngestReport

_WARNINGS_SHOWN = 10
_OF_CROPPED_IMAGES = ("sector_edge_unseen", "sector_uncertain", "sector_fills_frame")
_MANY = 0.2  # of all frames, with reasons that images without a screen around the ultrasound get


def ingest(
    workspace: WorkspaceArgument,
    sources: Annotated[list[Path], typer.Argument(metavar="SOURCE", help="Folders with DICOM files or images.")],
    center: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Hospital that these files come from; if omitted, the workspace's."),
    ] = None,
    metadata: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="CSV (commas, semicolons or tabs) with the columns file and patient_id; optional: study_id, plane, "
            "center, pixel_mm, date.",
        ),
    ] = None,
    patient_regex: Annotated[
        str | None,
        typer.Option(
            metavar="REGEX",
            help="Regular expression whose first group finds the patient in a path below SOURCE.",
        ),
    ] = None,
    cropped: Annotated[
        bool,
        typer.Option(
            "--cropped",
            help="The images show nothing but ultrasound: keep all of each, and only look for text and measurements.",
        ),
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Go on even if most frames of a folder are removed by that.")
    ] = False,
    workers: WorkersOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Read ultrasound files into the workspace, with pseudonyms for patients, studies and file names.

    Frames are cropped to the ultrasound; everything outside of it is blanked, and text and measurement marks within it
    are removed. What is doubtful is for a person to review. A page shows what was done, for someone to sign. Run it
    again to read only what is new or changed.

    Example: sono-curate ingest archive /data/scans --metadata scans.csv
    """
    from sono.curation.ingest.cleaning_page import write_cleaning_report
    from sono.curation.ingest.run import ingest as run

    with writing_to(workspace, workers, show_progress=not as_json) as (opened, engine, progress):
        reports = run(
            opened,
            sources,
            engine=engine,
            center=center,
            metadata=metadata,
            patient_regex=patient_regex,
            cropped=cropped,
            force=force,
            progress=progress,
        )
        page = write_cleaning_report(opened)
    if as_json:
        console.print_json({"sources": [asdict(report) for report in reports], "report": str(page)})
        return
    _print_folders(reports)
    if metadata is not None:
        _print_warnings(metadata, reports[0].warnings)
    print(f"Look at {page}")
    print_next(f"sono-curate qc {workspace}")


def _print_folders(reports: Sequence[IngestReport]) -> None:
    for number, report in enumerate(reports, start=1):
        place = f"folder {number} of {len(reports)}: " if len(reports) > 1 else ""
        print(f"{place}{report.files:,} files, {report.run.rows:,} frames. {work_text(report.run)}")
        print_exclusions(report.run.exclusions)
        if report.unused_metadata_rows:
            print(f"  {report.unused_metadata_rows:,} rows of the metadata match no file here")


def _print_warnings(metadata: Path, warnings: Sequence[str]) -> None:
    for warning in warnings[:_WARNINGS_SHOWN]:
        print(f"  {metadata}, {warning}")
    if len(warnings) > _WARNINGS_SHOWN:
        print(f"  ... and {len(warnings) - _WARNINGS_SHOWN:,} more rows like these")


def qc(workspace: WorkspaceArgument, workers: WorkersOption = 0, as_json: JsonOption = False) -> None:
    """Measure every frame, decide whether to accept, review or reject it, and write a page that shows the result.

    Example: sono-curate qc archive
    """
    from sono.curation.qc.page import count_reasons, write_qc_report
    from sono.curation.qc.run import qc as run
    from sono.curation.status import read_status

    with writing_to(workspace, workers, show_progress=not as_json) as (opened, engine, progress):
        report = run(opened, engine=engine, progress=progress)
        page = write_qc_report(opened)
        found, reasons = read_status(opened), count_reasons(opened.store)
    if as_json:
        shown = {"verdicts": found.verdicts, "reasons": reasons, "report": str(page)}
        console.print_json({"run": asdict(report), **shown})
        return
    print(f"{report.rows:,} frames: {counts_text(found.verdicts)}. {work_text(report)}")
    for reason, count in reasons.items():
        print(f"  {count:,}: {reason}")
    if sum(reasons.get(reason, 0) for reason in _OF_CROPPED_IMAGES) > _MANY * report.rows:
        print("If these images were cropped to the ultrasound before, ingest them with --cropped.")
    print(f"Look at {page}")
    print_next(found.next_step)

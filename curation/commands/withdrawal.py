"""The command ``withdraw``: a patient leaves the workspace, and the next revision of its datasets."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from sono.manifests import console

from .options import JsonOption, WorkspaceArgument, counts_text, print_next, writing_to


def withdraw(
    workspace: WorkspaceArgument,
    patients: Annotated[
        Path,
        typer.Option(
            metavar="FILE",
            help="The patients' numbers, one per line, or a CSV with the columns patient_id, and issuer or center.",
        ),
    ],
    as_json: JsonOption = False,
) -> None:
    """Take patients who took back their consent out of every table, the journal of decisions, caches and reports.

    A later ingest leaves them out. The next build makes a dataset without them.

    Example: sono-curate withdraw archive --patients consent-withdrawn.txt
    """
    from sono.curation.publishing.patient_list import read_patients
    from sono.curation.publishing.withdraw import withdraw as run

    listed = read_patients(patients)
    with writing_to(workspace, 1, show_progress=not as_json) as (opened, _, progress):
        report = run(opened, listed, progress=progress)
    if as_json:
        console.print_json({**asdict(report), "remains": REMAINS})
        return
    print(f"{report.patients:,} patients removed: {counts_text(report.rows)}, {report.events:,} decisions.")
    if report.unknown:
        print(f"{report.unknown:,} of the list have no data here. A later ingest leaves them out, too.")
    print(f"What was removed, by key: {report.proof}")
    print("Not removed:")
    for line in REMAINS:
        print(f"  - {line}")
    print_next(f"sono-curate qc {workspace}")


REMAINS = (
    "decisions on frames whose files had left this workspace before: nothing says whose they were",
    "the source files and the records, and backups of this workspace",
    "datasets that were built before: build again into the same folder",
    "revisions that were published before, and copies that others have made of them",
    "masks exported with masks export, and models fitted or trained on these patients",
)

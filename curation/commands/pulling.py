"""The command ``pull``: a published dataset comes back to a workspace."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from sono.manifests import console

from .options import JsonOption, WorkersOption, WorkspaceArgument, counts_text, print_exclusions, print_next, writing_to


def pull(
    repo: Annotated[
        str, typer.Argument(metavar="REPO", help="Dataset on the Hub, NAMESPACE/NAME, or a folder that build wrote.")
    ],
    workspace: WorkspaceArgument,
    revision: Annotated[
        str | None, typer.Option(metavar="NAME", help="Branch, tag or commit. If omitted, main.")
    ] = None,
    split: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Take only this split; may be repeated.")
    ] = None,
    plane: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Take only frames of this plane; may be repeated.")
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Go on even if most patients of the workspace are not in it any more.")
    ] = False,
    workers: WorkersOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Bring a published dataset back into a workspace: its frames, masks, captions and splits, to correct masks there.

    Run again, it takes what has changed; what was decided in review stays. Interrupted, it resumes.

    Example: sono-curate pull hospital/fetal-frames corrections --revision v1
    """
    from sono.curation.publishing.pull.run import pull as run
    from sono.manifests.hub import quietly

    with writing_to(workspace, workers, show_progress=not as_json) as (opened, engine, progress), quietly(False):
        report = run(
            opened,
            repo,
            revision=revision,
            splits=split or (),
            planes=plane or (),
            force=force,
            engine=engine,
            progress=progress,
        )
    if as_json:
        console.print_json({**asdict(report), "up_to_date": report.up_to_date})
        return
    rows = {name: done.rows for name, done in report.tables.items()}
    print(f"{report.dataset}{' is up to date' if report.up_to_date else ''}: {counts_text(rows)}.")
    if not report.up_to_date:
        for name, done in report.tables.items():
            print(f"  {name}: {done.computed} parts written, {done.up_to_date} up to date, {done.removed} removed")
    for done in report.tables.values():
        print_exclusions(done.exclusions)
    if report.patients_left:
        print(
            f"{report.patients_left:,} patients are not in it any more, and have left the workspace with "
            f"{report.decisions_forgotten:,} decisions."
        )
    print(f"Licence: {report.licence or 'none is stated, so nothing that is built from it can be published'}")
    if report.text == "unchecked":
        print("It does not state that all of its frames were checked for burned-in text: build leaves them out.")
    print_next(f"sono-curate qc {workspace}")

"""Commands about the workspace itself: make it, show where it stands, list what was left out."""

from __future__ import annotations

import contextlib
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from sono.manifests import console
from sono.manifests.errors import UserError

from .options import JsonOption, WorkspaceArgument, counts_text, print_next


def init(
    workspace: Annotated[Path, typer.Argument(metavar="WORKSPACE", help="New folder to create.")],
    center: Annotated[
        str, typer.Option(metavar="NAME", help="Name of the hospital, as it will appear in datasets.")
    ] = "center",
) -> None:
    """Create a workspace: its configuration, and the key that pseudonyms are made with.

    Example: sono-curate init archive --center "Hospital A"
    """
    from sono.manifests.workspace import create

    create(workspace, center)
    key = workspace / "secret.key"
    print(f"Created {workspace}. Back up {key}: without it, new files of a known patient look like a new patient's.")
    print_next(f"sono-curate ingest {workspace} SOURCE")


def status(workspace: WorkspaceArgument, as_json: JsonOption = False) -> None:
    """Show what the workspace holds, what is stale and what to do next.

    Example: sono-curate status archive
    """
    from sono.curation.status import read_status
    from sono.manifests.workspace import open_workspace

    opened = open_workspace(workspace)
    with contextlib.suppress(UserError, OSError):  # another command writes to it, or nobody can: then decisions wait
        opened.apply_decisions()
    found = read_status(opened)
    if as_json:
        console.print_json(asdict(found))
        return
    print(f"center      {found.center if not found.frames else counts_text(found.frames_by_center)}")
    if found.pulled_from:
        print(f"pulled      {found.pulled_from}")
    print(f"frames      {found.frames:,} of {found.patients:,} patients: {counts_text(found.frames_by_plane)}")
    print(f"qc          {counts_text(found.verdicts)}")
    print(f"regions     {sum(found.regions.values()):,}: {counts_text(found.regions)}")
    if found.proposed:
        print(f"proposed    {sum(found.proposed.values()):,}: {counts_text(found.proposed)}")
    if found.decided:
        print(f"decided     {counts_text(found.decided)}")
    if found.decisions_pending:
        print(f"            {found.decisions_pending:,} decisions are not in the tables yet")
    if found.regions or found.proposed:
        print(f"checks      {counts_text({name: count for name, count in found.mask_checks.items() if count})}")
    if found.masks_not_measured:
        print(
            f"            {found.masks_not_measured:,} masks are not measured yet: sono-curate masks check {workspace}"
        )
    print(f"records     {found.records:,}")
    print(f"captions    {found.captions:,}")
    if found.dataset is not None:
        print(f"dataset     {'up to date' if found.dataset.up_to_date else 'stale'}: {found.dataset.path}")
    for stage, reasons in found.exclusions.items():
        print(f"left out    {stage}: {counts_text(reasons)}")
    for stage, parts in found.stale.items():
        print(f"stale       {stage}: {parts} parts")
    print_next(found.next_step)


def check(workspace: WorkspaceArgument, as_json: JsonOption = False) -> None:
    """Verify every part of every table, and say how to repair what is damaged. Exits with 1 if anything is.

    Example: sono-curate check archive
    """
    from sono.curation.check import check_workspace
    from sono.manifests.workspace import open_unchecked

    with console.progress_bar(enabled=not as_json) as progress:
        found = check_workspace(open_unchecked(workspace), progress=progress)
    if as_json:
        console.print_json({"parts": found.parts, "problems": [asdict(problem) for problem in found.problems]})
    else:
        for problem in found.problems:
            print(f"{problem.place}: {problem.what}; {problem.repair}")
        count = len(found.problems)
        print(f"{found.parts:,} parts: {f'{count:,} wrong' if count else 'nothing wrong'}.")
    if found.problems:
        raise typer.Exit(console.EXIT_USER_ERROR)


def exclusions(
    workspace: WorkspaceArgument,
    source: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="SOURCE",
            help="Ingested folder whose files are shown by name, only here; may be repeated.",
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """List everything that was left out, and why.

    The workspace stores no file names. With --source, the names in that folder are hashed again and shown.

    Example: sono-curate exclusions archive --source /data/scans
    """
    from sono.curation.ingest.exclusions import list_exclusions
    from sono.manifests.workspace import open_workspace

    rows = list_exclusions(open_workspace(workspace), source or [])
    if as_json:
        console.print_json({"exclusions": [asdict(row) for row in rows]})
        return
    for row in rows:
        frame = "" if row.frame_index is None else f" frame {row.frame_index}"
        print(f"{row.name or row.source_key}{frame}: {row.stage}: {row.reason}: {row.message}")

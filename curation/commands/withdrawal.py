"""The command ``withdraw``: a patient leaves the workspace, and then the history of a repository on the Hub."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sono.manifests import console
from sono.manifests.errors import UserError

from .options import JsonOption, WorkspaceArgument, counts_text, print_next, writing_to

if TYPE_CHECKING:
    from sono.curation.publishing.squash import SquashPlan
    from sono.manifests.hub_history import Erased


def withdraw(
    workspace: WorkspaceArgument,
    patients: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="The patients' numbers, one per line, or a CSV with the columns patient_id, and issuer or center.",
        ),
    ] = None,
    squash: Annotated[
        str | None,
        typer.Option(
            metavar="REPO",
            help="Erase the history of this repository, whose main has no row of them any more. Cannot be undone.",
        ),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Erase it without asking for its name.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Take patients who took back their consent out of every table, the journal of decisions, caches and reports.

    A later ingest leaves them out. The next build makes a dataset without them; once it is published, --squash erases
    what the repository held before.

    Example: sono-curate withdraw archive --patients consent-withdrawn.txt
    """
    if (patients is None) == (squash is None):
        raise UserError(
            "give either --patients or --squash",
            fix="--patients FILE first; then build and publish again; then --squash REPO",
        )
    if squash is not None:
        _squash(workspace, squash, yes, as_json)
    elif patients is not None:
        _withdraw(workspace, patients, as_json)


def _withdraw(workspace: Path, patients: Path, as_json: bool) -> None:
    from sono.curation.publishing.patient_list import read_patients
    from sono.curation.publishing.withdraw import withdraw as run

    listed = read_patients(patients)
    with writing_to(workspace, 1, show_progress=not as_json, withdrawing=True) as (opened, _, progress):
        report = run(opened, listed, progress=progress)
    if as_json:
        console.print_json({**asdict(report), "remains": REMAINS})
        return
    if report.patients or report.resumed:
        print(f"{report.patients:,} patients removed: {counts_text(report.rows)}, {report.events:,} decisions.")
    else:
        print("None of the list is known here: write the numbers as images or records do, and whose they are.")
    if report.unknown:
        print(f"{report.unknown:,} of the list have no data here. A later ingest leaves them out, too.")
    if report.namesakes:
        print(
            f"{report.namesakes:,} with the same number in the same center stay, because their issuer is another. "
            "If they are the same people, list them with that issuer, too."
        )
    if report.resumed:
        print("An earlier run was interrupted: what it had removed is not counted here.")
    print(f"What was removed, by key: {report.proof}")
    _print_remains(REMAINS)
    print_next(f"sono-curate qc {workspace}")


def _squash(workspace: Path, repo: str, yes: bool, as_json: bool) -> None:
    from sono.curation.publishing.squash import plan_squash
    from sono.curation.publishing.squash import squash as run
    from sono.manifests.hub import check_name, quietly
    from sono.manifests.publishing import confirm_name
    from sono.manifests.workspace import open_workspace

    check_name(repo)
    opened = open_workspace(workspace)
    with opened.writing(), quietly(show_bars=False):
        plan = plan_squash(opened, repo)
        if not yes:
            confirm_name(plan.remote.repo_id, _warning(plan))
        done = run(opened, plan, progress=lambda line: print(line, file=sys.stderr))
    remains, history = list(_remains(plan, done.erased)), done.history
    if as_json:
        console.print_json({**asdict(done), "rows_checked": plan.rows_checked, "remains": remains})
        return
    print(f"{plan.remote.url} is one revision now ({done.erased.commit[:12]}).")
    print(f"None of its {plan.rows_checked:,} rows is of a patient who withdrew.")
    print(f"Deleted: {history.unreferenced:,} contents of {history.unreferenced_bytes:,} bytes.")
    print(f"Added to {', '.join(done.proofs)}")
    _print_remains(remains)


def _warning(plan: SquashPlan) -> str:
    history = plan.history
    refs = [*(f"tag {name}" for name in history.old_tags), *(f"branch {name}" for name in history.branches)]
    return (
        f"{plan.remote.repo_id} will lose {len(history.commits):,} commits for ever, "
        f"{history.unreferenced:,} contents of {history.unreferenced_bytes:,} bytes"
        f"{', and ' + ', '.join(refs) if refs else ''}. Main stays as it is, in one new commit."
    )


def _remains(plan: SquashPlan, erased: Erased) -> Iterator[str]:
    """What the repository still has, and what nobody can take back."""
    if erased.answering:
        yield f"{len(erased.answering):,} old commits, which the Hub still answers to: it removes them in its own time"
    if erased.pull_requests:
        yield f"{', '.join(erased.pull_requests)} hold revisions of their own: ask the Hub's support to remove them"
    if erased.converts:
        yield f"{', '.join(erased.converts)}, the viewer's copy, until the Hub makes it again from main"
    if plan.unchecked:
        yield f"on main, not published from here and not looked into: {', '.join(plan.unchecked)}"
    yield from REMAINS_ELSEWHERE


def _print_remains(lines: tuple[str, ...] | list[str]) -> None:
    print("Not removed:")
    for line in lines:
        print(f"  - {line}")


REMAINS = (
    "decisions on frames whose files had left this workspace before: nothing says whose they were",
    "the source files and the records, and backups of this workspace",
    "datasets that were built before: build again into the same folder",
    "revisions that were published before (publish again, then run withdraw --squash), and others' copies of them",
    "masks exported with masks export, and models fitted or trained on these patients",
)

REMAINS_ELSEWHERE = (
    "other repositories that this workspace was published to: squash each of them",
    "duplicates of the repository that others made on the Hub, workspaces that were pulled from it, and their datasets",
    "copies that were downloaded, and caches of readers and of networks in between",
    "models trained on these patients",
)

"""What the commands of ``sono-curate`` share: arguments, the workspace they write to, and how they print counts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sono.manifests import console

if TYPE_CHECKING:
    from collections.abc import Callable

    from sono.curation.engines.local import LocalEngine
    from sono.manifests.stages import Engine, Progress, RunReport
    from sono.manifests.workspace import Workspace

WorkspaceArgument = Annotated[Path, typer.Argument(metavar="WORKSPACE", help="Folder made by sono-curate init.")]
WorkersOption = Annotated[int, typer.Option(metavar="N", help="Worker processes; 0 means one per processor.", min=0)]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
TemplatesOption = Annotated[
    str | None,
    typer.Option(
        metavar="NAME", help="en, paper, or a folder with your own templates; if omitted, as set in sono.toml."
    ),
]


@contextmanager
def writing_to(
    path: Path, workers: int, *, show_progress: bool, withdrawing: bool = False
) -> Iterator[tuple[Workspace, LocalEngine, Callable[[Progress], None]]]:
    """What every writing command needs: the workspace, held for writing, an engine and a progress bar."""
    from sono.manifests.workspace import open_workspace

    workspace = open_workspace(path)
    engine = local_engine(workers)
    with workspace.writing(withdrawing=withdrawing), console.progress_bar(enabled=show_progress) as progress:
        yield workspace, engine, progress


def local_engine(workers: int) -> LocalEngine:
    """The engine that ``--workers`` asks for."""
    from sono.curation.engines.local import LocalEngine, default_workers

    return LocalEngine(workers or default_workers())


def work_text(report: RunReport) -> str:
    """What a run computed, found up to date and removed, as one sentence."""
    removed = f", {report.removed} removed" if report.removed else ""
    return f"{report.computed} parts computed, {report.up_to_date} up to date{removed}."


def counts_text(counts: Mapping[str, int]) -> str:
    """Counts by name on one line: ``12 accept, 1 reject``."""
    return ", ".join(f"{count:,} {name}" for name, count in counts.items()) or "none"


def print_exclusions(counts: Mapping[str, int]) -> None:
    """One line per reason for which something was left out."""
    for reason, count in counts.items():
        print(f"  left out {count:,}: {reason}")


def print_next(command: str) -> None:
    """The command to run after this one."""
    print(f"Next: {command}")


def check_and_show(
    workspace: Workspace, engine: Engine, progress: Callable[[Progress], None]
) -> tuple[RunReport, Path]:
    """What every command does that adds masks: measure them for the checks, and write the page that shows them."""
    from sono.curation.masks.checks.run import check_masks
    from sono.curation.masks.page import write_masks_report

    report = check_masks(workspace, engine=engine, progress=progress)
    return report, write_masks_report(workspace)

"""Commands that need no archive: draw synthetic examinations, and run every step on them."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from sono.manifests import console

from .options import JsonOption, WorkersOption, local_engine, print_next, work_text


def phantom(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="New folder, or one that an earlier run left unfinished.")],
    exams: Annotated[
        int, typer.Option(metavar="N", help="Number of examinations; each has eight to ten images.", min=1)
    ] = 40,
    seed: Annotated[int, typer.Option(metavar="N", help="Another seed gives other patients.", min=0)] = 0,
    workers: WorkersOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Draw synthetic examinations: DICOM files, clinical records, and the truth about both.

    Nobody in them is real. The same seed gives the same files.

    Example: sono-curate phantom phantoms --exams 40 --seed 1
    """
    from sono.curation.phantom.hospitals import CENTERS
    from sono.curation.phantom.run import draw_phantom

    with console.progress_bar(enabled=not as_json) as progress:
        report = draw_phantom(out, exams=exams, seed=seed, engine=local_engine(workers), progress=progress)
    if as_json:
        console.print_json({"run": asdict(report)})
        return
    print(f"{report.rows:,} frames of {exams:,} examinations. {work_text(report)}")
    for center in CENTERS:  # one by one, because each center has its own folder of masks
        folder = out / "dicom" / center
        if folder.is_dir():
            print_next(f"sono-curate ingest WORKSPACE {folder} --center {center}")


def demo(
    out: Annotated[
        Path, typer.Argument(metavar="OUT", help="New folder, or that of an interrupted demo with the same options.")
    ] = Path("demo"),
    full: Annotated[
        bool, typer.Option("--full", help="The larger archive and three training runs, to show the spread.")
    ] = False,
    exams: Annotated[
        int | None,
        typer.Option(metavar="N", help="Examinations to draw; if omitted, 100, or 240 with --full.", min=4),
    ] = None,
    seed: Annotated[int, typer.Option(metavar="N", help="Another seed draws other patients.", min=0)] = 0,
    runs: Annotated[
        int | None,
        typer.Option(
            metavar="N", help="Training runs, each with its own seed; if omitted, 1, or 3 with --full.", min=1
        ),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change a setting of the recipe tiny; may be repeated."),
    ] = None,
    workers: WorkersOption = 0,
) -> None:
    """Run every step on synthetic examinations, from drawing them to an evaluated model, and write a page about it.

    Takes several minutes on two cores, and longer with --full. If interrupted, run it again: it resumes where it
    stopped.

    Example: sono-curate demo demo
    """
    from sono.curation.demo.plan import FULL, SHORT, DemoPlan
    from sono.curation.demo.run import run_demo

    size = FULL if full else SHORT
    plan = DemoPlan(exams or size.exams, seed, runs or size.runs, tuple(settings or ()), workers)
    page = run_demo(out, plan, report=lambda line: print(line, flush=True))
    print(f"Look at {page}")

"""Commands about masks of anatomical structures: ``masks import``, ``masks carry`` and ``masks check``."""

from __future__ import annotations

import enum
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from sono.curation.masks.formats.registry import FORMATS
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

app = typer.Typer(help="Import masks of anatomical structures.", no_args_is_help=True)


MaskFormat = enum.StrEnum("MaskFormat", list(FORMATS))  # type: ignore[misc]
_FILLED_AREAS = MaskFormat("png")


@app.command("import")
def import_(
    workspace: WorkspaceArgument,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder with mask images, named like their frames.")],
    structure: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Structure that all masks show, as named in planes.toml; if omitted, each folder in DIR is named "
            "after one.",
        ),
    ] = None,
    mask_format: Annotated[
        MaskFormat, typer.Option("--format", help=" ".join(f"{name}: {drawn}." for name, drawn in FORMATS.items()))
    ] = _FILLED_AREAS,
    suffix: Annotated[
        str, typer.Option(metavar="TEXT", help="What mask names add to the image's name, such as _mask.")
    ] = "",
    predicted: Annotated[
        bool,
        typer.Option("--predicted", help="A program made these masks; sono-train evaluate --mask predicted uses them."),
    ] = False,
    workers: WorkersOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Import masks that people drew, or a program predicted, elsewhere, and write a page that shows them.

    They count as accepted.

    Example: sono-curate masks import archive /data/masks --structure head --suffix _mask
    """
    from sono.curation.masks.checks.run import check_masks
    from sono.curation.masks.page import write_masks_report
    from sono.curation.masks.run import import_masks
    from sono.curation.status import read_status

    with writing_to(workspace, workers, show_progress=not as_json) as (opened, engine, progress):
        report = import_masks(
            opened,
            folder,
            structure=structure,
            mask_format=mask_format.value,
            suffix=suffix,
            predicted=predicted,
            engine=engine,
            progress=progress,
        )
        check_masks(opened, engine=engine, progress=progress)
        page = write_masks_report(opened)
        next_step = read_status(opened).next_step
    if as_json:
        console.print_json({"run": asdict(report), "report": str(page)})
        return
    print(f"{report.rows:,} regions. {work_text(report)}")
    print_exclusions(report.exclusions)
    print(f"Look at {page}")
    print_next(next_step)


@app.command()
def carry(
    workspace: WorkspaceArgument,
    structures: Annotated[
        list[str] | None,
        typer.Option(
            "--structure",
            metavar="NAME",
            help="Structure to carry, as named in planes.toml; may be repeated. If omitted, all of them.",
        ),
    ] = None,
    workers: WorkersOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Carry accepted masks to the other frames of their cines, as proposals, by optical flow.

    A mask goes on for as long as it would return to itself; what a person decided upon stays as it is.

    Example: sono-curate masks carry archive
    """
    from sono.curation.masks.carry.run import carry_masks
    from sono.curation.masks.checks.run import check_masks
    from sono.curation.masks.page import write_masks_report

    with writing_to(workspace, workers, show_progress=not as_json) as (opened, engine, progress):
        report = carry_masks(opened, structures=structures or None, engine=engine, progress=progress)
        check_masks(opened, engine=engine, progress=progress)
        page = write_masks_report(opened)
    if as_json:
        console.print_json({"run": asdict(report), "report": str(page)})
        return
    print(f"{report.rows:,} regions. {work_text(report)}")
    print_exclusions(report.exclusions)
    print(f"Look at {page}")


@app.command()
def check(workspace: WorkspaceArgument, workers: WorkersOption = 0, as_json: JsonOption = False) -> None:
    """Look for masks that cannot be right, and write a page that shows them, the worst first.

    Example: sono-curate masks check archive
    """
    from sono.curation.masks.checks.judged import count_faults
    from sono.curation.masks.checks.run import check_masks
    from sono.curation.masks.page import write_masks_report

    with writing_to(workspace, workers, show_progress=not as_json) as (opened, engine, progress):
        report = check_masks(opened, engine=engine, progress=progress)
        faults = count_faults(opened.store, opened.vocabulary)
        page = write_masks_report(opened)
    if as_json:
        console.print_json({"run": asdict(report), "checks": faults, "report": str(page)})
        return
    print(f"{report.rows:,} masks: {counts_text({name: count for name, count in faults.items() if count})}. "
          f"{work_text(report)}")  # fmt: skip
    print(f"Look at {page}")

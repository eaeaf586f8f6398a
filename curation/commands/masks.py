"""Commands about masks of anatomical structures; those that make some are in ``proposals`` and ``segmenter``."""

from __future__ import annotations

import enum
from collections.abc import Sequence
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
    check_and_show,
    counts_text,
    print_exclusions,
    print_next,
    work_text,
    writing_to,
)
from .proposals import carry, propose
from .readers import agreement
from .segmenter import fit

app = typer.Typer(help="Masks of anatomical structures, from and for other tools.", no_args_is_help=True)


MaskFormat = enum.StrEnum("MaskFormat", list(FORMATS))  # type: ignore[misc]
_FILLED_AREAS = MaskFormat("png")


class RegionStatus(enum.StrEnum):
    """What a person or a program decided about a region."""

    PROPOSED = "proposed"
    ACCEPTED = "accepted"
    EDITED = "edited"
    REJECTED = "rejected"


def import_(
    workspace: WorkspaceArgument,
    masks: Annotated[Path, typer.Argument(metavar="DIR", help="Folder with files of masks, or one file.")],
    structure: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Structure that all masks show, as named in planes.toml; if omitted, each folder in DIR is named "
            "after one. Of formats that label their masks: the only structure to import.",
        ),
    ] = None,
    mask_format: Annotated[
        MaskFormat, typer.Option("--format", help=" ".join(f"{name}: {drawn}." for name, drawn in FORMATS.items()))
    ] = _FILLED_AREAS,
    suffix: Annotated[
        str, typer.Option(metavar="TEXT", help="What mask names add to the image's name, such as _mask.")
    ] = "",
    label: Annotated[
        list[str] | None,
        typer.Option(metavar="LABEL=NAME", help="Structure that a label in the files means; may be repeated."),
    ] = None,
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
    from sono.curation.masks.run import import_masks, kept_decisions
    from sono.curation.status import read_status

    with writing_to(workspace, workers, show_progress=not as_json) as (opened, engine, progress):
        report = import_masks(
            opened,
            masks,
            structure=structure,
            mask_format=mask_format.value,
            suffix=suffix,
            labels=_mapping(label or ()),
            predicted=predicted,
            engine=engine,
            progress=progress,
        )
        kept = kept_decisions(opened)
        _, page = check_and_show(opened, engine, progress)
        next_step = read_status(opened).next_step
    if as_json:
        console.print_json({"run": asdict(report), "kept_decisions": kept, "report": str(page)})
        return
    print(f"{report.rows:,} regions. {work_text(report)}")
    print_exclusions(report.exclusions)
    if kept:
        print(f"  kept {kept:,} masks that people decided on: their files have others by now")
    print(f"Look at {page}")
    print_next(next_step)


def _mapping(labels: Sequence[str]) -> dict[str, str]:
    """Structures by label, of arguments ``LABEL=NAME``.

    Raises:
        UserError: one has another form, or a label is there twice.
    """
    from sono.manifests.errors import UserError

    mapping: dict[str, str] = {}
    for argument in labels:
        label, equals, name = argument.rpartition("=")
        if not equals or not label.strip() or label in mapping:
            raise UserError(f"--label {argument!r} does not say what one label means", fix="write --label LABEL=NAME")
        mapping[label] = name
    return mapping


def export(
    workspace: WorkspaceArgument,
    out: Annotated[Path, typer.Argument(metavar="OUT", help="New folder for the masks.")],
    mask_format: Annotated[
        MaskFormat, typer.Option("--format", help=" ".join(f"{name}: {drawn}." for name, drawn in FORMATS.items()))
    ] = _FILLED_AREAS,
    structure: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Only masks of this structure; may be repeated."),
    ] = None,
    status: Annotated[
        list[RegionStatus] | None,
        typer.Option(help="Only masks of this status; may be repeated. If omitted: accepted and edited."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Write masks for other tools, named after their frames' ids: no file name of the archive is stored.

    Example: sono-curate masks export archive masks-coco --format coco --structure head
    """
    from sono.curation.masks.export import export_masks
    from sono.manifests.schemas import ACCEPTED_STATUSES
    from sono.manifests.workspace import open_to_read

    with console.progress_bar(enabled=not as_json) as progress:
        report = export_masks(
            open_to_read(workspace),
            out,
            mask_format=mask_format.value,
            structures=structure or (),
            statuses=[each.value for each in status] if status else ACCEPTED_STATUSES,
            progress=progress,
        )
    if as_json:
        console.print_json(asdict(report))
        return
    print(f"{report.masks:,} masks of {report.frames:,} frames in {out}")
    print_exclusions(report.left_out)
    if report.changed:
        print(
            f"{report.changed:,} masks look different in this format: {report.changed_pixels:,} pixels differ, "
            f"Dice {report.dice_mean:.4f} on average, {report.dice_least:.4f} at worst"
        )


def check(workspace: WorkspaceArgument, workers: WorkersOption = 0, as_json: JsonOption = False) -> None:
    """Look for masks that cannot be right, and write a page that shows them, the worst first.

    Example: sono-curate masks check archive
    """
    from sono.curation.masks.checks.judged import count_faults

    with writing_to(workspace, workers, show_progress=not as_json) as (opened, engine, progress):
        report, page = check_and_show(opened, engine, progress)
        faults = count_faults(opened.store, opened.vocabulary)
    if as_json:
        console.print_json({"run": asdict(report), "checks": faults, "report": str(page)})
        return
    print(f"{report.rows:,} masks: {counts_text({name: count for name, count in faults.items() if count})}. "
          f"{work_text(report)}")  # fmt: skip
    print(f"Look at {page}")


for _name, _command in (
    ("import", import_),
    ("propose", propose),
    ("carry", carry),
    ("check", check),
    ("fit", fit),
    ("agreement", agreement),
    ("export", export),
):
    app.command(_name)(_command)

"""Commands about masks of anatomical structures; ``masks fit`` is in ``segmenter``."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sono.curation.masks.backends.registry import BACKENDS
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
from .segmenter import fit

if TYPE_CHECKING:
    from sono.curation.masks.propose.run import ProposeReport

app = typer.Typer(help="Masks of anatomical structures, from and for other tools.", no_args_is_help=True)


MaskFormat = enum.StrEnum("MaskFormat", list(FORMATS))  # type: ignore[misc]
_FILLED_AREAS = MaskFormat("png")
BackendName = enum.StrEnum("BackendName", list(BACKENDS))  # type: ignore[misc]
_WITHOUT_WEIGHTS = BackendName("grabcut")
_SHOWN_UNKNOWN = 5  # structures whose places are unknown


class RegionStatus(enum.StrEnum):
    """What a person or a program decided about a region."""

    PROPOSED = "proposed"
    ACCEPTED = "accepted"
    EDITED = "edited"
    REJECTED = "rejected"


@app.command("import")
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
    from sono.curation.masks.checks.run import check_masks
    from sono.curation.masks.page import write_masks_report
    from sono.curation.masks.run import import_masks
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


@app.command("export")
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
    from sono.curation.masks.export import STATUSES, export_masks
    from sono.manifests.workspace import open_workspace

    with console.progress_bar(enabled=not as_json) as progress:
        report = export_masks(
            open_workspace(workspace),
            out,
            mask_format=mask_format.value,
            structures=structure or (),
            statuses=[each.value for each in status] if status else STATUSES,
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


app.command("fit")(fit)


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
    backend: Annotated[
        BackendName | None, typer.Option(help="Correct the carried masks by one of the backends of masks propose.")
    ] = None,
    checkpoint: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The model's weights; of onnx, its encoder.")
    ] = None,
    decoder: Annotated[Path | None, typer.Option(metavar="FILE", help="Of onnx, its decoder.")] = None,
    preprocessing: Annotated[
        str,
        typer.Option(metavar="NAME", help="sam, medsam or litemedsam: the files of all three look the same."),
    ] = "sam",
    workers: WorkersOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Carry accepted masks to the other frames of their cines, as proposals, by optical flow.

    A mask goes on for as long as it would return to itself; what a person decided upon stays as it is.

    Example: sono-curate masks carry archive
    """
    from sono.curation.masks.backends.registry import BackendChoice
    from sono.curation.masks.carry.refine import Refiner
    from sono.curation.masks.carry.run import carry_masks
    from sono.curation.masks.checks.run import check_masks
    from sono.curation.masks.page import write_masks_report

    choice = BackendChoice(backend.value, checkpoint, decoder, preprocessing) if backend else None
    refiner = Refiner.of(choice) if choice else None
    processes = workers or (1 if choice and choice.uses_all_processors else 0)
    with writing_to(workspace, processes, show_progress=not as_json) as (opened, engine, progress):
        report = carry_masks(opened, structures=structures or None, refiner=refiner, engine=engine, progress=progress)
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


@app.command()
def propose(
    workspace: WorkspaceArgument,
    backend: Annotated[
        BackendName, typer.Option(help=" ".join(f"{name}: {what}." for name, what in BACKENDS.items()))
    ] = _WITHOUT_WEIGHTS,
    checkpoint: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The model's weights; of onnx, its encoder.")
    ] = None,
    decoder: Annotated[Path | None, typer.Option(metavar="FILE", help="Of onnx, its decoder.")] = None,
    preprocessing: Annotated[
        str,
        typer.Option(metavar="NAME", help="sam, medsam or litemedsam: the files of all three look the same."),
    ] = "sam",
    structure: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Propose only this structure; may be repeated. Other proposals stay."),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Try it on N frames that have no proposals yet.")
    ] = None,
    cache_gb: Annotated[
        float, typer.Option(metavar="GB", min=0, help="What embeddings may take on disk; 0 for none.")
    ] = 20.0,
    workers: Annotated[
        int,
        typer.Option(metavar="N", min=0, help="Worker processes; 0 means one per processor, and one for sam and onnx."),
    ] = 0,
    as_json: JsonOption = False,
) -> None:
    """Propose masks for the structures of frames that have no accepted mask.

    They are not part of any caption or dataset until somebody accepts them.

    Example: sono-curate masks propose archive --backend sam --checkpoint sam_vit_b_01ec64.pth --structure head
    """
    from sono.curation.masks.backends.registry import BackendChoice
    from sono.curation.masks.propose.run import propose_masks

    choice = BackendChoice(backend.value, checkpoint, decoder, preprocessing)
    processes = workers or (1 if choice.uses_all_processors else 0)
    with writing_to(workspace, processes, show_progress=not as_json) as (opened, engine, progress):
        report = propose_masks(
            opened,
            choice,
            structures=structure or (),
            limit=limit,
            cache_gb=cache_gb,
            engine=engine,
            progress=progress,
        )
    if as_json:
        console.print_json(asdict(report))
        return
    print(f"{report.run.rows:,} proposed regions. {work_text(report.run)}")
    print_exclusions(report.run.exclusions)
    print(f"{report.embedded:,} frames embedded, {report.cache_hits:,} taken from the cache.")
    _print_left_alone(report)


def _print_left_alone(report: ProposeReport) -> None:
    """One line for everything for which nothing was proposed on purpose."""
    from sono.curation.masks.propose.places import FEWEST_MASKS, FEWEST_PATIENTS

    if report.accepted:
        print(f"  left alone {report.accepted:,} structures with accepted masks")
    if report.without_plane:
        print(f"  left out {report.without_plane:,} frames without a plane: nobody knows what they show")
    unknown = list(report.unknown_places.items())
    for name, count in unknown[:_SHOWN_UNKNOWN]:
        print(f"  not proposed in {count:,} frames: {name}, whose place is unknown")
    if len(unknown) > _SHOWN_UNKNOWN:
        more = sum(count for _, count in unknown[_SHOWN_UNKNOWN:])
        print(f"  not proposed in {more:,} frames: {len(unknown) - _SHOWN_UNKNOWN} other structures")
    if unknown:
        from sono.curation.masks.propose.places import FEWEST_MASKS, FEWEST_PATIENTS

        print(f"Places are learned once {FEWEST_MASKS} masks of {FEWEST_PATIENTS} patients are accepted for a plane.")

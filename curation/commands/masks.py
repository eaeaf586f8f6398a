"""Commands about masks of anatomical structures: ``masks import``, ``masks propose``."""

from __future__ import annotations

import enum
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
    print_exclusions,
    print_next,
    work_text,
    writing_to,
)

if TYPE_CHECKING:
    from sono.curation.masks.propose.run import ProposeReport

app = typer.Typer(help="Import or propose masks of anatomical structures.", no_args_is_help=True)


MaskFormat = enum.StrEnum("MaskFormat", list(FORMATS))  # type: ignore[misc]
_FILLED_AREAS = MaskFormat("png")
BackendName = enum.StrEnum("BackendName", list(BACKENDS))  # type: ignore[misc]
_WITHOUT_WEIGHTS = BackendName("grabcut")
_SHOWN_UNKNOWN = 5  # structures whose places are unknown


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
    from sono.curation.masks.places import FEWEST_MASKS, FEWEST_PATIENTS

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
        print(f"Places are learned once {FEWEST_MASKS} masks of {FEWEST_PATIENTS} patients are accepted for a plane.")

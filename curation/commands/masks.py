"""Commands about masks of anatomical structures: ``masks import`` and ``masks fit``."""

from __future__ import annotations

import enum
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

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
    from sono.curation.masks.fit.run import FitReport
    from sono.curation.masks.fit.trainer import Epoch

app = typer.Typer(help="Import masks of anatomical structures, and fit a model to them.", no_args_is_help=True)


MaskFormat = enum.StrEnum("MaskFormat", list(FORMATS))  # type: ignore[misc]
_FILLED_AREAS = MaskFormat("png")
_PREPARED_AT_ONCE = 1000


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


@app.command("fit")
def fit(
    workspace: WorkspaceArgument,
    out: Annotated[Path, typer.Argument(metavar="OUT", help="New folder, or that of an interrupted fit.")],
    structures: Annotated[
        list[str] | None,
        typer.Option(
            "--structure",
            metavar="NAME",
            help="Learn only this structure; may be repeated. If omitted, all with masks.",
        ),
    ] = None,
    centers: Annotated[
        list[str] | None,
        typer.Option("--center", metavar="NAME", help="Learn only from this center's frames; may be repeated."),
    ] = None,
    epochs: Annotated[int, typer.Option(metavar="N", help="Passes over the training frames, at most.")] = 60,
    minutes: Annotated[
        float | None,
        typer.Option(metavar="N", help="Minutes of training, at most. The result then depends on the machine."),
    ] = None,
    size: Annotated[
        int, typer.Option(metavar="PX", help="Side of the network's square input, a multiple of 32.")
    ] = 256,
    encoder: Annotated[
        str, typer.Option(metavar="NAME", help="Encoder of segmentation_models_pytorch.")
    ] = "tu-regnetx_002",
    encoder_weights: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Pretrained weights of the encoder to download, such as imagenet."),
    ] = None,
    validation: Annotated[float, typer.Option(metavar="FRACTION", help="Share of patients for validation.")] = 0.2,
    seed: Annotated[
        int, typer.Option(metavar="N", help="Decides who validates, and all that is random in training.", min=0)
    ] = 0,
    as_json: JsonOption = False,
) -> None:
    """Fit a compact network to accepted masks, check it on other patients, and write a page about it.

    Only masks that a person drew, edited or accepted are learned from. If interrupted, run it again: it resumes after
    the last epoch.

    Example: sono-curate masks fit archive segmenter --structure head
    """
    from sono.curation.masks.fit.run import Watch, fit_segmenter
    from sono.curation.masks.fit.settings import Architecture, FitSettings
    from sono.manifests.workspace import open_workspace

    settings = FitSettings(
        Architecture(encoder, size_px=size),
        encoder_weights=encoder_weights,
        epochs=epochs,
        minutes=minutes,
        validation=validation,
        seed=seed,
    )
    watch = Watch() if as_json else Watch(_print_prepared, _print_epoch)
    report = fit_segmenter(
        open_workspace(workspace), out, settings, structures=structures or (), centers=centers or (), watch=watch
    )
    if as_json:
        console.print_json(asdict(report))
        return
    _print_fit(report, workspace)


def _print_prepared(done: int, total: int) -> None:
    if done % _PREPARED_AT_ONCE == 0 or done == total:
        print(f"{done:,} of {total:,} frames prepared", file=sys.stderr, flush=True)


def _print_epoch(epoch: Epoch) -> None:
    print(
        f"epoch {epoch.number + 1}: loss {epoch.loss:.3f}, validation Dice {epoch.dice:.3f}, {epoch.seconds:.0f} s",
        file=sys.stderr,
        flush=True,
    )


def _print_fit(report: FitReport, workspace: Path) -> None:
    figures = report.figures
    frames, patients = figures["frames"], figures["patients"]
    print("Up to date." if report.up_to_date else f"{figures['epochs']} epochs, the best was {figures['best_epoch']}.")
    for side in ("training", "validation"):
        print(f"{side:<11}{frames[side]:>9,} frames of {patients[side]:,} patients")
    for each in figures["structures"]:
        low, high = each["dice_low"], each["dice_high"]
        interval = "one patient" if low is None else f"{low:.3f} to {high:.3f}"
        print(
            f"{each['structure']:<26} Dice {each['dice']:.3f} ({interval}), {each['missed']} of {each['frames']} missed"
        )
    print_exclusions(figures["left_out"])
    print(f"Look at {report.page}")
    print_next(f"sono-curate masks propose {workspace} --backend model --checkpoint {report.model}")

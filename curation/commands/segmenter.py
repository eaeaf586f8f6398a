"""The command ``masks fit``: a model that learns from accepted masks."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sono.manifests import console

from .options import JsonOption, WorkspaceArgument, print_exclusions, print_next

if TYPE_CHECKING:
    from sono.curation.masks.fit.run import FitReport
    from sono.curation.masks.fit.trainer import Epoch

_PREPARED_AT_ONCE = 1000


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
    from sono.manifests.workspace import open_to_read

    network = Architecture(encoder, size_px=size)
    settings = FitSettings(network, encoder_weights, epochs, minutes, validation=validation, seed=seed)
    watch = Watch() if as_json else Watch(_print_prepared, _print_epoch)
    report = fit_segmenter(
        open_to_read(workspace), out, settings, structures=structures or (), centers=centers or (), watch=watch
    )
    if as_json:
        console.print_json(asdict(report))
    else:
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

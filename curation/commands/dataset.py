"""The command that writes a dataset: ``build``."""

from __future__ import annotations

from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from sono.manifests import console

from .options import JsonOption, WorkersOption, WorkspaceArgument, print_exclusions, print_next, writing_to


class ImageFormatName(StrEnum):
    """The choices of ``--image-format``."""

    png = "png"
    webp = "webp"
    jpeg = "jpeg"


def build(
    workspace: WorkspaceArgument,
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder of the dataset.")],
    name: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Name of the dataset, which decides its keys. If omitted, that of the folder OUT."
        ),
    ] = None,
    linkable: Annotated[
        bool,
        typer.Option("--linkable", help="Keep the workspace's keys, so that others can join this dataset with others."),
    ] = False,
    max_side: Annotated[
        int | None, typer.Option(metavar="PX", help="Scale images down until their longer side is at most this.")
    ] = None,
    image_format: Annotated[
        ImageFormatName, typer.Option("--image-format", help="How images are encoded; only jpeg loses anything.")
    ] = ImageFormatName.png,
    quality: Annotated[int, typer.Option(metavar="N", help="Quality of jpeg, 1 to 100.", min=1, max=100)] = 95,
    holdout_center: Annotated[
        str | None, typer.Option(metavar="NAME", help="Make this center's patients the test split.")
    ] = None,
    validation: Annotated[float, typer.Option(metavar="FRACTION", help="Share of patients for validation.")] = 0.1,
    test: Annotated[float, typer.Option(metavar="FRACTION", help="Share of patients for testing.")] = 0.1,
    seed: Annotated[int, typer.Option(metavar="N", help="Decides which split each patient goes to.")] = 0,
    allow_unchecked_text: Annotated[
        bool,
        typer.Option(
            "--allow-unchecked-text",
            help="Include frames not checked for burned-in text. Use it only if you know that they show no names.",
        ),
    ] = False,
    workers: WorkersOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Write a dataset of the accepted, captioned frames, in splits that no patient crosses.

    Example: sono-curate build archive dataset --max-side 512
    """
    from sono.curation.dataset.run import build as run
    from sono.curation.dataset.shards.images import ImageFormat
    from sono.manifests.splits import SplitPlan

    plan = SplitPlan(validation, test, seed, holdout_center)
    with writing_to(workspace, workers, show_progress=not as_json) as (opened, engine, progress):
        report = run(
            opened,
            out,
            plan=plan,
            name=name,
            linkable=linkable,
            max_side_px=max_side,
            allow_unchecked_text=allow_unchecked_text,
            image_format=ImageFormat(image_format.value, quality),
            engine=engine,
            progress=progress,
        )
    if as_json:
        console.print_json(asdict(report))
        return
    for split, rows in report.splits.items():
        print(f"{split:<11}{rows:>9,} frames of {report.patients[split]:,} patients")
    print(f"{report.regions:,} regions. {report.shards_written} shards written, {report.shards_up_to_date} up to date.")
    if report.regions_vanished:
        by_structure = ", ".join(f"{name} {count:,}" for name, count in report.regions_vanished.items())
        total = sum(report.regions_vanished.values())
        print(f"  left out {total:,} regions of which no pixel is left at this size: {by_structure}")
    print_exclusions(report.left_out)
    print_next(f"sono-train pretrain {out} RUN --recipe tiny")

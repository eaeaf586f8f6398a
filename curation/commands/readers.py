"""The command ``masks agreement``: how far the people who review masks agree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from sono.manifests import console

from .options import JsonOption, WorkspaceArgument, print_exclusions

if TYPE_CHECKING:
    from sono.curation.review.agreement.figures import AgreementFigures


def agreement(
    workspace: WorkspaceArgument,
    alike_iou: Annotated[
        float | None,
        typer.Option(
            metavar="IOU",
            help="Below this IoU, two masks that both readers kept are a disagreement; if omitted, as in sono.toml.",
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Compare the readings of masks that were read more than once, and write a page about them.

    Example: sono-curate masks agreement archive
    """
    from sono.curation.review.agreement.run import report_agreement
    from sono.manifests.workspace import open_workspace

    report = report_agreement(open_workspace(workspace), alike_iou=alike_iou)
    if as_json:
        console.print_json({**asdict(report), "path": str(report.path)})
        return
    _print("Two readers", report.between, "No mask has been read by two people.")
    _print("One reader twice", report.within, "No mask has been read twice by one person.")
    print_exclusions(report.left_out)
    print(f"Look at {report.path}")


def _print(title: str, rows: Sequence[AgreementFigures], nothing: str) -> None:
    if not rows:
        print(nothing)
        return
    from sono.curation.review.agreement.page import interval

    print(f"{title}:")
    for row in rows:
        who = " and ".join(dict.fromkeys(row.readers)) if row.readers else "all readers"
        answers = {
            "kept by both": row.both_kept,
            "rejected by both": row.both_rejected,
            "by one": row.only_one + row.only_other,
        }
        print(f"  {who}, {row.structure or 'all structures'}: {row.masks:,} masks of {row.patients:,} patients, "
              + ", ".join(f"{count:,} {answer}" for answer, count in answers.items()))  # fmt: skip
        print(f"    kappa {interval(row.kappa)}, Dice {interval(row.dice)}, IoU {interval(row.iou)}, "
              f"Hausdorff 95 {_distances(row)}")  # fmt: skip
        if row.renamed:
            print(f"    {row.renamed:,} readings say that the mask shows another structure: they count as rejections")
        if row.empty:
            print(f"    {row.empty:,} kept masks were emptied: they have no distance")


def _distances(row: AgreementFigures) -> str:
    from sono.curation.review.agreement.page import interval

    in_mm = [f"{interval(row.hausdorff_mm, 2)} mm"] if row.masks_mm else []
    in_px = [f"{interval(row.hausdorff_px, 1)} px in {row.masks_px:,} without a scale"] if row.masks_px else []
    return ", ".join(in_mm + in_px) or "–"

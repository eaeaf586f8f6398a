"""How far readers agree: what ``sono-curate masks agreement`` reports, from the journal of decisions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sono.curation.review.config import ReviewSection
from sono.manifests.errors import UserError
from sono.manifests.journal import open_journal
from sono.manifests.workspace import Workspace

from .figures import AgreementFigures, agreement_figures
from .page import write_page
from .pairs import Pair, read_pairs


@dataclass(frozen=True)
class AgreementReport:
    """How far readers agree.

    Attributes:
        between: of masks that two people read; ``within``: that one person read twice.
        left_out: second readings that are in no figure, by reason of ``pairs.LEFT_OUT``.
        alike_iou: two masks of a lower IoU are a disagreement.
        path: of the page.
    """

    between: Sequence[AgreementFigures]
    within: Sequence[AgreementFigures]
    left_out: Mapping[str, int]
    alike_iou: float
    path: Path


def report_agreement(workspace: Workspace, *, alike_iou: float | None = None) -> AgreementReport:
    """Compare all readings of masks that were read more than once, and write ``reports/agreement.html``.

    It reads the journal and the table of frames, and needs no lock.

    Args:
        alike_iou: below it two readings that both keep the mask disagree; if omitted, as set in ``sono.toml``.

    Raises:
        UserError: nobody has decided anything yet, or a package is missing.
    """
    if alike_iou is None:
        alike_iou = workspace.section("review", ReviewSection).alike_iou
    if not 0 <= alike_iou <= 1:
        raise UserError(f"an IoU of {alike_iou}", fix="give a number from 0 to 1")
    journal = open_journal(workspace.path)
    if journal is None:
        raise UserError(
            "nobody has reviewed anything in this workspace yet",
            where=str(workspace.path),
            fix="run sono-curate review, with a share of masks that is read twice",
        )
    left_out: Counter[str] = Counter()
    between: list[Pair] = []
    within: list[Pair] = []
    for pair in read_pairs(journal, workspace.store, alike_iou, left_out):
        (within if pair.is_repeat else between).append(pair)
    report = AgreementReport(
        agreement_figures(between),
        agreement_figures(within),
        dict(sorted(left_out.items())),
        alike_iou,
        workspace.reports / "agreement.html",
    )
    write_page(report.path, workspace, report.between, report.within, report.left_out, alike_iou)
    return report

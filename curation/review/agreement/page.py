"""The page about readers: how far they agree on each structure, and with themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from sono.manifests import pages
from sono.manifests.store import write_atomically
from sono.manifests.workspace import Workspace

from .figures import AgreementFigures
from .intervals import Estimate
from .pairs import LEFT_OUT


def write_page(
    path: Path,
    workspace: Workspace,
    between: Sequence[AgreementFigures],
    within: Sequence[AgreementFigures],
    left_out: Mapping[str, int],
    alike_iou: float,
) -> None:
    """Write the page. Readers are named, patients only counted."""
    page = pages.render(
        __package__,
        "page.html",
        center=workspace.center,
        tables=[("Two readers", between), ("One reader twice", within)],
        total=between[0] if between else None,
        repeats=within[0] if within else None,
        left_out=[(reason, LEFT_OUT[reason], count) for reason, count in left_out.items()],
        alike_iou=alike_iou,
        name=_name,
        readers=_readers,
        number=_number,
    )
    write_atomically(path, lambda file: file.write(page.encode()))


def _name(figures: AgreementFigures) -> str:
    return figures.structure.replace("_", " ") if figures.structure else "all structures"


def _readers(figures: AgreementFigures) -> str:
    if figures.readers is None:
        return "all readers"
    one, other = figures.readers
    return one if one == other else f"{one} and {other}"


def _number(value: float, digits: int) -> str:
    return f"{value:.{digits}f}"


def interval(estimate: Estimate, digits: int = 3) -> str:
    """``0.912 (0.880 to 0.941)``; without brackets where there is no interval, a dash where there is no figure."""
    if estimate.value is None:
        return "–"
    if estimate.low is None or estimate.high is None:
        return f"{estimate.value:.{digits}f}"
    return f"{estimate.value:.{digits}f} ({estimate.low:.{digits}f} to {estimate.high:.{digits}f})"

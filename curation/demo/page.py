"""The demo's page: what came in, what was left out and why, what the frames look like, and what the models learned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np

from sono.manifests import pages
from sono.manifests.filenames import RUN_LOG
from sono.manifests.store import write_atomically

from .facts import MASKS, Facts
from .plan import HOLDOUT, Layout


def write_page(layout: Layout, facts: Facts) -> Path:
    confusions = {mask: _confusion(facts.results, mask) for mask in ("none", "region")}
    page = pages.render(
        __package__,
        "page.html",
        facts=facts,
        holdout=HOLDOUT,
        masks=MASKS,
        mean=mean,
        first=facts.results[0],
        widest=max(step.count for step in facts.funnel) or 1,
        curves=_curves(facts.losses),
        confusions=confusions,
        planes=facts.results[0]["masks"]["none"]["confusion"]["true_by_predicted"],
        places=_places(layout),
    )
    write_atomically(layout.page, lambda file: file.write(page.encode()))
    return layout.page


@dataclass(frozen=True)
class Curves:
    """Polylines in a box of 100 x 100, and the ticks of their axes: (place, label)."""

    lines: Sequence[str]
    steps: int
    ticks: Sequence[tuple[float, str]]


def _curves(losses: Sequence[Sequence[tuple[int, float]]]) -> Curves:
    steps = max((step for run in losses for step, _ in run), default=1)
    top = max((loss for run in losses for _, loss in run), default=1.0)
    lines = [" ".join(f"{100 * step / steps:.2f},{100 - 100 * loss / top:.2f}" for step, loss in run) for run in losses]
    return Curves(lines, steps, [(100 - 100 * share, f"{share * top:.1f}") for share in (0.0, 0.5, 1.0)])


def _confusion(results: Sequence[Mapping[str, Any]], mask: str) -> list[list[float]]:
    """Shares of shape [true plane][predicted plane], over all runs; a row of zeros where no frame shows the plane."""
    counts = sum(np.array(result["masks"][mask]["confusion"]["counts"], dtype=np.float64) for result in results)
    rows = np.asarray(counts).sum(axis=1, keepdims=True)
    return [[float(share) for share in row] for row in np.asarray(counts) / np.maximum(rows, 1)]


def _places(layout: Layout) -> list[tuple[str, str]]:
    return [
        (f"{layout.phantoms.name}/dicom", "the archive, as scanners write it"),
        (f"{layout.phantoms.name}/records", "clinical records: CSV, FHIR R4, DICOM SR"),
        (
            f"{layout.phantoms.name}/truth",
            "what the images really show: masks, sectors, text boxes, duplicates, faults",
        ),
        (layout.workspace.name, "tables of frames, verdicts, regions, records, captions; reports/qc.html"),
        (layout.dataset.name, "what datasets.load_dataset reads and sono-train trains on"),
        ("runs", f"checkpoints, {RUN_LOG} and evaluation of each run"),
    ]

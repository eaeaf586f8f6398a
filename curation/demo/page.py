"""The demo's page: what came in, what was left out and why, what the frames look like, and what the models learned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sono.manifests import pages
from sono.manifests.filenames import RUN_LOG
from sono.manifests.publishable import CARD
from sono.manifests.store import write_atomically

from .facts import DemoFacts
from .plan import HOLDOUT, DemoLayout
from .results import SCORED, RunResult


def write_page(layout: DemoLayout, facts: DemoFacts) -> Path:
    page = pages.render(
        __package__,
        "page.html",
        facts=facts,
        holdout=HOLDOUT,
        scored=SCORED,
        first=facts.runs[0],
        widest=max(step.count for step in facts.funnel.steps) or 1,
        curves=_curves([run.losses for run in facts.runs]),
        confusions={mask: _confusion(facts.runs, mask) for mask in ("none", "region")},
        places=_places(layout),
        card=f"{layout.dataset.name}/{CARD}",
    )
    write_atomically(layout.page, lambda file: file.write(page.encode()))
    return layout.page


@dataclass(frozen=True)
class Curves:
    """Polylines in a box of 100 x 100, the last step, and (place, label) of the ticks."""

    lines: Sequence[str]
    steps: int
    ticks: Sequence[tuple[float, str]]


def _curves(losses: Sequence[Sequence[tuple[int, float]]]) -> Curves:
    steps = max((step for run in losses for step, _ in run), default=1)
    top = max((loss for run in losses for _, loss in run), default=1.0)
    lines = [" ".join(f"{100 * step / steps:.2f},{100 - 100 * loss / top:.2f}" for step, loss in run) for run in losses]
    return Curves(lines, steps, [(100 - 100 * share, f"{share * top:.1f}") for share in (0.0, 0.5, 1.0)])


def _confusion(runs: Sequence[RunResult], mask: str) -> list[list[float]]:
    """Shares of shape [true plane][predicted plane], over all runs; zeros in the row of a plane without frames."""
    counts = np.sum([np.array(run.confusion[mask], dtype=np.float64) for run in runs], axis=0)
    frames = counts.sum(axis=1, keepdims=True)
    return [[float(share) for share in row] for row in counts / np.maximum(frames, 1)]


def _places(layout: DemoLayout) -> list[tuple[str, str]]:
    return [
        (f"{layout.phantoms.name}/dicom", "the archive, as scanners write it"),
        (f"{layout.phantoms.name}/records", "clinical records: CSV, FHIR R4, DICOM SR"),
        (
            f"{layout.phantoms.name}/truth",
            "what the images really show: masks, sectors, text boxes, duplicates, faults",
        ),
        (layout.workspace.name, "tables of frames, verdicts, regions, records, captions; pages in reports/"),
        (layout.dataset.name, "what datasets.load_dataset reads and sono-train trains on"),
        (layout.runs.name, f"checkpoints, {RUN_LOG} and evaluation of each run"),
    ]

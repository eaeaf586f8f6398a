"""The tables of an ablation as CSV: one of its cells, and one of its runs."""

from __future__ import annotations

import csv
import io
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .design import SEEN_THROUGH
from .summary import Run, figures_of


def cell_table(content: Mapping[str, Any]) -> Iterator[str]:
    """One line per cell, way of scoring and figure: mean and spread over seeds.

    Args:
        content: of ``ablation.json``.
    """
    yield "masks,loss,positives,seen_through,figure,n_seeds,mean,sd,least,greatest,dataset,fingerprint,split,n_frames,"
    yield "n_patients\n"
    for cell in content["cells"]:
        for mask, name in itertools.product(SEEN_THROUGH, cell["figures"][SEEN_THROUGH[0]]):
            spread = cell["figures"][mask][name]
            yield _line(cell["masks"], cell["kind"], cell["positives"], mask, name, *spread.values(), *_scored(content))


def run_table(runs: Sequence[Run]) -> Iterator[str]:
    """One line per run, way of scoring and figure: the value, and its interval over patients."""
    yield "masks,loss,positives,seed,seen_through,figure,value,low,high,dataset,fingerprint,split,n_frames,n_patients,"
    yield "checkpoint\n"
    for run in runs:
        cell = run.cell
        for mask, name in itertools.product(SEEN_THROUGH, figures_of(run.result)):
            share = run.result["masks"][mask][name]
            interval = share["value"], share["low"], share["high"]
            scored = *_scored(run.result), run.result["checkpoint"]["sha256"]
            yield _line(cell.masks, cell.kind, cell.positives, run.seed, mask, name, *interval, *scored)


def _scored(result: Mapping[str, Any]) -> tuple[object, ...]:
    dataset = result["dataset"]
    return dataset["name"], dataset["fingerprint"], result["split"], result["n_frames"], result["n_patients"]


def _line(*values: object) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(values)
    return text.getvalue()

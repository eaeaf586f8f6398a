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
    yield "masks,loss,positives,seen_through,figure,n_seeds,mean,sd,least,greatest\n"
    for cell in content["cells"]:
        for mask, name in itertools.product(SEEN_THROUGH, cell["figures"][SEEN_THROUGH[0]]):
            spread = cell["figures"][mask][name]
            yield _line(cell["masks"], cell["kind"], cell["positives"], mask, name, *spread.values())


def run_table(runs: Sequence[Run]) -> Iterator[str]:
    """One line per run, way of scoring and figure: the value, and its interval over patients."""
    yield "masks,loss,positives,seed,seen_through,figure,value,low,high\n"
    for run in runs:
        cell = run.cell
        for mask, name in itertools.product(SEEN_THROUGH, figures_of(run.result)):
            share = run.result["masks"][mask][name]
            interval = share["value"], share["low"], share["high"]
            yield _line(cell.masks, cell.kind, cell.positives, run.seed, mask, name, *interval)


def _line(*values: object) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(values)
    return text.getvalue()

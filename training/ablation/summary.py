"""The runs of an ablation taken together: means, spreads, and differences between cells."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sono.training import recipes

from .design import FIGURES, LOSSES, SCORED, SEEN_THROUGH, VARIED, Cell


@dataclass(frozen=True, kw_only=True)
class Run:
    """One training run: a cell's settings with one seed. ``result`` is what ``evaluate`` found."""

    cell: Cell
    seed: int
    result: Mapping[str, Any]

    def value(self, mask: str, figure: str = "top1") -> float:
        """A figure of ``figures_of(result)``, from 0 to 1, as scored through a mask."""
        return float(self.result["masks"][mask][figure]["value"])


@dataclass(frozen=True, kw_only=True)
class Spread:
    """Over seeds: mean, standard deviation (None for a single seed), least and greatest."""

    n: int
    mean: float
    sd: float | None
    least: float
    greatest: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """The spread of one value per seed."""
        return cls(
            n=len(values),
            mean=statistics.fmean(values),
            sd=statistics.stdev(values) if len(values) > 1 else None,
            least=min(values),
            greatest=max(values),
        )


def figures_of(result: Mapping[str, Any]) -> tuple[str, ...]:
    """Those of ``FIGURES`` that a result has: with few planes there is no top-5."""
    return tuple(figure for figure in FIGURES if all(result["masks"][mask][figure] for mask in SEEN_THROUGH))


def summary(runs: Sequence[Run], *, recipe: recipes.Recipe) -> dict[str, Any]:
    """Means and spreads over seeds by cell, and what each choice changes, seed by seed; all of the same frames."""
    scored = {name: runs[0].result[name] for name in SCORED}
    assert all(run.result[name] == value for run in runs for name, value in scored.items())
    return {
        **scored,
        "notes": {code: text for run in runs for code, text in run.result["notes"].items()},
        "recipe": {key: value for key, value in recipes.flatten(recipe).items() if key not in VARIED},
        "seeds": sorted({run.seed for run in runs}),
        "cells": [_cell(cell, runs) for cell in dict.fromkeys(run.cell for run in runs)],
        "differences": list(_differences(runs)),
        "leak": _leak(runs[0].result),
        "runs": [_run(run) for run in runs],
    }


def _leak(result: Mapping[str, Any]) -> dict[str, Any]:
    """What the masks alone give away: of the first run, because no model takes part in it."""
    leak = result.get("leak") or {"not_measured": "another version scored this run"}
    return {name: leak[name] for name in (*FIGURES, "fitted_on", "not_measured") if name in leak}


def _cell(cell: Cell, runs: Sequence[Run]) -> dict[str, Any]:
    def spread(mask: str, figure: str) -> dict[str, Any]:
        return dataclasses.asdict(Spread.of([run.value(mask, figure) for run in runs if run.cell == cell]))

    figures = {mask: {figure: spread(mask, figure) for figure in figures_of(runs[0].result)} for mask in SEEN_THROUGH}
    return {**dataclasses.asdict(cell), "figures": figures}


def _run(run: Run) -> dict[str, Any]:
    scored = run.result["masks"]
    return {
        **dataclasses.asdict(run.cell),
        "seed": run.seed,
        "checkpoint": run.result["checkpoint"],
        "figures": {mask: {figure: scored[mask][figure] for figure in figures_of(run.result)} for mask in SEEN_THROUGH},
        "bootstrap": run.result["bootstrap"],
    }


def _differences(runs: Sequence[Run]) -> Iterator[dict[str, Any]]:
    """Paired by seed: two runs of a seed see the same frames in the same order."""
    by_cell_and_seed = {(run.cell, run.seed): run for run in runs}
    seeds = sorted({run.seed for run in runs})
    for what, label, (cell, mask), (reference, reference_mask) in _comparisons():
        if all((either, seed) in by_cell_and_seed for either in (cell, reference) for seed in seeds):
            gains = [
                by_cell_and_seed[cell, seed].value(mask) - by_cell_and_seed[reference, seed].value(reference_mask)
                for seed in seeds
            ]
            yield {"what": what, "of": label, **dataclasses.asdict(Spread.of(gains))}


_Seen = tuple[Cell, str]


def _comparisons() -> Iterator[tuple[str, str, _Seen, _Seen]]:
    """What is compared, and for which cells; a cell and how it is scored, and the same for what is subtracted."""
    for kind, positives in LOSSES:
        on, off = (Cell(masks=masks, kind=kind, positives=positives) for masks in ("on", "off"))
        yield "masks in training and scoring, minus none in either", on.label, (on, "region"), (off, "none")
        yield "masks in training, minus none, scored without", on.label, (on, "none"), (off, "none")
    for masks, seen in (("off", "none"), ("on", "region")):
        softmax, diagonal, caption = (Cell(masks=masks, kind=kind, positives=positives) for kind, positives in LOSSES)
        label = f"masks {masks}"
        yield "sigmoid minus softmax", label, (caption, seen), (softmax, seen)
        yield "equal captions as positives, minus the diagonal alone", label, (caption, seen), (diagonal, seen)

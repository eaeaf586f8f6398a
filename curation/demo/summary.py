"""The demo's outcome in a few lines for the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from .facts import DemoFacts
from .plan import HOLDOUT
from .results import LEAK, SCORED, Estimate


def summary_lines(facts: DemoFacts) -> Iterator[str]:
    for step in facts.funnel.steps:
        yield f"{step.name:<34}{step.count:>8,}"
    first = facts.runs[0]
    runs = "1 run" if len(facts.runs) == 1 else f"{len(facts.runs)} runs"
    yield ""
    yield (
        f"planes told apart on the held-out center {HOLDOUT}: {first.frames:,} frames of "
        f"{first.patients} patients, {first.planes_present} planes, {runs}"
    )
    yield f"{'mask':<10}{'top-1':>8}{'95% interval' if len(facts.runs) == 1 else 'between runs':>20}{'top-5':>10}"
    for mask in SCORED:
        spread = "same in all runs" if mask == LEAK and len(facts.runs) > 1 else _spread(facts.top1(mask))
        yield f"{mask:<10}{facts.mean_top1(mask):>8.1%}{spread:>20}{facts.mean_top5(mask):>10.1%}"
    for number, difference in enumerate(facts.differences):
        yield f"region - none, run {number}: {100 * difference.value:+.1f} points ({_interval(difference)})"
    yield (
        "region - none is one model seen with and without true masks: not a gain over training without masks, nor one "
        "at a scanner"
    )
    yield f"{LEAK} is what the true masks give away by themselves: no image, no model, no names of structures"


def _spread(estimates: Sequence[Estimate]) -> str:
    """The lowest and the highest of several runs; of a single run, its interval over patients."""
    values = [estimate.value for estimate in estimates]
    low, high = (min(values), max(values)) if len(values) > 1 else (estimates[0].low, estimates[0].high)
    return "none" if low is None or high is None else f"{low:.1%} - {high:.1%}"


def _interval(difference: Estimate) -> str:
    if difference.low is None or difference.high is None:
        return "no interval: too few patients"
    return f"{100 * difference.low:+.1f} to {100 * difference.high:+.1f}"

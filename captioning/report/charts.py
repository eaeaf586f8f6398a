"""Bars and histograms of the page, as numbers to draw."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_MOST_BARS = 80  # of a histogram


@dataclass(frozen=True)
class Bar:
    """A named count; ``share`` of the whole, or of the longest bar beside it, from 0 to 1."""

    name: str
    count: int
    share: float


@dataclass(frozen=True)
class Histogram:
    """Bars as (what it holds, count, left, width, height), and marks and ticks as (place, label); places in percent."""

    bars: Sequence[tuple[str, int, float, float, float]]
    marks: Sequence[tuple[float, str]]
    ticks: Sequence[tuple[float, str]]
    highest: int


def bars_of(counts: Sequence[tuple[str, int]]) -> list[Bar]:
    """A bar for each named count, with its share of all of them."""
    total = sum(count for _, count in counts) or 1
    return [Bar(name, count, count / total) for name, count in counts]


def histogram(
    counts: Mapping[int, int],
    start: int,
    end: int,
    unit: str,
    marks: Sequence[tuple[float, str]],
    edge: float = 0.5,
) -> Histogram:
    """Counts of the integers from ``start`` up to, not including, ``end``.

    Args:
        marks: numbers to mark, and their labels.
        edge: where within its number a mark is drawn: 0 at the left edge, 0.5 in the middle.
    """
    step = math.ceil((end - start) / _MOST_BARS)
    width = 100 / (end - start)
    binned: Counter[int] = Counter()
    for value, count in counts.items():
        binned[(value - start) // step] += count
    highest = max(binned.values(), default=0)
    bars = []
    for bin_, count in sorted(binned.items()):
        first = start + bin_ * step
        held = f"{first}" if step == 1 else f"{first} to {first + step - 1}"
        bars.append((f"{held} {unit}", count, bin_ * step * width, step * width, 100 * count / highest))
    every = max(1, round((end - start) / 8 / 5) * 5)
    ticks = [((value - start + 0.5) * width, str(value)) for value in range(start, end) if value % every == 0]
    return Histogram(bars, [((place - start + edge) * width, label) for place, label in marks], ticks, highest)

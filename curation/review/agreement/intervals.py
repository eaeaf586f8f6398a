"""Figures over masks with intervals over patients, whose masks resemble each other, by the bootstrap."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sono.manifests.errors import import_extra

from .distances import EXTRA

Floats = npt.NDArray[np.float64]

DRAWS = 2000
SEED = 0
_LEVEL = 0.95
_DEFINED = 0.9  # of the draws have to give a figure
_AT_ONCE = 4_000_000  # weights in memory


@dataclass(frozen=True)
class Estimate:
    """A figure with its 95 % interval.

    Attributes:
        value: None if there is nothing to compute it from, as kappa where every answer is the same.
        low, high: None with fewer than two patients, if resampling them changes nothing, or if it often leaves nothing
            to compute.
    """

    value: float | None
    low: float | None = None
    high: float | None = None


def mean(values: Sequence[float], patients: Sequence[str]) -> Estimate:
    """The mean over masks."""
    parts = np.stack([np.asarray(values, np.float64), np.ones(len(values))], axis=1)
    return estimate(lambda sums: _ratio(sums[..., 0], sums[..., 1]), parts, patients)


def kappa(one: Sequence[bool], other: Sequence[bool], patients: Sequence[str]) -> Estimate:
    """Cohen's kappa (1960) of two readers' answers, yes or no."""
    first, second = np.asarray(one, np.bool_), np.asarray(other, np.bool_)
    parts = np.stack([first & second, first & ~second, ~first & second, ~first & ~second], axis=1)
    return estimate(kappa_of_counts, parts.astype(np.float64), patients)


def kappa_of_counts(counts: Floats) -> Floats:
    """From how often both said yes, only the first, only the second, neither: [..., 4] to [...]; NaN if undefined."""
    total = counts.sum(axis=-1)
    yes_one, yes_two = counts[..., 0] + counts[..., 1], counts[..., 0] + counts[..., 2]
    observed = _ratio(counts[..., 0] + counts[..., 3], total)
    expected = _ratio(yes_one * yes_two + (total - yes_one) * (total - yes_two), total**2)
    return _ratio(observed - expected, 1 - expected)


def estimate(statistic: Callable[[Floats], Floats], parts: Floats, patients: Sequence[str]) -> Estimate:
    """A function of sums over masks, with its interval.

    Patients are drawn with replacement, each with all of its masks. The percentiles are taken further out than 2.5 and
    97.5 as few patients need it: Hesterberg's expanded percentile interval ("What Teachers Should Know About the
    Bootstrap", The American Statistician 2015), which allows for Student's t and for the draws' spread being too small.

    Args:
        statistic: from sums of shape [..., parts] to figures of shape [...], NaN where they are undefined.
        parts: shape [masks, parts].
    """
    if not len(parts):
        return Estimate(None)
    value = float(statistic(parts.sum(axis=0)))
    _, of_patient = np.unique(np.asarray(patients), return_inverse=True)
    number = int(of_patient.max()) + 1
    if math.isnan(value):
        return Estimate(None)
    if number < 2:
        return Estimate(value)
    sums = np.stack([np.bincount(of_patient, column, minlength=number) for column in parts.T], axis=1)
    drawn = np.concatenate([statistic(weights @ sums) for weights in _weights(number)])
    drawn = drawn[~np.isnan(drawn)]
    if len(drawn) < _DEFINED * DRAWS or np.ptp(drawn) < 1e-12:
        return Estimate(value)
    outer = _outer_share(number)
    low, high = np.quantile(drawn, [outer, 1 - outer])
    return Estimate(value, float(low), float(high))


def _weights(number: int) -> Iterator[Floats]:
    """How often each patient is in each draw, some draws at a time: [draws, patients]."""
    random = np.random.default_rng(SEED)
    size = max(1, _AT_ONCE // number)
    sizes = [min(size, DRAWS - start) for start in range(0, DRAWS, size)]
    for some in sizes:
        yield random.multinomial(number, np.full(number, 1 / number), size=some).astype(np.float64)


def _outer_share(number: int) -> float:
    """Which share of the draws lies beyond each limit."""
    special = import_extra("scipy.special", EXTRA)
    t = float(special.stdtrit(number - 1, (1 - _LEVEL) / 2))
    return float(special.ndtr(math.sqrt(number / (number - 1)) * t))


def _ratio(above: Floats, below: Floats) -> Floats:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(np.abs(below) > 1e-12, above / below, np.nan)

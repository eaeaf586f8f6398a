"""Calibration: whether a model is right as often as its probabilities say."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sono.training.arrays import Booleans, Floats

BINS = 15


@dataclass(frozen=True)
class Bin:
    """Answers with a probability in (low, high]: their number, their mean probability, and the share that is right."""

    low: float
    high: float
    n: int
    confidence: float
    accuracy: float


def reliability(confidence_N: Floats, right_N: Booleans, bins: int = BINS) -> tuple[float, list[Bin]]:
    """The expected calibration error, and the non-empty bins of equal width that it is the mean over.

    ``sum_b n_b / n |accuracy_b - confidence_b|`` (Guo et al. 2017, "On Calibration of Modern Neural Networks").

    Args:
        confidence_N: for every frame the probability of the answer that was given, above 0 and up to 1.
        right_N: whether it was right.
    """
    numbers_N = np.clip(np.ceil(confidence_N * bins).astype(np.int64) - 1, 0, bins - 1)
    filled = []
    for number in np.unique(numbers_N).tolist():
        inside = numbers_N == number
        filled.append(
            Bin(
                low=number / bins,
                high=(number + 1) / bins,
                n=int(inside.sum()),
                confidence=float(confidence_N[inside].mean()),
                accuracy=float(right_N[inside].mean()),
            )
        )
    error = sum(each.n * abs(each.accuracy - each.confidence) for each in filled) / len(confidence_N)
    return error, filled

"""How far a network's confidence can be trusted: temperatures, reliability curves and the calibration error."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

BINS = 10
_LOW, _HIGH = 0.05, 20.0  # bounds of a temperature
_STEPS = 60

Floats = npt.NDArray[np.float64]
Booleans = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Reliability:
    """Confidence against truth, by bins of equal width from 0 to 1.

    Attributes:
        confidence: the mean of each bin; NaN where it is empty.
        truth: the share of each bin's pixels that belong to the structure.
        weight: share of all pixels in each bin.
        error: the expected calibration error: the weighted mean of |confidence - truth| (Naeini et al. 2015).
    """

    confidence: Floats
    truth: Floats
    weight: Floats
    error: float


def fit_temperature(logits: Floats, truth: Booleans) -> float:
    """The temperature T that makes sigmoid(logits / T) most likely (Guo et al. 2017); masks do not change with it.

    Found by golden section in log T: the loss has one minimum there. Without pixels of both kinds there is nothing to
    fit, and T is 1.
    """
    if truth.all() or not truth.any():
        return 1.0

    def loss(log_temperature: float) -> float:
        scaled = logits / math.exp(log_temperature)
        return float(np.mean(np.logaddexp(0, np.where(truth, -scaled, scaled))))

    low, high = math.log(_LOW), math.log(_HIGH)
    ratio = (math.sqrt(5) - 1) / 2
    inner = [high - ratio * (high - low), low + ratio * (high - low)]
    losses = [loss(inner[0]), loss(inner[1])]
    for _ in range(_STEPS):
        if losses[0] < losses[1]:
            high, inner[1], losses[1] = inner[1], inner[0], losses[0]
            inner[0] = high - ratio * (high - low)
            losses[0] = loss(inner[0])
        else:
            low, inner[0], losses[0] = inner[0], inner[1], losses[1]
            inner[1] = low + ratio * (high - low)
            losses[1] = loss(inner[1])
    return math.exp((low + high) / 2)


def reliability(shares: Floats, truth: Booleans) -> Reliability:
    """The curve of confidences from 0 to 1, and of what is true; both of one shape.

    Raises:
        ValueError: there are none.
    """
    if shares.size == 0:
        raise ValueError("no confidence to compare with the truth")
    bins = np.minimum((shares * BINS).astype(np.int64), BINS - 1)
    number = np.bincount(bins, minlength=BINS).astype(np.float64)
    with np.errstate(invalid="ignore"):
        confidence = np.bincount(bins, shares, minlength=BINS) / number
        true = np.bincount(bins, truth.astype(np.float64), minlength=BINS) / number
    weight = number / number.sum()
    filled = number > 0
    error = float((weight[filled] * np.abs(confidence[filled] - true[filled])).sum())
    return Reliability(confidence, true, weight, error)


def sigmoid(logits: Floats) -> Floats:
    return np.asarray(0.5 * (1 + np.tanh(0.5 * logits)), dtype=np.float64)

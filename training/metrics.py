"""Accuracy by class, with intervals over patients."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Integers = npt.NDArray[np.int64]
Booleans = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A share from 0 to 1, or a difference of two from -1 to 1, with its 95 % interval."""

    value: float
    low: float
    high: float


def mean_per_class(hits_N: Booleans, truth_N: Integers, patients_N: Integers, resamples: int, seed: int) -> Estimate:
    """The mean over the classes present of the share of hits in each.

    The interval is a percentile bootstrap over patients: whole patients are drawn with replacement, because the frames
    of one are alike. A class that a draw misses does not count in it.

    Args:
        hits_N: for every frame whether it was right.
        truth_N: its class.
        patients_N: a number for its patient, from 0 without gaps.
        resamples: how many times patients are drawn.
        seed: of the draws.
    """
    return _mean_with_interval(hits_N.astype(np.float64), truth_N, patients_N, resamples, seed)


def paired_difference(
    hits_N: Booleans, reference_N: Booleans, truth_N: Integers, patients_N: Integers, resamples: int, seed: int
) -> Estimate:
    """``mean_per_class`` of ``hits_N`` minus that of ``reference_N``, hits of another method on the same frames.

    Paired: a draw of patients is the same for both, so what makes a patient easy or hard for both cancels out. Two
    intervals of ``mean_per_class`` may well overlap where that of the difference is clear of zero.
    """
    gains_N = hits_N.astype(np.float64) - reference_N  # 1: right only now, -1: right only in the reference
    return _mean_with_interval(gains_N, truth_N, patients_N, resamples, seed)


def confusion(truth_N: Integers, predicted_N: Integers, classes: int) -> Integers:
    """Counts of shape [true class, predicted class]."""
    counts = np.zeros((classes, classes), dtype=np.int64)
    np.add.at(counts, (truth_N, predicted_N), 1)
    return counts


def _mean_with_interval(
    values_N: Floats, truth_N: Integers, patients_N: Integers, resamples: int, seed: int
) -> Estimate:
    patients, classes = int(patients_N.max()) + 1, int(truth_N.max()) + 1
    frames_PC, sums_PC = np.zeros((2, patients, classes))
    np.add.at(frames_PC, (patients_N, truth_N), 1)
    np.add.at(sums_PC, (patients_N, truth_N), values_N)
    random = np.random.default_rng(seed)
    draws = []
    for _ in range(resamples):
        weights_P = np.bincount(random.integers(patients, size=patients), minlength=patients)
        draws.append(_mean_over_present(weights_P @ sums_PC, weights_P @ frames_PC))
    low, high = np.percentile(draws, [2.5, 97.5])
    return Estimate(_mean_over_present(sums_PC.sum(axis=0), frames_PC.sum(axis=0)), float(low), float(high))


def _mean_over_present(sums_C: Floats, frames_C: Floats) -> float:
    present = frames_C > 0
    return float((sums_C[present] / frames_C[present]).mean())

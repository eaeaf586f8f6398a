"""Figures of a classification or of any measured value, each with an interval over patients."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sono.training.arrays import Floats, Integers

from .bootstrap import Bootstrap, Estimate


def mean(values_N: npt.NDArray[np.generic], bootstrap: Bootstrap) -> Estimate:
    """The mean over all frames."""
    return mean_per_class(values_N, np.zeros(len(values_N), dtype=np.int64), bootstrap)


def mean_per_class(values_N: npt.NDArray[np.generic], truth_N: Integers, bootstrap: Bootstrap) -> Estimate:
    """The mean over the classes present of the mean within each: of hits, mean per-class accuracy.

    A class that a draw misses does not count in that draw.

    Args:
        values_N: for every frame a number, or whether the answer was right.
        truth_N: its class.
        bootstrap: its patient, and how intervals are made.
    """
    parts = bootstrap.by_patient(truth_N, values_N, np.ones(len(truth_N)))
    return bootstrap.estimate(_mean_over_present, parts)


def paired_difference(
    values_N: npt.NDArray[np.generic], reference_N: npt.NDArray[np.generic], truth_N: Integers, bootstrap: Bootstrap
) -> Estimate:
    """``mean_per_class`` of ``values_N`` minus that of ``reference_N``, values of another method on the same frames.

    Paired: both see the same draws of patients, so whatever makes a patient easy or hard for both cancels out. Two
    intervals of ``mean_per_class`` may overlap where that of the difference is clear of zero.
    """
    return mean_per_class(values_N.astype(np.float64) - reference_N.astype(np.float64), truth_N, bootstrap)


def macro_f1(truth_N: Integers, predicted_N: Integers, classes: int, bootstrap: Bootstrap) -> Estimate:
    """The mean over the classes present of F1 = 2 TP / (true + predicted)."""
    hits, ones = truth_N == predicted_N, np.ones(len(truth_N))
    parts = np.zeros((bootstrap.patients, 3, classes))
    for number, (values, labels) in enumerate(((hits, truth_N), (ones, truth_N), (ones, predicted_N))):
        np.add.at(parts[:, number], (bootstrap.patients_N, labels), values.astype(np.float64))
    return bootstrap.estimate(_f1_over_present, parts)


def f1_per_class(counts_CC: Integers) -> Floats:
    """F1 of every class, from ``confusion``; NaN for a class that neither occurs nor is ever the answer."""
    both_C = (counts_CC.sum(axis=0) + counts_CC.sum(axis=1)).astype(np.float64)
    f1_C: Floats = np.divide(2.0 * np.diag(counts_CC), both_C, out=np.full(len(both_C), np.nan), where=both_C > 0)
    return f1_C


def confusion(truth_N: Integers, predicted_N: Integers, classes: int) -> Integers:
    """Counts of shape [true class, predicted class]."""
    counts = np.zeros((classes, classes), dtype=np.int64)
    np.add.at(counts, (truth_N, predicted_N), 1)
    return counts


def _mean_over_present(sums_2C: Floats) -> float:
    values_C, frames_C = sums_2C
    present = frames_C > 0
    return float((values_C[present] / frames_C[present]).mean())


def _f1_over_present(sums_3C: Floats) -> float:
    hits_C, true_C, predicted_C = sums_3C
    present = true_C > 0
    return float((2 * hits_C[present] / (true_C + predicted_C)[present]).mean())

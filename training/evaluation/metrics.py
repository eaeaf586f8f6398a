"""Figures of a classification or of any measured value, each with an interval over patients."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sono.training.arrays import Floats, Integers

from .bootstrap import Bootstrap, Estimate
from .intervals import DIFFERENCE, SHARE, Limits


def mean(values_N: npt.NDArray[np.generic], bootstrap: Bootstrap, limits: Limits = SHARE) -> Estimate:
    """The mean over all frames."""
    return mean_per_class(values_N, np.zeros(len(values_N), dtype=np.int64), bootstrap, limits)


def mean_per_class(
    values_N: npt.NDArray[np.generic], truth_N: Integers, bootstrap: Bootstrap, limits: Limits = SHARE
) -> Estimate:
    """The mean over the classes present of the mean within each: of hits, mean per-class accuracy.

    Args:
        values_N: for every frame a number, or whether the answer was right.
        truth_N: its class.
        bootstrap: its patient, and how intervals are made.
        limits: what the values can be.
    """
    present_N = np.unique(truth_N, return_inverse=True)[1]
    parts_P2C = bootstrap.by_patient(present_N, values_N, np.ones(len(truth_N)))
    return bootstrap.estimate(_mean, parts_P2C, parts_P2C[:, 1], limits)


def paired_difference(
    values_N: npt.NDArray[np.generic], reference_N: npt.NDArray[np.generic], truth_N: Integers, bootstrap: Bootstrap
) -> Estimate:
    """``mean_per_class`` of ``values_N`` minus that of ``reference_N``, values of another method on the same frames.

    Paired: both see the same draws of patients, so whatever makes a patient easy or hard for both cancels out. Two
    intervals of ``mean_per_class`` may overlap where that of the difference is clear of zero.
    """
    difference_N = values_N.astype(np.float64) - reference_N.astype(np.float64)
    return mean_per_class(difference_N, truth_N, bootstrap, DIFFERENCE)


def macro_f1(truth_N: Integers, predicted_N: Integers, classes: int, bootstrap: Bootstrap) -> Estimate:
    """The mean over the classes present of F1 = 2 TP / (true + predicted)."""
    hits, ones = truth_N == predicted_N, np.ones(len(truth_N))
    parts_P3C = np.zeros((bootstrap.patients, 3, classes))
    for number, (values, labels) in enumerate(((hits, truth_N), (ones, truth_N), (ones, predicted_N))):
        np.add.at(parts_P3C[:, number], (bootstrap.patients_N, labels), values.astype(np.float64))
    parts_P3C = parts_P3C[:, :, np.unique(truth_N)]
    return bootstrap.estimate(_f1, parts_P3C, parts_P3C[:, 1], SHARE)


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


def _mean(sums_2C: Floats) -> Floats:
    """By class, of sums of shape [..., 2, classes]: of values, and of frames."""
    means_C: Floats = sums_2C[..., 0, :] / sums_2C[..., 1, :]
    return means_C


def _f1(sums_3C: Floats) -> Floats:
    """By class, of sums of shape [..., 3, classes]: of hits, of true frames, and of answers."""
    f1_C: Floats = 2 * sums_3C[..., 0, :] / (sums_3C[..., 1, :] + sums_3C[..., 2, :])
    return f1_C

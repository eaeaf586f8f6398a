"""Figures of a classification or of any measured value, with intervals over patients."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sono.training.arrays import Booleans, Floats, Integers

CALIBRATION_BINS = 15


@dataclass(frozen=True)
class Estimate:
    """A figure, such as a share from 0 to 1 or a difference of two, with its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Draws:
    """Patients of the frames, and how often they are drawn for an interval.

    The interval is a percentile bootstrap over patients: whole patients are drawn with replacement, because the frames
    of one are alike. Equal draws give equal weights, so that figures of several methods may be compared.

    Args:
        patients_N: for every frame a number for its patient, from 0 without gaps.
        resamples: how many times patients are drawn.
        seed: of the draws.
    """

    patients_N: Integers
    resamples: int
    seed: int

    def estimate(self, statistic: Callable[[Floats], float], parts_PK: Floats) -> Estimate:
        """``statistic`` of the sums over patients of ``parts_PK``, [patients, ...]."""
        random = np.random.default_rng(self.seed)
        patients = len(parts_PK)
        draws = []
        for _ in range(self.resamples):
            weights_P = np.bincount(random.integers(patients, size=patients), minlength=patients).astype(np.float64)
            draws.append(statistic(np.tensordot(weights_P, parts_PK, axes=1)))
        low, high = np.percentile(draws, [2.5, 97.5])
        return Estimate(statistic(parts_PK.sum(axis=0)), float(low), float(high))

    def of(self, chosen_N: Booleans) -> Draws:
        """The draws for some of the frames alone."""
        numbers = np.unique(self.patients_N[chosen_N], return_inverse=True)[1]
        return Draws(numbers, self.resamples, self.seed)

    def by_patient(self, classes_N: Integers, *values_N: npt.NDArray[np.generic]) -> Floats:
        """Sums of values by patient and class, of shape [patients, values, classes]."""
        sums = np.zeros((int(self.patients_N.max()) + 1, len(values_N), int(classes_N.max()) + 1))
        for number, values in enumerate(values_N):
            np.add.at(sums[:, number], (self.patients_N, classes_N), values.astype(np.float64))
        return sums


def mean(values_N: npt.NDArray[np.generic], draws: Draws) -> Estimate:
    """The mean over all frames."""
    return mean_per_class(values_N, np.zeros(len(values_N), dtype=np.int64), draws)


def mean_per_class(values_N: npt.NDArray[np.generic], truth_N: Integers, draws: Draws) -> Estimate:
    """The mean over the classes present of the mean of each: of hits, mean per-class accuracy.

    A class that a draw misses does not count in it.

    Args:
        values_N: for every frame a number, or whether it was right.
        truth_N: its class.
        draws: its patient, and how intervals are made.
    """
    parts = draws.by_patient(truth_N, values_N, np.ones(len(truth_N)))
    return draws.estimate(_mean_over_present, parts)


def paired_difference(
    values_N: npt.NDArray[np.generic], reference_N: npt.NDArray[np.generic], truth_N: Integers, draws: Draws
) -> Estimate:
    """``mean_per_class`` of ``values_N`` minus that of ``reference_N``, values of another method on the same frames.

    Paired: a draw of patients is the same for both, so what makes a patient easy or hard for both cancels out. Two
    intervals of ``mean_per_class`` may well overlap where that of the difference is clear of zero.
    """
    return mean_per_class(values_N.astype(np.float64) - reference_N.astype(np.float64), truth_N, draws)


def macro_f1(truth_N: Integers, predicted_N: Integers, classes: int, draws: Draws) -> Estimate:
    """The mean over the classes present of F1 = 2 TP / (true + predicted)."""
    hits, ones = truth_N == predicted_N, np.ones(len(truth_N))
    parts = np.zeros((int(draws.patients_N.max()) + 1, 3, classes))
    for number, (values, labels) in enumerate(((hits, truth_N), (ones, truth_N), (ones, predicted_N))):
        np.add.at(parts[:, number], (draws.patients_N, labels), values.astype(np.float64))
    return draws.estimate(_f1_over_present, parts)


def f1_per_class(counts_CC: Integers) -> Floats:
    """F1 of every class out of ``confusion``; NaN where a class is neither there nor ever the answer."""
    both_C = (counts_CC.sum(axis=0) + counts_CC.sum(axis=1)).astype(np.float64)
    found: Floats = np.divide(2.0 * np.diag(counts_CC), both_C, out=np.full(len(both_C), np.nan), where=both_C > 0)
    return found


def confusion(truth_N: Integers, predicted_N: Integers, classes: int) -> Integers:
    """Counts of shape [true class, predicted class]."""
    counts = np.zeros((classes, classes), dtype=np.int64)
    np.add.at(counts, (truth_N, predicted_N), 1)
    return counts


@dataclass(frozen=True)
class Bin:
    """Answers whose probability lies in (low, high]: how many, their mean probability, and the share that is right."""

    low: float
    high: float
    n: int
    confidence: float
    accuracy: float


def reliability(confidence_N: Floats, right_N: Booleans, bins: int = CALIBRATION_BINS) -> tuple[float, list[Bin]]:
    """The expected calibration error, and the bins of equal width, without empty ones, that it is the mean over.

    ``sum_b n_b / n |accuracy_b - confidence_b|`` (Guo et al. 2017, "On Calibration of Modern Neural Networks").

    Args:
        confidence_N: for every frame the probability of the answer that was given, above 0 and up to 1.
        right_N: whether it was right.
    """
    numbers_N = np.clip(np.ceil(confidence_N * bins).astype(np.int64) - 1, 0, bins - 1)
    found = []
    for number in np.unique(numbers_N).tolist():
        inside = numbers_N == number
        found.append(
            Bin(
                low=number / bins,
                high=(number + 1) / bins,
                n=int(inside.sum()),
                confidence=float(confidence_N[inside].mean()),
                accuracy=float(right_N[inside].mean()),
            )
        )
    error = sum(one.n * abs(one.accuracy - one.confidence) for one in found) / len(confidence_N)
    return error, found


def _mean_over_present(sums_2C: Floats) -> float:
    values_C, frames_C = sums_2C
    present = frames_C > 0
    return float((values_C[present] / frames_C[present]).mean())


def _f1_over_present(sums_3C: Floats) -> float:
    hits_C, true_C, predicted_C = sums_3C
    present = true_C > 0
    return float((2 * hits_C[present] / (true_C + predicted_C)[present]).mean())


RESAMPLES = 1000

"""Intervals over patients: a figure computed again on patients drawn with replacement."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sono.training.arrays import Booleans, Floats, Integers

RESAMPLES = 1000


@dataclass(frozen=True)
class Estimate:
    """A figure, such as a share from 0 to 1 or a difference of two, with its 95 % interval.

    ``n`` is how many frames, queries or masks it is computed from, ``n_patients`` how many patients these are of.
    """

    value: float
    low: float
    high: float
    n: int
    n_patients: int


@dataclass(frozen=True)
class Bootstrap:
    """The patients of the frames, and how often they are drawn for an interval.

    The interval is a percentile bootstrap over patients: all frames of a patient are drawn together, because they are
    alike. Equal bootstraps draw the same patients, so figures of several methods can be compared.

    Args:
        patients_N: for every frame a number for its patient, from 0 without gaps.
        resamples: how many times patients are drawn.
        seed: of the draws.
    """

    patients_N: Integers
    resamples: int
    seed: int

    @property
    def patients(self) -> int:
        return int(self.patients_N.max()) + 1

    def take(self, frames: Booleans | Integers) -> Bootstrap:
        """The bootstrap of some frames alone, chosen by a mask or by their positions; a frame may occur repeatedly."""
        numbers = np.unique(self.patients_N[frames], return_inverse=True)[1]
        return Bootstrap(numbers, self.resamples, self.seed)

    def by_patient(self, classes_N: Integers, *values_N: npt.NDArray[np.generic]) -> Floats:
        """Sums of values by patient and class, of shape [patients, values, classes]."""
        sums = np.zeros((self.patients, len(values_N), int(classes_N.max()) + 1))
        for number, values in enumerate(values_N):
            np.add.at(sums[:, number], (self.patients_N, classes_N), values.astype(np.float64))
        return sums

    def estimate(self, statistic: Callable[[Floats], float], parts_PK: Floats) -> Estimate:
        """``statistic`` of the sums over patients of ``parts_PK``, [patients, ...], with its interval."""
        random = np.random.default_rng(self.seed)
        patients = len(parts_PK)
        draws = []
        for _ in range(self.resamples):
            weights_P = np.bincount(random.integers(patients, size=patients), minlength=patients).astype(np.float64)
            draws.append(statistic(np.tensordot(weights_P, parts_PK, axes=1)))
        low, high = np.percentile(draws, [2.5, 97.5])
        value = statistic(parts_PK.sum(axis=0))
        return Estimate(value, float(low), float(high), len(self.patients_N), patients)

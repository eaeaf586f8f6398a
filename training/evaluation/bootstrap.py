"""The Bayesian bootstrap over patients: a figure computed again with the patients weighted at random."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sono.training.arrays import Booleans, Floats, Integers

from .intervals import Limits, Spread, interval

RESAMPLES = 1000
METHOD = "Bayesian bootstrap over patients, corrected for few of them"


@dataclass(frozen=True)
class Estimate:
    """A figure, such as a share from 0 to 1 or a difference of two, with its 95 % interval.

    There is no interval, and both limits are None, where no class is seen in two patients: nothing then tells how much
    patients differ. ``n`` is how many frames, queries or masks it is computed from, ``n_patients`` how many patients
    these are of.
    """

    value: float
    low: float | None
    high: float | None
    n: int
    n_patients: int


@dataclass(frozen=True)
class Bootstrap:
    """The patients of the frames, and how often they are drawn for an interval.

    The Bayesian bootstrap (Rubin 1981) weighs patients at random, all frames of a patient alike, because they resemble
    each other. It leaves no patient out, so every class stays in every draw. Patients drawn with replacement miss a
    rare class now and then, and the mean over the others is another figure. Keeping every class makes the draws too
    much alike where a class has few patients: ``intervals.Spread`` makes up for that. benchmarks/intervals.py
    measures how often the intervals are right. Equal bootstraps draw equal weights, so figures of several methods can
    be compared.

    Args:
        patients_N: for every frame a number for its patient, from 0 without gaps.
        resamples: how many times patients are weighted.
        seed: of the weights.
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

    def estimate(
        self, statistic: Callable[[Floats], Floats], parts_PVC: Floats, frames_PC: Floats, limits: Limits
    ) -> Estimate:
        """The mean over classes of a statistic of sums over patients, with its interval.

        Args:
            statistic: from sums of shape [..., values, classes] to a figure for every class, [..., classes].
            parts_PVC: what is summed, by patient.
            frames_PC: how many frames of each class a patient has; every class has some.
            limits: the least and the greatest that the figures can be.
        """
        value = float(statistic(parts_PVC.sum(axis=0)).mean())
        spread = Spread.of(statistic(np.tensordot(self._weights(), parts_PVC, axes=1)), frames_PC)
        low, high = (None, None) if spread is None else interval(value, spread, limits)
        return Estimate(value, low, high, len(self.patients_N), self.patients)

    def _weights(self) -> Floats:
        """Of every patient in every draw, [resamples, patients]: shares of 1, all equally probable."""
        random = np.random.default_rng(self.seed)
        weights_RP = random.standard_exponential((self.resamples, self.patients))
        shares_RP: Floats = weights_RP / weights_RP.sum(axis=1, keepdims=True)
        return shares_RP

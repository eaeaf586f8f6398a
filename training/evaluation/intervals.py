"""From a standard error over few patients to a 95 % interval."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from sono.training.arrays import Floats

Limits = tuple[float, float]

SHARE: Limits = (0.0, 1.0)
DIFFERENCE: Limits = (-1.0, 1.0)
POSITIVE: Limits = (0.0, math.inf)
"""What a figure can be at all: a share, a difference of two shares, or a distance such as an error in days."""

_NO_SPREAD = 1e-9
_BORROWED = 2.0  # degrees of freedom that a class borrows


@dataclass(frozen=True)
class Spread:
    """How far a mean over classes may be off, and how well its patients tell that.

    Args:
        error: the standard error.
        degrees: of freedom of that error, at most one less than there are patients (Satterthwaite 1946).
        patients: the effective number for the mean over classes, at most that of the patients.
    """

    error: float
    degrees: float
    patients: float

    @classmethod
    def of(cls, draws_RC: Floats, frames_PC: Floats) -> Spread | None:
        """The spread of figures by draw and class; None if no class has two patients.

        The draws of a class with n patients show (n - 1) / n of its variance, and those of a class with one patient
        nothing. What is missing is made up from an estimate of how patients differ in that class, which borrows from
        the class where they differ most, as if that were ``_BORROWED`` more patients of this one. Patients are counted
        by Kish's effective number, (sum of frames)² / sum of squared frames.

        Args:
            draws_RC: of a Bayesian bootstrap.
            frames_PC: how many frames of each class a patient has; every class has some.
        """
        several_C = (frames_PC > 0).sum(axis=0) > 1
        if not several_C.any():
            return None
        number, classes = frames_PC.shape
        patients_C = frames_PC.sum(axis=0) ** 2 / (frames_PC**2).sum(axis=0)
        own_C = np.maximum(patients_C - 1, _NO_SPREAD)  # degrees of freedom
        borrowed = _BORROWED if classes > 1 else 0.0
        to_mean = (number + 1) / number  # from the variance of the draws to that of a mean over patients
        shown_CC = np.atleast_2d(np.cov(draws_RC, rowvar=False, bias=True)) * to_mean
        shown_C = np.diag(shown_CC)
        between_C = np.where(several_C, shown_C * patients_C**2 / own_C, 0.0)  # the variance between patients
        between_C = (own_C * between_C + borrowed * between_C.max()) / (own_C + borrowed)
        missing_C = np.maximum(between_C / patients_C - shown_C, 0)
        variance = max(shown_CC.sum() + missing_C.sum(), shown_CC.sum() * number / (number - 1)) / classes**2
        parts_C = shown_C + missing_C
        weight = (parts_C**2 / (own_C + borrowed)).sum()
        degrees = parts_C.sum() ** 2 / weight if weight > 0 else number - 1
        return cls(
            error=math.sqrt(max(variance, 0.0)),
            degrees=float(min(max(degrees, 1.0), number - 1)),
            patients=float(min(classes**2 / (1 / patients_C).sum(), number)),
        )


def interval(value: float, spread: Spread, limits: Limits) -> Limits:
    """The 95 % interval of a figure, by Student's t; of a share, by Wilson's score.

    Wilson's interval (1927) is asymmetric near 0 and 1, where a symmetric one is too often wrong on one side. It takes
    the number of independent answers that would have the same error, as survey statistics do (Korn and Graubard 1998;
    Dean and Pagano 2015). If all patients are alike, there is no error to see, and their number takes its place.
    """
    from scipy.special import stdtrit

    t = float(stdtrit(spread.degrees, 0.975))
    alike = spread.error <= _NO_SPREAD
    if limits == SHARE:
        variance = value * (1 - value)
        seen = not alike and variance > _NO_SPREAD
        return _wilson(value, variance / spread.error**2 if seen else spread.patients, t)
    half = _unseen(spread.patients, t) if alike and limits == DIFFERENCE else t * spread.error
    return max(value - half, limits[0]), min(value + half, limits[1])


def _wilson(share: float, answers: float, t: float) -> Limits:
    middle = (share + t**2 / (2 * answers)) / (1 + t**2 / answers)
    variance = max(share * (1 - share), 0.0) / answers  # rounding may take a share past 1
    half = t / (1 + t**2 / answers) * math.sqrt(variance + t**2 / (4 * answers**2))
    return max(middle - half, 0.0), min(middle + half, 1.0)


def _unseen(patients: float, t: float) -> float:
    """The largest share of patients that may differ although none of those seen does: Wilson's upper limit at 0."""
    return t**2 / (patients + t**2)

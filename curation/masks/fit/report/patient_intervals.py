"""A mean over frames with its 95 % interval over patients, whose frames resemble each other."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sono.curation.masks.fit.network import EXTRA
from sono.manifests.errors import import_extra


@dataclass(frozen=True)
class Estimate:
    """A mean of shares, with its 95 % interval; none, and both limits None, with fewer than two patients."""

    value: float
    low: float | None
    high: float | None


def mean_over_patients(shares: Sequence[float], patients: Sequence[str]) -> Estimate:
    """The mean of shares from 0 to 1 and its interval, by Student's t with one degree of freedom less than patients.

    The standard error is that of a ratio of sums over patients, linearised (Cochran, Sampling Techniques, 1977, 6.4):
    a patient with more frames counts more, and frames of one patient are not taken for independent.

    Raises:
        ValueError: there are no shares.
    """
    if not shares:
        raise ValueError("no shares to average")
    values = np.asarray(shares, np.float64)
    mean = float(values.mean())
    _, of_patient = np.unique(np.asarray(patients), return_inverse=True)
    number = int(of_patient.max()) + 1
    if number < 2:
        return Estimate(mean, None, None)
    stdtrit = import_extra("scipy.special", EXTRA).stdtrit
    deviations = np.bincount(of_patient, values - mean, minlength=number) / len(values)
    error = math.sqrt(number / (number - 1) * float((deviations**2).sum()))
    half = float(stdtrit(number - 1, 0.975)) * error
    return Estimate(mean, max(mean - half, 0.0), min(mean + half, 1.0))

"""Intervals over patients are right about as often as they say, although frames of a patient resemble each other."""

from __future__ import annotations

import numpy as np
import pytest

from sono.curation.masks.fit.report.patient_intervals import mean_over_patients


def test_coverage_with_few_patients() -> None:
    random = np.random.default_rng(7)
    right = 0
    for _ in range(400):
        of_patient = random.normal(0.8, 0.05, 8)
        patients = np.repeat(np.arange(8), 5)
        shares = of_patient[patients] + random.normal(0, 0.01, 40)
        estimate = mean_over_patients(list(shares), [str(number) for number in patients])
        assert estimate.low is not None
        assert estimate.high is not None
        right += estimate.low <= 0.8 <= estimate.high
    assert right / 400 == pytest.approx(0.95, abs=0.03)


def test_one_patient_has_no_interval() -> None:
    estimate = mean_over_patients([0.5, 0.7], ["p", "p"])
    assert (estimate.value, estimate.low, estimate.high) == (0.6, None, None)


def test_an_interval_stays_within_what_a_share_can_be() -> None:
    estimate = mean_over_patients([1.0, 0.6], ["p", "q"])
    assert (estimate.low, estimate.high) == (0.0, 1.0)

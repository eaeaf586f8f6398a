"""Means and kappas with intervals over patients."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from sono.curation.review.agreement.intervals import Estimate, kappa, mean


@pytest.mark.parametrize("seed", range(5))
def test_kappa_is_that_of_scikit_learn(seed: int) -> None:
    random = np.random.default_rng(seed)
    one = random.random(200) < 0.8
    other = np.where(random.random(200) < 0.85, one, ~one)
    found = kappa(one.tolist(), other.tolist(), [str(number // 4) for number in range(200)])
    assert found.value == pytest.approx(cohen_kappa_score(one, other))
    assert found.low is not None
    assert found.high is not None
    assert found.low < found.value < found.high


def test_kappa_is_not_defined_where_every_answer_is_the_same() -> None:
    assert kappa([True] * 9, [True] * 9, list("abcdefghi")) == Estimate(None)
    constant = kappa([True] * 9, [True] * 8 + [False], list("abcdefghi"))  # one reader has one answer: no agreement
    assert constant.value == 0


def test_a_mean_without_masks_has_no_value_and_one_patient_has_no_interval() -> None:
    assert mean([], []) == Estimate(None)
    assert mean([0.5, 0.7], ["a", "a"]) == Estimate(pytest.approx(0.6))


def test_there_is_no_interval_if_all_patients_are_alike() -> None:
    assert mean([1.0] * 20, [str(number) for number in range(20)]) == Estimate(1.0)


def test_masks_of_one_patient_are_not_taken_for_independent() -> None:
    random = np.random.default_rng(0)
    values = np.repeat(random.uniform(0.6, 1, 20), 30)
    grouped = mean(values, [str(number // 30) for number in range(600)])
    single = mean(values, [str(number) for number in range(600)])
    assert grouped.low is not None
    assert grouped.high is not None
    assert single.low is not None
    assert single.high is not None
    assert grouped.high - grouped.low > 4 * (single.high - single.low)


@pytest.mark.slow
@pytest.mark.parametrize("patients", [6, 20])
def test_intervals_hold_the_truth_about_as_often_as_they_say(patients: int) -> None:
    random = np.random.default_rng(patients)
    held = 0
    for _ in range(300):
        of_patients = random.normal(0.8, 0.05, patients)
        counts = random.integers(1, 6, patients)
        values = np.concatenate(
            [random.normal(each, 0.02, count) for each, count in zip(of_patients, counts, strict=True)]
        )
        found = mean(values, [str(number) for number, count in enumerate(counts) for _ in range(count)])
        held += found.low is not None and found.high is not None and found.low <= 0.8 <= found.high
    assert held / 300 == pytest.approx(0.95, abs=0.045)

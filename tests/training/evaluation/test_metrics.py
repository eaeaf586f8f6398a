from __future__ import annotations

import numpy as np
import pytest

from sono.training.evaluation.metrics import (
    Draws,
    confusion,
    f1_per_class,
    macro_f1,
    mean,
    mean_per_class,
    paired_difference,
    reliability,
)


def test_rare_classes_count_as_much_as_frequent_ones_and_absent_ones_not_at_all() -> None:
    truth = np.array([0] * 8 + [3] * 2)
    hits = np.array([True] * 6 + [False] * 2 + [True, False])
    estimate = mean_per_class(hits, truth, Draws(np.arange(10), resamples=200, seed=0))
    assert estimate.value == pytest.approx((6 / 8 + 1 / 2) / 2)
    assert 0 <= estimate.low < estimate.value < estimate.high <= 1


def test_frames_of_one_patient_are_no_independent_evidence() -> None:
    random = np.random.default_rng(1)
    patients = np.repeat(np.arange(40), 25)
    hits = np.repeat(random.random(40) < 0.6, 25)  # all frames of a patient share their luck
    truth = np.zeros(1000, dtype=np.int64)
    by_patient = mean_per_class(hits, truth, Draws(patients, resamples=2000, seed=0))
    by_frame = mean_per_class(hits, truth, Draws(np.arange(1000), resamples=2000, seed=0))
    share = hits.mean()
    expected = 1.96 * np.sqrt(share * (1 - share) / 40)
    assert (by_patient.high - by_patient.low) / 2 == pytest.approx(expected, rel=0.15)
    assert (by_frame.high - by_frame.low) / 2 == pytest.approx(expected / 5, rel=0.15)


def test_the_interval_is_a_function_of_the_seed() -> None:
    random = np.random.default_rng(2)
    truth, hits = random.integers(0, 3, 60), random.random(60) < 0.5
    intervals = [mean_per_class(hits, truth, Draws(np.arange(60) // 3, resamples=100, seed=seed)) for seed in (0, 0, 1)]
    assert intervals[0] == intervals[1]
    assert intervals[0].value == intervals[2].value
    assert intervals[0] != intervals[2]


def test_two_methods_with_the_same_hits_differ_by_nothing_at_all() -> None:
    random = np.random.default_rng(3)
    truth, hits = random.integers(0, 3, 60), random.random(60) < 0.5
    estimate = paired_difference(hits, hits, truth, Draws(np.arange(60) // 3, resamples=100, seed=0))
    assert (estimate.value, estimate.low, estimate.high) == (0, 0, 0)


def test_a_paired_difference_is_that_of_the_two_means() -> None:
    random = np.random.default_rng(4)
    truth, draws = random.integers(0, 5, 90), Draws(np.arange(90) // 3, resamples=100, seed=0)
    ours, theirs = random.random(90) < 0.6, random.random(90) < 0.4
    difference = paired_difference(ours, theirs, truth, draws)
    first, second = (mean_per_class(hits, truth, draws) for hits in (ours, theirs))
    assert difference.value == pytest.approx(first.value - second.value)
    assert difference.value > 0
    turned = paired_difference(theirs, ours, truth, draws)
    assert (turned.value, turned.low, turned.high) == pytest.approx(
        (-difference.value, -difference.high, -difference.low)
    )


def test_what_makes_patients_hard_for_both_methods_cancels_out_of_the_difference() -> None:
    """Half of 40 patients are hopeless for both; of the others a fifth, 4, is right only in the first."""
    first, second = np.arange(40) < 20, np.arange(40) < 16
    truth, draws = np.zeros(40, dtype=np.int64), Draws(np.arange(40), resamples=4000, seed=0)
    difference = paired_difference(first, second, truth, draws)
    share = 4 / 40
    expected = 1.96 * np.sqrt(share * (1 - share) / 40)
    assert difference.value == pytest.approx(share)
    assert (difference.high - difference.low) / 2 == pytest.approx(expected, rel=0.15)
    alone = mean_per_class(first, truth, draws)
    assert difference.high - difference.low < 0.7 * (alone.high - alone.low)


def test_confusion_counts_by_true_and_predicted_class() -> None:
    counts = confusion(np.array([0, 0, 2]), np.array([1, 0, 1]), 3)
    assert counts.tolist() == [[1, 1, 0], [0, 0, 0], [0, 1, 0]]


def test_f1_weighs_planes_alike_and_punishes_an_answer_that_is_given_too_often() -> None:
    """Against scikit-learn's, over the classes that are there."""
    metrics = pytest.importorskip("sklearn.metrics")
    random = np.random.default_rng(5)
    truth, predicted = random.integers(0, 4, 80), random.integers(0, 6, 80)
    draws = Draws(np.arange(80) // 4, resamples=200, seed=0)
    estimate = macro_f1(truth, predicted, 6, draws)
    expected = metrics.f1_score(truth, predicted, labels=[0, 1, 2, 3], average="macro")
    assert estimate.value == pytest.approx(expected)
    assert estimate.low < estimate.value < estimate.high
    by_class = f1_per_class(confusion(truth, predicted, 7))
    assert by_class[:4].mean() == pytest.approx(expected)
    assert np.isnan(by_class[6])  # neither there nor answered
    always = np.zeros(80, dtype=np.int64)
    hits = mean_per_class(truth == always, truth, draws).value
    assert macro_f1(truth, always, 6, draws).value < hits


def test_the_mean_is_that_of_all_frames_and_draws_of_some_leave_the_other_patients_out() -> None:
    values, patients = np.arange(12.0), np.arange(12) // 2
    assert mean(values, Draws(patients, 50, 0)).value == pytest.approx(5.5)
    chosen = values >= 8
    assert Draws(patients, 50, 0).of(chosen).patients_N.tolist() == [0, 0, 1, 1]
    assert mean(values[chosen], Draws(patients, 50, 0).of(chosen)).value == pytest.approx(9.5)


def test_calibration_compares_what_is_said_with_what_is_right() -> None:
    confidence = np.array([0.9] * 10 + [0.3] * 10)
    right = np.array([True] * 6 + [False] * 4 + [True] * 8 + [False] * 2)
    error, bins = reliability(confidence, right, bins=10)
    assert [(one.n, one.accuracy) for one in bins] == [(10, 0.8), (10, 0.6)]
    assert [(one.low, one.high) for one in bins] == [(pytest.approx(0.2), pytest.approx(0.3)), (0.8, 0.9)]
    assert error == pytest.approx((0.5 + 0.3) / 2)  # too modest in one bin, too sure in the other
    assert reliability(np.ones(4), np.ones(4, dtype=bool))[0] == 0

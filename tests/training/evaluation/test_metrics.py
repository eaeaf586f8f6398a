from __future__ import annotations

import numpy as np
import pytest

from sono.training.evaluation.bootstrap import Bootstrap
from sono.training.evaluation.metrics import confusion, f1_per_class, macro_f1, mean, mean_per_class, paired_difference


def test_every_class_present_counts_the_same() -> None:
    truth = np.array([0] * 8 + [3] * 2)
    hits = np.array([True] * 6 + [False] * 2 + [True, False])
    estimate = mean_per_class(hits, truth, Bootstrap(np.arange(10), resamples=200, seed=0))
    assert estimate.value == pytest.approx((6 / 8 + 1 / 2) / 2)
    assert 0 <= estimate.low < estimate.value < estimate.high <= 1


def test_frames_of_one_patient_are_not_independent_evidence() -> None:
    random = np.random.default_rng(1)
    patients = np.repeat(np.arange(40), 25)
    hits = np.repeat(random.random(40) < 0.6, 25)  # all frames of a patient share their luck
    truth = np.zeros(1000, dtype=np.int64)
    by_patient = mean_per_class(hits, truth, Bootstrap(patients, resamples=2000, seed=0))
    by_frame = mean_per_class(hits, truth, Bootstrap(np.arange(1000), resamples=2000, seed=0))
    share = hits.mean()
    expected = 1.96 * np.sqrt(share * (1 - share) / 40)
    assert (by_patient.high - by_patient.low) / 2 == pytest.approx(expected, rel=0.15)
    assert (by_frame.high - by_frame.low) / 2 == pytest.approx(expected / 5, rel=0.15)


def test_the_interval_depends_on_the_seed_alone() -> None:
    random = np.random.default_rng(2)
    truth, hits = random.integers(0, 3, 60), random.random(60) < 0.5
    intervals = [
        mean_per_class(hits, truth, Bootstrap(np.arange(60) // 3, resamples=100, seed=seed)) for seed in (0, 0, 1)
    ]
    assert intervals[0] == intervals[1]
    assert intervals[0].value == intervals[2].value
    assert intervals[0] != intervals[2]


def test_methods_with_the_same_hits_have_no_difference() -> None:
    random = np.random.default_rng(3)
    truth, hits = random.integers(0, 3, 60), random.random(60) < 0.5
    estimate = paired_difference(hits, hits, truth, Bootstrap(np.arange(60) // 3, resamples=100, seed=0))
    assert (estimate.value, estimate.low, estimate.high) == (0, 0, 0)


def test_a_paired_difference_is_the_difference_of_the_two_means() -> None:
    random = np.random.default_rng(4)
    truth, bootstrap = random.integers(0, 5, 90), Bootstrap(np.arange(90) // 3, resamples=100, seed=0)
    ours, theirs = random.random(90) < 0.6, random.random(90) < 0.4
    difference = paired_difference(ours, theirs, truth, bootstrap)
    first, second = (mean_per_class(hits, truth, bootstrap) for hits in (ours, theirs))
    assert difference.value == pytest.approx(first.value - second.value)
    assert difference.value > 0
    turned = paired_difference(theirs, ours, truth, bootstrap)
    assert (turned.value, turned.low, turned.high) == pytest.approx(
        (-difference.value, -difference.high, -difference.low)
    )


def test_patients_hard_for_both_methods_cancel_out_of_the_difference() -> None:
    """Half of 40 patients are hopeless for both; of the others a fifth, 4, is right only in the first."""
    first, second = np.arange(40) < 20, np.arange(40) < 16
    truth, bootstrap = np.zeros(40, dtype=np.int64), Bootstrap(np.arange(40), resamples=4000, seed=0)
    difference = paired_difference(first, second, truth, bootstrap)
    share = 4 / 40
    expected = 1.96 * np.sqrt(share * (1 - share) / 40)
    assert difference.value == pytest.approx(share)
    assert (difference.high - difference.low) / 2 == pytest.approx(expected, rel=0.15)
    alone = mean_per_class(first, truth, bootstrap)
    assert difference.high - difference.low < 0.7 * (alone.high - alone.low)


def test_confusion_counts_frames_by_true_and_predicted_class() -> None:
    counts = confusion(np.array([0, 0, 2]), np.array([1, 0, 1]), 3)
    assert counts.tolist() == [[1, 1, 0], [0, 0, 0], [0, 1, 0]]


def test_f1_weighs_classes_equally_and_punishes_a_constant_answer() -> None:
    """Compared with scikit-learn, over the classes present."""
    metrics = pytest.importorskip("sklearn.metrics")
    random = np.random.default_rng(5)
    truth, predicted = random.integers(0, 4, 80), random.integers(0, 6, 80)
    bootstrap = Bootstrap(np.arange(80) // 4, resamples=200, seed=0)
    estimate = macro_f1(truth, predicted, 6, bootstrap)
    expected = metrics.f1_score(truth, predicted, labels=[0, 1, 2, 3], average="macro")
    assert estimate.value == pytest.approx(expected)
    assert estimate.low < estimate.value < estimate.high
    by_class = f1_per_class(confusion(truth, predicted, 7))
    assert by_class[:4].mean() == pytest.approx(expected)
    assert np.isnan(by_class[6])  # neither present nor answered
    always = np.zeros(80, dtype=np.int64)
    hits = mean_per_class(truth == always, truth, bootstrap).value
    assert macro_f1(truth, always, 6, bootstrap).value < hits


def test_the_mean_is_over_all_frames_and_a_part_of_them_draws_only_its_own_patients() -> None:
    values, patients = np.arange(12.0), np.arange(12) // 2
    assert mean(values, Bootstrap(patients, 50, 0)).value == pytest.approx(5.5)
    chosen = values >= 8
    assert Bootstrap(patients, 50, 0).take(chosen).patients_N.tolist() == [0, 0, 1, 1]
    assert mean(values[chosen], Bootstrap(patients, 50, 0).take(chosen)).value == pytest.approx(9.5)

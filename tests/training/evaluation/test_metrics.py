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


def test_methods_with_the_same_hits_differ_by_zero_and_as_surely_as_the_patients_are_many() -> None:
    random = np.random.default_rng(3)
    truth, hits = random.integers(0, 3, 600), random.random(600) < 0.5
    few, many = (
        paired_difference(hits[:frames], hits[:frames], truth[:frames], Bootstrap(np.arange(frames) // 3, 100, 0))
        for frames in (30, 600)
    )
    assert few.value == many.value == 0
    assert few.low < -0.2 < many.low < 0  # ten patients who do not differ, and two hundred
    assert (few.high, many.high) == (-few.low, -many.low)


def test_intervals_of_rare_classes_contain_the_true_figure() -> None:
    """Ten patients, four classes, the rarest in one frame of thirteen and the hardest.

    Percentiles of patients drawn with replacement contain it 88 times in 100: a draw that misses the rarest class
    is a mean over the others, which are easier.
    """
    random, chances, shares = np.random.default_rng(6), np.array([0.9, 0.8, 0.7, 0.3]), 0.55 ** np.arange(4)
    contained = above = 0
    for replicate in range(200):
        patients = np.repeat(np.arange(10), 4)
        truth = random.choice(4, 40, p=shares / shares.sum())
        hits = random.random(40) < chances[truth]
        estimate = mean_per_class(hits, truth, Bootstrap(patients, resamples=200, seed=replicate))
        expected = chances[np.unique(truth)].mean()
        contained += estimate.low <= expected <= estimate.high
        above += expected < estimate.low
    assert contained / 200 > 0.93
    assert above / 200 < 0.05


def test_no_interval_comes_from_fewer_than_two_patients() -> None:
    hits, one_class = np.array([True, False, True, True]), np.zeros(4, dtype=np.int64)
    one_patient, two_patients = (Bootstrap(np.array(of), 100, 0) for of in ([0] * 4, [0, 0, 1, 1]))
    for estimate in (
        mean_per_class(hits, one_class, one_patient),
        macro_f1(one_class, one_class, 2, one_patient),
        paired_difference(hits, ~hits, one_class, one_patient),
        mean_per_class(hits, np.array([0, 0, 1, 1]), two_patients),  # each class is seen in one patient only
        mean(hits[:2], two_patients.take(np.array([0, 1]))),
    ):
        assert (estimate.low, estimate.high) == (None, None)
    assert mean(hits, two_patients).low is not None


@pytest.mark.parametrize(("patients", "least"), [(5, 0.3), (20, 0.8), (60, 0.92)])
def test_answers_that_are_all_right_may_be_wrong_in_the_next_patient(patients: int, least: float) -> None:
    hits, truth = np.ones(4 * patients, dtype=np.bool_), np.zeros(4 * patients, dtype=np.int64)
    estimate = mean_per_class(hits, truth, Bootstrap(np.arange(4 * patients) // 4, resamples=100, seed=0))
    assert (estimate.value, estimate.high) == (1, pytest.approx(1))
    assert estimate.low == pytest.approx(least, abs=0.1)


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

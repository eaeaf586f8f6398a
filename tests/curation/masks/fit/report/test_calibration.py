"""Temperatures and reliability on logits whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest

from sono.curation.masks.fit.report.calibration import BINS, fit_temperature, reliability, sigmoid
from sono.curation.masks.fit.report.scores import score
from sono.curation.masks.fit.report.validation import Found


def drawn(number: int, factor: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits that are ``factor`` times those that the truth is drawn from."""
    random = np.random.default_rng(seed)
    honest = random.normal(0, 2, number)
    return honest * factor, random.random(number) < sigmoid(honest)


@pytest.mark.parametrize("factor", [0.3, 1.0, 4.0])
def test_the_temperature_of_scaled_logits_is_found(factor: float) -> None:
    logits, truth = drawn(100_000, factor)
    assert fit_temperature(logits, truth) == pytest.approx(factor, rel=0.03)


def test_a_temperature_repairs_overconfidence() -> None:
    logits, truth = drawn(100_000, 4.0)
    before = reliability(sigmoid(logits), truth)
    after = reliability(sigmoid(logits / fit_temperature(logits, truth)), truth)
    assert before.error > 0.1
    assert after.error < 0.01
    assert before.weight.sum() == pytest.approx(1)


def test_pixels_of_one_kind_fit_no_temperature() -> None:
    assert fit_temperature(np.array([3.0, 4.0]), np.array([True, True])) == 1.0


def test_reliability_by_hand() -> None:
    curve = reliability(np.array([0.05, 0.05, 0.95, 1.0]), np.array([False, True, True, True]))
    assert len(curve.confidence) == BINS
    assert curve.truth[0] == 0.5
    assert curve.confidence[-1] == pytest.approx(0.975)
    assert np.isnan(curve.truth[4])
    assert curve.error == pytest.approx(0.5 * 0.45 + 0.5 * 0.025)


def test_the_reported_error_knows_nothing_of_the_patient() -> None:
    """Two patients who need opposite temperatures: what is fitted on one makes the other worse."""
    found = Found()
    for place, factor in enumerate((0.3, 4.0)):
        logits, truth = drawn(5000, factor, seed=place)
        found.example.append(place)
        found.patient.append(f"p{place}")
        found.dice.append(0.9)
        found.inside.append(logits[logits > 0])
        found.logits.append(logits)
        found.truth.append(truth)
        found.group.append(f"p{place}")
    scores = score("head", found, (1, 1))
    assert scores.after is not None
    assert scores.after.error > 0.1
    in_sample = reliability(sigmoid(np.concatenate(found.logits) / scores.temperature), np.concatenate(found.truth))
    assert in_sample.error < 0.75 * scores.after.error

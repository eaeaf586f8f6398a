from __future__ import annotations

import numpy as np
import pytest

from sono.training.evaluation.calibration import reliability


def test_calibration_compares_the_claimed_probability_with_the_share_that_is_right() -> None:
    confidence = np.array([0.9] * 10 + [0.3] * 10)
    right = np.array([True] * 6 + [False] * 4 + [True] * 8 + [False] * 2)
    error, bins = reliability(confidence, right, bins=10)
    assert [(each.n, each.accuracy) for each in bins] == [(10, 0.8), (10, 0.6)]
    assert [(each.low, each.high) for each in bins] == [(pytest.approx(0.2), pytest.approx(0.3)), (0.8, 0.9)]
    assert error == pytest.approx((0.5 + 0.3) / 2)  # too modest in one bin, too sure in the other
    assert reliability(np.ones(4), np.ones(4, dtype=bool))[0] == 0

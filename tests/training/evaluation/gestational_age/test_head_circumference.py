from __future__ import annotations

import cv2
import numpy as np
import pytest

from sono.manifests import masks
from sono.training.evaluation.gestational_age.head_circumference import circumference_at, fits_age, head_circumference


def ellipse(size: tuple[int, int], axes: tuple[int, int], angle: float = 0) -> masks.Mask:
    canvas = np.zeros(size, np.uint8)
    cv2.ellipse(canvas, (size[1] // 2, size[0] // 2), axes, angle, 0, 360, 255, -1)
    return canvas > 0


@pytest.mark.parametrize(("axes", "angle"), [((150, 150), 0), ((180, 120), 0), ((180, 120), 33)])
def test_the_circumference_of_an_ellipse_is_measured_on_its_mask(axes: tuple[int, int], angle: float) -> None:
    a, b = axes[0] + 0.5, axes[1] + 0.5
    turns = np.linspace(0, 2 * np.pi, 100_001)
    around = np.hypot(np.diff(a * np.cos(turns)), np.diff(b * np.sin(turns))).sum()
    assert head_circumference(ellipse((500, 500), axes, angle), (0.2, 0.2)) == pytest.approx(0.2 * around, rel=0.005)
    if angle == 0:
        stretched = head_circumference(ellipse((500, 500), axes), (0.2, 0.2 * axes[0] / axes[1]))
        assert stretched == pytest.approx(0.2 * 2 * np.pi * a, rel=0.005)  # a circle


def test_circumferences_by_age_are_those_of_the_who_charts() -> None:
    """Median, and 2.5th and 97.5th percentile, in mm."""
    weeks = np.array([14.0, 20.0, 30.0, 40.0])
    assert circumference_at(weeks * 7, "median") == pytest.approx([100, 173, 281, 342], abs=1)
    assert (circumference_at(weeks * 7, "low") < circumference_at(weeks * 7, "median")).all()
    assert (circumference_at(weeks * 7, "median") < circumference_at(weeks * 7, "high")).all()


def test_a_head_fits_an_age_between_the_outer_percentiles() -> None:
    days = np.full(3, 140.0)
    low, high = (circumference_at(days[:1], percentile)[0] for percentile in ("low", "high"))
    assert fits_age(np.array([low - 1, (low + high) / 2, high + 1]), days).tolist() == [False, True, False]

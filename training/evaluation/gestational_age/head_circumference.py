"""The head circumference: measured on a mask, and what the WHO's growth charts expect at an age."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np

from sono.manifests.masks import Mask
from sono.training.arrays import Booleans, Floats

_PERCENTILES: Mapping[str, tuple[float, ...]] = {
    "low": (1.59317517131532, 2.9459800552433e-1, -7.3860372566707e-3, 6.56951770216148e-5),
    "median": (2.09924879247164, 2.53373656106037e-1, -6.05647816678282e-3, 5.14256072059917e-5),
    "high": (2.50074069629423, 2.20067854715719e-1, -4.93623111462443e-3, 3.89066000946519e-5),
}
"""ln(head circumference in mm) as a polynomial of the age in weeks, for the 2.5th, 50th and 97.5th percentile.

World Health Organization fetal growth charts (Kiserud et al. 2017, PLoS Med 14:e1002220), with the coefficients of its
calculator (srhr.org/fetalgrowthcalculator).
"""


def head_circumference(mask: Mask, pixel_mm: tuple[float, float]) -> float:
    """The perimeter in mm of the ellipse with the mask's second moments (Ramanujan's approximation of 1914).

    Args:
        mask: of the complete head, [height, width].
        pixel_mm: mm per px, across and down.
    """
    y, x = np.nonzero(mask)
    moments = np.cov(np.stack([x * pixel_mm[0], y * pixel_mm[1]]), bias=True)
    a, b = 2 * np.sqrt(np.linalg.eigvalsh(moments).clip(min=0))  # a solid ellipse's variance is (semi-axis)² / 4
    return float(np.pi * (3 * (a + b) - np.sqrt((3 * a + b) * (a + 3 * b))))


def circumference_at(days: Floats, percentile: Literal["low", "median", "high"]) -> Floats:
    """The head circumference in mm at an age in days: the 2.5th, 50th or 97.5th percentile."""
    weeks = np.asarray(days, dtype=np.float64) / 7
    circumference_mm: Floats = np.exp(sum(c * weeks**power for power, c in enumerate(_PERCENTILES[percentile])))
    return circumference_mm


def fits_age(head_mm: Floats, days: Floats) -> Booleans:
    """Whether a head circumference lies within the 2.5th and 97.5th percentile of an age."""
    within: Booleans = (circumference_at(days, "low") <= head_mm) & (head_mm <= circumference_at(days, "high"))
    return within

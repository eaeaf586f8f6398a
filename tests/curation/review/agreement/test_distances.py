"""Dice, IoU and Hausdorff distances, against straightforward calculations."""

from __future__ import annotations

import itertools

import cv2
import numpy as np
import pytest
from scipy.spatial.distance import cdist

from sono.curation.review.agreement.distances import likeness
from sono.manifests.masks import Mask


def blob(seed: int, size: tuple[int, int] = (60, 80)) -> Mask:
    random = np.random.default_rng(seed)
    canvas = np.zeros(size, np.uint8)
    for _ in range(3):
        center = (int(random.integers(0, size[1])), int(random.integers(0, size[0])))
        cv2.ellipse(canvas, center, (int(random.integers(4, 20)), int(random.integers(4, 14))), 20, 0, 360, 1, -1)
    return canvas > 0


def outline(mask: Mask) -> list[tuple[int, int]]:
    """Pixels with a neighbour by side that is outside of the mask, or beyond the image."""
    padded = np.pad(mask, 1)
    return [
        (row, column)
        for row, column in itertools.product(*map(range, mask.shape))
        if mask[row, column]
        and not all(padded[row + 1 + down, column + 1 + right] for down, right in ((0, 1), (1, 0), (0, -1), (-1, 0)))
    ]


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("spacing", [(1.0, 1.0), (0.2, 0.35)])
def test_figures_are_those_of_a_straightforward_calculation(seed: int, spacing: tuple[float, float]) -> None:
    one, other = blob(seed), blob(seed + 100)
    points = [np.array(outline(mask)) * spacing[::-1] for mask in (one, other)]
    away = cdist(*points)
    expected = max(np.percentile(away.min(axis=1), 95), np.percentile(away.min(axis=0), 95))
    found = likeness(one, other, spacing)
    assert found.hausdorff_95 == pytest.approx(expected, abs=1e-9)
    shared, union = (one & other).sum(), (one | other).sum()
    assert found.iou == pytest.approx(shared / union)
    assert found.dice == pytest.approx(2 * shared / (one.sum() + other.sum()))


def test_a_shift_is_measured_in_the_direction_of_the_pixels_size() -> None:
    one, other, below = (np.zeros((50, 50), np.bool_) for _ in range(3))
    one[10:20, 10:20] = other[10:20, 15:25] = below[15:25, 10:20] = True
    assert likeness(one, other, (0.5, 2.0)).hausdorff_95 == pytest.approx(2.5)
    assert likeness(one, below, (0.5, 2.0)).hausdorff_95 == pytest.approx(10)
    assert likeness(one, one).hausdorff_95 == 0


def test_empty_masks_have_a_dice_and_no_distance() -> None:
    empty, drawn = np.zeros((20, 20), np.bool_), np.ones((20, 20), np.bool_)
    for pair in ((empty, drawn), (drawn, empty)):
        found = likeness(*pair)
        assert (found.dice, found.iou, found.hausdorff_95, found.empty) == (0, 0, None, 1)
    found = likeness(empty, empty)
    assert (found.dice, found.iou, found.hausdorff_95, found.empty) == (1, 1, None, 2)


def test_masks_of_different_sizes_are_not_compared() -> None:
    with pytest.raises(ValueError, match="px"):
        likeness(np.zeros((2, 3), np.bool_), np.zeros((3, 2), np.bool_))

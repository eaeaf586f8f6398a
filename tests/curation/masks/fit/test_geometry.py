"""The square that the network sees, and what augmentation does to frames and masks."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from sono.curation.masks.fit.data.augmentation import augment
from sono.curation.masks.fit.letterbox import Letterbox, grey


@pytest.mark.parametrize(("height", "width"), [(540, 800), (800, 541), (64, 64), (40, 50), (7, 900)])
def test_a_mask_comes_back_where_it_was(height: int, width: int) -> None:
    mask = np.zeros((height, width), np.uint8)
    cv2.ellipse(mask, (width // 2, height // 2), (max(width // 4, 1), max(height // 3, 1)), 0, 0, 360, 255, -1)
    box = Letterbox(height, width, 256)
    square = box.fit(mask)
    assert square.shape == (256, 256)
    back = box.unfit(square.astype(np.float32) - 127.5) > 0
    assert back.shape == mask.shape
    overlap = 2 * np.count_nonzero(back & (mask > 0)) / (np.count_nonzero(back) + np.count_nonzero(mask))
    assert overlap > (0.98 if min(height, width) > 10 else 0.6)


def test_proportions_are_kept() -> None:
    mask = np.full((100, 200), 255, np.uint8)
    rows, columns = np.nonzero(Letterbox(100, 200, 64).fit(mask))
    assert (np.ptp(rows) + 1, np.ptp(columns) + 1) == (32, 64)


def test_colour_becomes_grey() -> None:
    assert grey(np.full((4, 5, 3), 90, np.uint8)).tolist() == np.full((4, 5), 90).tolist()


def test_a_mask_moves_with_its_image() -> None:
    image = np.zeros((64, 64), np.uint8)
    cv2.circle(image, (20, 30), 9, 200, -1)
    masks = (image > 0).astype(np.uint8)[None] * 255
    changed = set()
    for seed in range(20):
        moved, (mask,) = augment(image, masks, np.random.default_rng(seed))
        assert np.array_equal(moved > 0, mask > 0) or np.mean((moved > 0) != (mask > 0)) < 0.01
        changed.add(moved.tobytes())
    assert len(changed) == 20


def test_black_stays_black() -> None:
    moved, masks = augment(np.zeros((32, 32), np.uint8), np.zeros((0, 32, 32), np.uint8), np.random.default_rng(0))
    assert not moved.any()
    assert masks.shape == (0, 32, 32)


def test_the_same_seed_gives_the_same_change() -> None:
    image = np.random.default_rng(1).integers(0, 255, (32, 32), np.uint8)
    one, two = (augment(image, image[None], np.random.default_rng([1, 2])) for _ in range(2))
    assert np.array_equal(one[0], two[0])
    assert np.array_equal(one[1], two[1])

"""Outlines become masks and tissues in the same place."""

from __future__ import annotations

import dataclasses
import math

import cv2
import numpy as np
import pytest

from sono.curation.phantom.drawing.outlines import outline_mask, rasterize, visible_share
from sono.curation.phantom.drawing.sector import Pose, Sector
from sono.curation.phantom.drawing.speckle import Settings
from sono.curation.phantom.scenes.shapes import FLUID, SOFT, ellipse
from tests.curation.phantom.drawing.simple_scenes import (
    CONVEX,
    LINEAR,
    LOPSIDED,
    OUTLINES,
    Bytes,
    Mask,
    every_sector,
    grey,
    in_the_middle,
)


def dark(image: Bytes, sector: Sector) -> Mask:
    """Where there is fluid, by the mean of a neighbourhood larger than a speckle."""
    inside = sector.inside().astype(np.float64)
    mean = cv2.blur(image.astype(np.float64), (11, 11)) / np.maximum(cv2.blur(inside, (11, 11)), 1e-6)
    return np.asarray((mean < np.median(image[sector.inside()]) / 2) & sector.inside(), dtype=np.bool_)


def overlap(one: Mask, other: Mask) -> float:
    return float(np.count_nonzero(one & other) / np.count_nonzero(one | other))


@every_sector
@pytest.mark.parametrize("flipped", [False, True], ids=["as it is", "flipped"])
@pytest.mark.parametrize("degrees", [0.0, 50.0])
def test_pose_moves_masks_and_pixels_together(sector: Sector, degrees: float, flipped: bool) -> None:
    pose = in_the_middle(sector, degrees, flipped)
    mask = outline_mask(OUTLINES, pose, sector)
    tissue_map = rasterize(LOPSIDED, pose, sector)
    assert np.array_equal((tissue_map.numbers == 2) & sector.inside(), mask)
    image = grey(LOPSIDED, sector, pose, Settings(noise_db=-200.0, compensation_db_mm=0.16))
    assert overlap(dark(image, sector), mask) > 0.6
    other = outline_mask(OUTLINES, dataclasses.replace(pose, flipped=not flipped), sector)
    assert overlap(dark(image, sector), other) < 0.5


def test_a_mask_is_as_large_as_its_outline() -> None:
    mask = outline_mask([ellipse(0, 0, 30, 20)], in_the_middle(LINEAR), LINEAR)
    assert np.count_nonzero(mask) * LINEAR.mm_per_px**2 == pytest.approx(math.pi * 15 * 10, rel=0.02)


def test_the_visible_share_is_the_outlines_share_in_the_sector() -> None:
    square = np.array([[x, y] for x in np.linspace(-5, 5, 21) for y in (-5.0, 5.0)])
    px_per_mm = 1 / LINEAR.mm_per_px
    middle = LINEAR.point(0.5, 0.0)
    for x, expected in ((middle[0], 1.0), (0.0, 11 / 21), (-20 * px_per_mm, 0.0)):
        assert visible_share([square], Pose(x, middle[1], 0, False, px_per_mm), LINEAR) == pytest.approx(
            expected, abs=0.03
        )
    assert visible_share([square, square + 1000], Pose(*middle, 0, False, px_per_mm), LINEAR) == 0.5
    above = Pose(*CONVEX.point(-0.2, 0.0), 0, False, 1.0)
    assert visible_share([square], above, CONVEX) == 0.0


def test_a_tissue_map_numbers_tissues_in_the_order_in_which_they_come() -> None:
    tissue_map = rasterize(LOPSIDED, in_the_middle(LINEAR), LINEAR)
    assert tissue_map.echo_db == pytest.approx([0.0, SOFT.echo_db, FLUID.echo_db])
    assert set(np.unique(tissue_map.numbers)) == {1, 2}

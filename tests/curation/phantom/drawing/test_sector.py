"""Where a sector is on its screen, and which depth and beam each pixel belongs to."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from sono.curation.phantom.drawing.sector import Pose, Sector
from tests.curation.phantom.drawing.simple_scenes import LINEAR, every_sector


@every_sector
def test_the_sector_fills_its_box_and_its_area(sector: Sector) -> None:
    rows, columns = np.flatnonzero(sector.inside().any(axis=1)), np.flatnonzero(sector.inside().any(axis=0))
    height, width = sector.inside().shape
    assert (width, height) == sector.box[2:]
    assert max(rows[0], columns[0], height - 1 - rows[-1], width - 1 - columns[-1]) <= 1
    assert width <= 640
    assert height <= 560
    assert width >= 558 or height >= 558


def test_every_pixel_of_a_linear_sectors_box_shows_ultrasound() -> None:
    assert LINEAR.inside().all()
    assert LINEAR.depth_mm == pytest.approx(50.0, abs=0.5 * LINEAR.mm_per_px)


@every_sector
def test_depth_is_measured_in_mm_from_first_to_last_echo(sector: Sector) -> None:
    x, y = zip(sector.point(0.0, 0.0), sector.point(1.0, 0.0), strict=True)
    assert math.dist((x[0], y[0]), (x[1], y[1])) * sector.mm_per_px == pytest.approx(sector.depth_mm)
    assert sector.depth_mm == pytest.approx(50.0 if sector is LINEAR else 120.0, rel=0.003)


@every_sector
def test_points_and_beam_coordinates_are_inverse(sector: Sector) -> None:
    moved = sector.moved(31, 47)
    for depth, across in itertools.product((0.0, 0.3, 1.0), (-1.0, -0.2, 0.7)):
        x, y = (np.array([value]) for value in moved.point(depth, across))
        assert np.concatenate(moved.beam_coordinates(x, y)) == pytest.approx([depth, across], abs=1e-9)
    assert np.array_equal(moved.inside(), sector.inside())


def test_a_pose_turns_clockwise_and_mirrors() -> None:
    right = np.array([[10.0, 0.0]])
    assert Pose(100, 50, 0, False, 2).px(right) == pytest.approx(np.array([[120, 50]]))
    assert Pose(100, 50, 90, False, 2).px(right) == pytest.approx(np.array([[100, 70]])), "y points down"
    assert Pose(100, 50, 0, True, 2).px(right) == pytest.approx(np.array([[80, 50]]))
    assert Pose(100, 50, 30, True, 2).px(right) == pytest.approx(np.array([[100 - 20 * math.cos(math.pi / 6), 40]]))

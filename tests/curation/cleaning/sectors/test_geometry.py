"""A sector covers the pixels between its sides and radii, in its box."""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np
import pyarrow as pa
import pytest

from sono.curation.cleaning.sectors.geometry import Sector, contains, iou, outline, sector_mask
from sono.curation.phantom.samples import Sample
from sono.curation.phantom.truth import sector_row
from sono.manifests.schemas import SECTOR

FAN = Sector("convex", (50.0, -20.0), (-30.0, 40.0), (40.0, 90.0), (0, 0, 120, 72), 1.0)
RECTANGLE = Sector("linear", (30.0, 10.0), (0.0, 0.0), (0.0, 40.0), (10, 10, 40, 40), 1.0)
POINTED = Sector("phased", (60.0, 5.0), (-45.0, 45.0), (0.0, 80.0), (10, 5, 100, 75), 1.0)
TRAPEZOID = Sector("linear", (50.0, -50.0), (-15.0, 15.0), (60.0, 110.0), (0, 10, 100, 50), 1.0)


def test_a_fan_lies_between_its_beams_and_radii() -> None:
    mask = sector_mask([FAN], 80, 130)
    y, x = np.mgrid[0:80, 0:130] + 0.5
    radius, angle = np.hypot(x - 50, y + 20), np.degrees(np.arctan2(x - 50, y + 20))
    expected = (radius >= 40) & (radius <= 90) & (angle >= -30) & (angle <= 40) & (x < 120) & (y < 72)
    assert np.count_nonzero(mask != expected) <= 2  # centres that lie on an edge


def test_a_rectangle_is_its_box() -> None:
    mask = sector_mask([RECTANGLE], 60, 60)
    assert np.count_nonzero(mask) == 1600
    assert mask[10:50, 10:50].all()


def test_a_trapezoid_has_level_ends() -> None:
    mask = sector_mask([TRAPEZOID], 80, 120)
    rows = np.flatnonzero(mask.any(axis=1))
    assert (rows[0], rows[-1]) == (10, 59)
    for row in (10, 35, 59):
        half = (row + 0.5 + 50) * math.tan(math.radians(15))
        assert np.count_nonzero(mask[row]) == pytest.approx(min(2 * half, 100), abs=1.01)


def test_sectors_may_reach_beyond_the_frame() -> None:
    whole = sector_mask([FAN], 80, 130)
    moved = FAN.moved(-30, -25)
    assert np.array_equal(sector_mask([moved], 50, 90), whole[25:75, 30:120])


def test_a_mask_has_the_pixels_whose_centres_are_contained() -> None:
    random = np.random.default_rng(8)
    for number in range(60):
        apex = random.uniform(-50, 350), random.uniform(-900 if number % 3 == 2 else -150, 120)
        left, right = sorted(random.uniform(-85, 85, 2))
        far = random.uniform(50, 4000 if number % 5 == 0 else 400)
        box = tuple(int(side) for side in (*random.integers(-20, 150, 2), *random.integers(5, 400, 2)))
        sector = Sector(("convex", "phased", "linear")[number % 3], apex, (left, right), (random.uniform(0, far), far),
                        box, 1.0)  # fmt: skip
        centres = [np.arange(side, dtype=np.float32) + 0.5 for side in (300, 240)]
        different = sector_mask([sector], 240, 300) != contains(sector, *centres)
        assert np.count_nonzero(different) <= 1  # a centre that lies on an edge, as far as single precision tells


def test_two_sectors_are_joined() -> None:
    other = RECTANGLE.moved(45, 0)
    both = sector_mask([RECTANGLE, other], 60, 110)
    assert np.array_equal(both, sector_mask([RECTANGLE], 60, 110) | sector_mask([other], 60, 110))


@pytest.mark.parametrize("sector", [FAN, RECTANGLE, TRAPEZOID, POINTED])
def test_an_outline_surrounds_the_pixels_of_its_sector(sector: Sector) -> None:
    mask = sector_mask([sector], 100, 130)
    drawn = np.zeros((100, 130), np.uint8)
    cv2.fillPoly(drawn, [np.round(16 * (np.array(outline(sector)) - 0.5)).astype(np.int32)], 1, shift=4)
    assert np.count_nonzero(cv2.erode(drawn, np.ones((3, 3), np.uint8)) & ~mask) == 0
    assert np.count_nonzero(cv2.erode(mask.view(np.uint8), np.ones((3, 3), np.uint8)) & (drawn == 0)) == 0


@pytest.mark.parametrize("sector", [FAN, RECTANGLE, TRAPEZOID, POINTED])
def test_a_stored_sector_covers_the_same_pixels(sector: Sector) -> None:
    stored = pa.array([sector.row()], SECTOR).to_pylist()[0]
    assert np.array_equal(sector_mask([Sector.from_row(stored)], 100, 130), sector_mask([sector], 100, 130))


@pytest.mark.parametrize("sector", [FAN, RECTANGLE, TRAPEZOID])
def test_rows_fit_the_schema(sector: Sector) -> None:
    stored = pa.array([sector.row()], SECTOR).to_pylist()[0]
    assert stored["kind"] == sector.kind
    assert (stored["apex"] is None) == sector.parallel


def test_unknown_kinds_are_refused() -> None:
    with pytest.raises(ValueError, match="'oval'"):
        Sector("oval", (0.0, 0.0), (0.0, 0.0), (0.0, 1.0), (0, 0, 1, 1), 1.0)


def test_masks_agree_with_the_phantoms_truth(samples: Sequence[Sample]) -> None:
    for sample in samples:
        sectors = [_true_sector(sector_row(sector)) for sector in sample.drawn.sectors]
        truth = sample.drawn.sector_mask()
        assert iou(sector_mask(sectors, *truth.shape), truth) > 0.999, sample.mode


def _true_sector(row: dict[str, object]) -> Sector:
    def pair(name: str) -> tuple[float, float]:
        first, last = row[name] or (0.0, 0.0)  # type: ignore[misc]
        return first, last

    left, top, width, height = row["box"]  # type: ignore[misc]
    return Sector(str(row["kind"]), pair("apex"), pair("angles"), pair("radii"), (left, top, width, height), 1.0)

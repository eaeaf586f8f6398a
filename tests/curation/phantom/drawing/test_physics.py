"""Phantom sectors look as ultrasound does: speckle, shadow, enhancement, geometry."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from sono.curation.phantom.drawing import physics as physics
from sono.curation.phantom.drawing.physics import (
    BEAMS,
    DEPTHS,
    WHITE_DB,
    Drawing,
    Pose,
    Sector,
    Settings,
    Surroundings,
    draw,
    fan,
    insonify,
    outline_mask,
    rectangle,
    visible_share,
)
from sono.curation.phantom.scenes.shapes import BONE, FLUID, SOFT, Shape, Tissue, ellipse

Floats = npt.NDArray[np.float64]
Bytes = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]

CONVEX = fan("convex", 640, 560, 34.0, 50.0, 120.0)
PHASED = fan("phased", 640, 560, 40.0, 4.0, 120.0)
LINEAR = rectangle(560, 560, 50.0, 50.0)
SECTORS = {"convex": CONVEX, "phased": PHASED, "linear": LINEAR}
# No noise, no tissue's loss amplified away, and from black to white more decibels than speckle has.
PLAIN = Settings(range_db=160.0, noise_db=-200.0, compensation_db_mm=0.0)
RAYLEIGH = math.sqrt(math.pi / (4 - math.pi))
"""Mean by standard deviation of a Rayleigh distribution: 1.913, whatever its scale."""

every_sector = pytest.mark.parametrize("sector", SECTORS.values(), ids=SECTORS.keys())


def nothing_around() -> Surroundings:
    """A mother of amniotic fluid alone."""
    none = np.zeros(BEAMS)
    return Surroundings(none, none, none + 2.0, none)


def everywhere(tissue: Tissue) -> Shape:
    return Shape(ellipse(0, 0, 2000, 2000), tissue)


def in_the_middle(sector: Sector, degrees: float = 0.0, flipped: bool = False) -> Pose:
    return Pose(*sector.point(0.5, 0.0), degrees, flipped, 1 / sector.mm_per_px)


def grey(
    shapes: Sequence[Shape], sector: Sector, pose: Pose | None = None, settings: Settings = PLAIN, seed: int = 0
) -> Bytes:
    drawing = draw(shapes, pose or in_the_middle(sector), sector)
    return insonify(drawing, nothing_around(), sector, settings, np.random.default_rng(seed))


@pytest.fixture
def even(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tissue that is the same everywhere: speckle's own statistics, without the slow waves on top."""
    monkeypatch.setattr(physics, "_unevenness", lambda random: np.zeros((DEPTHS, BEAMS)))


@pytest.fixture
def beams(monkeypatch: pytest.MonkeyPatch, even: None) -> list[Floats]:
    """The amplitudes [depths, beams] of every image that is drawn, its log compression undone."""
    seen: list[Floats] = []
    convert = physics._scan_convert

    def watched(levels: Floats, geometry: physics._Geometry) -> Bytes:
        seen.append(10 ** (((levels / 255 - 1) * PLAIN.range_db + WHITE_DB) / 20))
        return convert(levels, geometry)

    monkeypatch.setattr(physics, "_scan_convert", watched)
    return seen


# ---------------------------------------------------------------------------------------------------------- speckle


@pytest.mark.parametrize(("looks", "expected"), [(1, RAYLEIGH), (2, 2.755), (4, 3.936)])
def test_even_tissue_has_rayleigh_speckle_and_smoother_with_more_looks(
    beams: list[Floats], looks: int, expected: float
) -> None:
    """The root of a mean of N powers has a Nakagami distribution with m = N; Rayleigh's is m = 1."""
    settings = dataclasses.replace(PLAIN, looks=looks)
    for seed in range(4):
        grey([everywhere(dataclasses.replace(SOFT, loss_db_mm=0.0))], CONVEX, settings=settings, seed=seed)
    stack = np.stack([amplitude[30:-30, 20:-20] for amplitude in beams])
    inner = (stack / np.sqrt(np.mean(stack**2, axis=(0, 2), keepdims=True))).ravel()
    assert inner.mean() / inner.std() == pytest.approx(expected, rel=0.04)
    if looks == 1:
        quantiles = np.quantile(inner, [0.1, 0.5, 0.9]) / inner.mean()
        assert quantiles == pytest.approx(np.sqrt(-np.log([0.9, 0.5, 0.1]) * 4 / math.pi), rel=0.05)


def test_speckle_in_the_image_is_that_of_log_compressed_echoes(even: None) -> None:
    """Of a Rayleigh amplitude in decibels the standard deviation is 5.57 dB; between beams it is interpolated."""
    image = grey([everywhere(dataclasses.replace(SOFT, loss_db_mm=0.0))], CONVEX)[CONVEX.inside()]
    assert 4.2 < image.std() / 255 * PLAIN.range_db < 5.7


def test_a_tissues_level_is_the_one_it_is_given_at_every_depth(beams: list[Floats]) -> None:
    """Two quadratures of power 1 are 3 dB."""
    for echo_db in (-12.0, 0.0, 8.0):
        beams.clear()
        for seed in range(6):
            grey([everywhere(Tissue(echo_db, 0.0))], LINEAR, seed=seed)
        inner = np.stack(beams)[:, 24:-24, 12:-12]
        power = [float(np.mean(part**2)) for part in np.array_split(inner, 8, axis=1)]
        assert 10 * np.log10(power) == pytest.approx(echo_db + 3.0, abs=0.7)


def width_at(image: Bytes, sector: Sector, depth: float) -> float:
    """How far apart across the beams, in mm, echoes are still half alike."""
    x, y = np.array([sector.point(depth, across) for across in np.linspace(-0.8, 0.8, 1600)]).T
    pitch_mm = float(np.hypot(x[1] - x[0], y[1] - y[0])) * sector.mm_per_px
    correlation = np.zeros(400)
    for shift in range(-12, 13):  # along the beam, to have more to average over
        row = image[np.clip(y + shift, 0, image.shape[0] - 1).astype(int), x.astype(int)].astype(float)
        row -= row.mean()
        correlation += np.array([np.dot(row[: len(row) - lag], row[lag:]) for lag in range(400)])
    return float(np.argmax(correlation < correlation[0] / 2)) * pitch_mm


def test_speckle_is_narrowest_at_the_focus_and_grows_with_depth(even: None) -> None:
    settings = dataclasses.replace(PLAIN, focus=0.4)
    tissue = [everywhere(dataclasses.replace(SOFT, loss_db_mm=0.0))]
    images = [grey(tissue, CONVEX, settings=settings, seed=seed) for seed in range(3)]
    near, focus, deep, deepest = (
        float(np.mean([width_at(image, CONVEX, depth) for image in images])) for depth in (0.1, 0.4, 0.7, 0.95)
    )
    assert 1.2 * focus < deep
    assert 1.2 * deep < deepest
    spread = math.radians(2 * CONVEX.half_angle) * CONVEX.mm_per_px
    per_beam = [
        width / (spread * (CONVEX.near + at * (CONVEX.far - CONVEX.near))) for width, at in ((near, 0.1), (focus, 0.4))
    ]
    assert per_beam[0] > 1.15 * per_beam[1], "in beams, it is wider before the focus too"


# --------------------------------------------------------------------------------------------- shadow and enhancement


def behind_and_beside(tissue: Tissue, sector: Sector) -> tuple[float, float]:
    """Mean grey level behind a disc of a tissue, and beside that place at the same depth."""
    disc = Shape(ellipse(0, 0, 14, 14), tissue)
    settings = dataclasses.replace(PLAIN, range_db=100.0, compensation_db_mm=0.11)
    image = grey([everywhere(SOFT), disc], sector, settings=settings)
    depth, across = sector.beam_coordinates(
        *np.meshgrid(np.arange(sector.box[2]) + 0.5, np.arange(sector.box[3]) + 0.5)
    )
    behind = (depth > 0.7) & (depth < 0.85)
    return float(image[behind & (np.abs(across) < 0.04)].mean()), float(
        image[behind & (np.abs(across) > 0.5) & (np.abs(across) < 0.9)].mean()
    )


@every_sector
def test_bone_casts_a_shadow(sector: Sector, even: None) -> None:
    behind, beside = behind_and_beside(BONE, sector)
    assert behind < beside - 60


@every_sector
def test_what_lies_behind_fluid_is_brighter(sector: Sector, even: None) -> None:
    behind, beside = behind_and_beside(FLUID, sector)
    lost_in_tissue_db = 14 * SOFT.loss_db_mm
    assert behind - beside == pytest.approx(lost_in_tissue_db / 100 * 255, abs=3.5)
    behind, beside = behind_and_beside(SOFT, sector)
    assert abs(behind - beside) < 3.5


def test_a_surface_is_bright_where_it_faces_the_probe() -> None:
    line = Tissue(-60.0, 0.0, rim_db=10.0)
    image = grey([Shape(ellipse(0, 0, 30, 30), line)], LINEAR, settings=dataclasses.replace(PLAIN, range_db=60.0))
    x, y = (round(value) for value in LINEAR.point(0.5, 0.0))
    radius = round(15 / LINEAR.mm_per_px)
    top = image[y - radius - 4 : y - radius + 5, x - 20 : x + 20].max(axis=0).mean()
    side = image[y - 20 : y + 20, x - radius - 4 : x - radius + 5].max(axis=1).mean()
    assert top > side + 40


# --------------------------------------------------------------------------------------------------------- geometry


@every_sector
def test_outside_its_sector_an_image_is_black(sector: Sector) -> None:
    image = grey([everywhere(SOFT)], sector, settings=Settings(gain_db=60.0, noise_db=60.0))
    assert not image[~sector.inside()].any()
    assert (image[sector.inside()] > 0).all()


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
def test_points_and_beam_coordinates_are_each_others_inverse(sector: Sector) -> None:
    moved = sector.moved(31, 47)
    for depth, across in itertools.product((0.0, 0.3, 1.0), (-1.0, -0.2, 0.7)):
        x, y = (np.array([value]) for value in moved.point(depth, across))
        assert np.concatenate(moved.beam_coordinates(x, y)) == pytest.approx([depth, across], abs=1e-9)
    assert np.array_equal(moved.inside(), sector.inside())


LOPSIDED = [
    everywhere(SOFT),
    Shape(ellipse(14, -6, 16, 10), FLUID, "stomach"),
    Shape(ellipse(4, 12, 8, 8), FLUID, "stomach"),
]
OUTLINES = [shape.outline for shape in LOPSIDED if shape.structure]


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
    drawing = draw(LOPSIDED, pose, sector)
    assert np.array_equal((drawing.tissues == 2) & sector.inside(), mask)
    image = grey(LOPSIDED, sector, pose, Settings(noise_db=-200.0, compensation_db_mm=0.16))
    assert overlap(dark(image, sector), mask) > 0.6
    other = outline_mask(OUTLINES, dataclasses.replace(pose, flipped=not flipped), sector)
    assert overlap(dark(image, sector), other) < 0.5


def test_a_pose_turns_clockwise_and_exchanges_left_and_right() -> None:
    right = np.array([[10.0, 0.0]])
    assert Pose(100, 50, 0, False, 2).px(right) == pytest.approx(np.array([[120, 50]]))
    assert Pose(100, 50, 90, False, 2).px(right) == pytest.approx(np.array([[100, 70]])), "y points down"
    assert Pose(100, 50, 0, True, 2).px(right) == pytest.approx(np.array([[80, 50]]))
    assert Pose(100, 50, 30, True, 2).px(right) == pytest.approx(np.array([[100 - 20 * math.cos(math.pi / 6), 40]]))


def test_a_mask_is_as_large_as_its_outline() -> None:
    mask = outline_mask([ellipse(0, 0, 30, 20)], in_the_middle(LINEAR), LINEAR)
    assert np.count_nonzero(mask) * LINEAR.mm_per_px**2 == pytest.approx(math.pi * 15 * 10, rel=0.02)


def test_the_visible_share_is_that_of_the_outline_in_the_sector() -> None:
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


@every_sector
def test_the_same_seed_draws_the_same_image_and_another_one_another(sector: Sector) -> None:
    first, again, other = (grey(LOPSIDED, sector, seed=seed) for seed in (5, 5, 6))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_gain_lifts_every_echo_alike() -> None:
    soft, loud = (
        grey([everywhere(SOFT)], CONVEX, settings=dataclasses.replace(PLAIN, gain_db=gain)) for gain in (0.0, 16.0)
    )
    difference = loud.astype(int)[CONVEX.inside()] - soft[CONVEX.inside()]
    assert np.quantile(np.abs(difference - 16 / PLAIN.range_db * 255), 0.999) <= 1.5


def test_a_drawing_numbers_tissues_in_the_order_in_which_they_come() -> None:
    drawing: Drawing = draw(LOPSIDED, in_the_middle(LINEAR), LINEAR)
    assert drawing.echo_db == pytest.approx([0.0, SOFT.echo_db, FLUID.echo_db])
    assert set(np.unique(drawing.tissues)) == {1, 2}

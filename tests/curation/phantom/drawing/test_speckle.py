"""Phantom sectors look like ultrasound: speckle, shadow, enhancement."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from sono.curation.phantom.drawing import speckle
from sono.curation.phantom.drawing.sector import BEAMS, DEPTHS, SamplingGrid, Sector
from sono.curation.phantom.drawing.speckle import WHITE_DB, Settings
from sono.curation.phantom.scenes.shapes import BONE, FLUID, SOFT, Shape, Tissue, ellipse
from tests.curation.phantom.drawing.simple_scenes import (
    CONVEX,
    LINEAR,
    LOPSIDED,
    PLAIN,
    Bytes,
    Floats,
    every_sector,
    everywhere,
    grey,
)

RAYLEIGH = math.sqrt(math.pi / (4 - math.pi))
"""Mean by standard deviation of a Rayleigh distribution: 1.913, whatever its scale."""


@pytest.fixture
def even(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tissue that is the same everywhere: speckle's own statistics, without the slow waves on top."""
    monkeypatch.setattr(speckle, "_unevenness", lambda random: np.zeros((DEPTHS, BEAMS)))


@pytest.fixture
def beams(monkeypatch: pytest.MonkeyPatch, even: None) -> list[Floats]:
    """The amplitudes [depths, beams] of every image that is drawn, its log compression undone."""
    seen: list[Floats] = []
    convert = speckle.scan_convert

    def watched(levels: Floats, grid: SamplingGrid) -> Bytes:
        seen.append(10 ** (((levels / 255 - 1) * PLAIN.range_db + WHITE_DB) / 20))
        return convert(levels, grid)

    monkeypatch.setattr(speckle, "scan_convert", watched)
    return seen


@pytest.mark.parametrize(("looks", "expected"), [(1, RAYLEIGH), (2, 2.755), (4, 3.936)])
def test_even_tissue_has_rayleigh_speckle_that_more_looks_smooth(
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


def test_speckle_in_the_image_is_log_compressed(even: None) -> None:
    """Of a Rayleigh amplitude in decibels the standard deviation is 5.57 dB; between beams it is interpolated."""
    image = grey([everywhere(dataclasses.replace(SOFT, loss_db_mm=0.0))], CONVEX)[CONVEX.inside()]
    assert 4.2 < image.std() / 255 * PLAIN.range_db < 5.7


def test_a_tissue_has_its_level_at_every_depth(beams: list[Floats]) -> None:
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
def test_tissue_behind_fluid_is_brighter(sector: Sector, even: None) -> None:
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


@every_sector
def test_an_image_is_black_outside_its_sector(sector: Sector) -> None:
    image = grey([everywhere(SOFT)], sector, settings=Settings(gain_db=60.0, noise_db=60.0))
    assert not image[~sector.inside()].any()
    assert (image[sector.inside()] > 0).all()


@every_sector
def test_the_same_seed_draws_the_same_image_and_another_seed_another(sector: Sector) -> None:
    first, again, other = (grey(LOPSIDED, sector, seed=seed) for seed in (5, 5, 6))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_gain_lifts_every_echo_equally() -> None:
    soft, loud = (
        grey([everywhere(SOFT)], CONVEX, settings=dataclasses.replace(PLAIN, gain_db=gain)) for gain in (0.0, 16.0)
    )
    difference = loud.astype(int)[CONVEX.inside()] - soft[CONVEX.inside()]
    assert np.quantile(np.abs(difference - 16 / PLAIN.range_db * 255), 0.999) <= 1.5

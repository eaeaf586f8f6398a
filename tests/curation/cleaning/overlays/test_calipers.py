"""Marks of measurements are found and removed; the anatomy below them and everything else stays."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from sono.curation.cleaning.overlays import calipers
from sono.curation.cleaning.overlays.burned_in_text import clean_text
from sono.curation.cleaning.overlays.calipers import CaliperFinding, remove_calipers
from sono.curation.cleaning.overlays.find import Overlays, find_overlays
from sono.curation.phantom.drawing.screen import MEASUREMENT_MARKS
from sono.curation.phantom.samples import Sample


@pytest.fixture(scope="module")
def measured(written_samples: list[Sample]) -> list[tuple[Sample, CaliperFinding]]:
    found = []
    for sample in written_samples:
        if any(mark.inside and mark.kind in MEASUREMENT_MARKS for mark in sample.drawn.marks):
            inside = sample.drawn.sector_mask()
            text = clean_text(sample.pixels, inside)
            found.append((sample, remove_calipers(text.pixels, inside, text.overlays)))
    return found


def test_measured_frames_are_found(measured: list[tuple[Sample, CaliperFinding]]) -> None:
    assert len(measured) >= 6
    assert sum(finding.found for _, finding in measured) >= 0.75 * len(measured)


def test_nothing_is_found_after_removal(measured: list[tuple[Sample, CaliperFinding]]) -> None:
    for sample, finding in measured:
        left = find_overlays(finding.pixels, sample.drawn.sector_mask()).marks
        assert bool(np.any(left)) == bool(finding.reasons)
    assert sum(not finding.reasons for _, finding in measured) >= 0.9 * len(measured)


def test_only_strokes_are_removed(measured: list[tuple[Sample, CaliperFinding]]) -> None:
    """A dotted outline runs along the bone that it measures: the bone stays."""
    for sample, finding in measured:
        assert finding.edited.sum() < 0.05 * sample.drawn.sector_mask().sum()
        assert not np.any(finding.edited & ~sample.drawn.sector_mask())


@pytest.mark.parametrize("px", [6, 10, 16, 40])
def test_a_cross_near_the_sector_s_edge_is_removed(px: int) -> None:
    random = np.random.default_rng(3)
    speckle = cv2.GaussianBlur(random.rayleigh(45, (600, 800)).astype(np.float32), (0, 0), 1.3)
    fan = np.zeros(speckle.shape, np.uint8)
    cv2.ellipse(fan, (400, 20), (540, 540), 90, -40, 40, 1, -1)
    bare = np.clip(speckle, 0, 255).astype(np.uint8) * fan
    from_edge = cv2.distanceTransform(fan, cv2.DIST_L2, 5)
    places = np.argwhere(np.abs(from_edge - px) < 1)
    for y, x in places[random.integers(len(places), size=4)].tolist():
        drawn = bare.copy()
        cv2.line(drawn, (x - 5, y), (x + 5, y), 235, 1)
        cv2.line(drawn, (x, y - 5), (x, y + 5), 235, 1)
        drawn *= fan
        ink = drawn != bare
        finding = remove_calipers(drawn, fan > 0)
        assert np.mean(finding.edited[ink]) > 0.8, (px, x, y)


def test_frames_without_calipers_stay_as_they_are(clean_samples: list[Sample]) -> None:
    for sample in clean_samples:
        finding = remove_calipers(sample.pixels, sample.drawn.sector_mask())
        assert not finding.found, sample.mode
        assert finding.pixels is sample.pixels or np.array_equal(finding.pixels, sample.pixels)


def test_marks_that_are_seen_again_are_for_review(clean_samples: list[Sample], monkeypatch: pytest.MonkeyPatch) -> None:
    sample = clean_samples[0]
    inside = sample.drawn.sector_mask()
    monkeypatch.setattr(
        calipers, "find_overlays", lambda *_: Overlays(np.zeros_like(inside), np.zeros_like(inside), lambda: inside)
    )
    assert remove_calipers(sample.pixels, inside).reasons == ("calipers_remain",)

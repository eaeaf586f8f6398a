"""The annotations of real frames fit the pictures they describe."""

from __future__ import annotations

import random
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.curation.cleaning.real_frames import (
    HARD,
    MARK_KINDS,
    MODES,
    SOURCES,
    TEXT_KINDS,
    Annotation,
    Mask,
    annotated_frames,
    annotations_of,
    polygon_mask,
)


def test_the_set_is_50_fetal_heads_and_20_other_frames() -> None:
    found = annotations_of()
    assert sum(one.source == "hc18" for one in found) == 50
    assert sum(one.source != "hc18" for one in found) == 20
    assert len({(one.source, one.file, one.frame) for one in found}) == len(found)
    assert {one.mode for one in found} == {"b_mode", "dual"}


def test_the_heads_are_a_seeded_draw(hc18: Path) -> None:
    names = sorted(path.name for path in (hc18 / "images").glob("*.png"))
    names.remove("392_HC.png")  # the pixels of 392_2HC.png
    drawn = sorted(random.Random(2026).sample(names, 50))
    assert [Path(one.file).name for one in annotations_of("hc18")] == drawn


@pytest.mark.parametrize("source", SOURCES)
def test_polygons_and_boxes_lie_in_the_image(source: str) -> None:
    for one in annotations_of(source):
        assert set(one.modes) <= set(MODES), one.file
        assert set(one.hard) <= set(HARD), one.file
        assert {text.kind for text in one.texts} <= set(TEXT_KINDS), one.file
        assert {mark.kind for mark in one.marks} <= set(MARK_KINDS), one.file
        assert len(one.sectors) == (2 if one.mode == "dual" else 1), one.file
        for sector in one.sectors:
            x, y = np.array(sector).T
            assert 0 <= x.min() < x.max() <= one.width, one.file
            assert 0 <= y.min() < y.max() <= one.height, one.file
        boxes = [*one.hidden, *(mark.box for mark in one.texts + one.marks)]
        for left, top, width, height in boxes:
            assert 0 <= left < left + width <= one.width, one.file
            assert 0 <= top < top + height <= one.height, one.file


@pytest.mark.parametrize("source", SOURCES)
def test_what_is_said_to_touch_a_sector_does(source: str) -> None:
    for one in annotations_of(source):
        inside = one.sector_mask()
        assert all(inside[mark.window].any() for mark in one.marks), one.file
        assert bool(one.texts_inside()) == ("text_inside" in one.hard), one.file
        assert (one.hidden_mask() & inside).sum() <= 0.25 * inside.sum(), one.file


def test_the_panels_of_a_dual_screen_do_not_overlap() -> None:
    dual = [one for one in annotations_of() if one.mode == "dual"]
    assert len(dual) == 3
    for one in dual:
        left, right = (polygon_mask(sector, one.height, one.width) for sector in one.sectors)
        assert not (left & right).any(), one.file


def test_frames_of_the_wheel_decode_to_the_sizes_annotated(tmp_path: Path) -> None:
    frames = list(annotated_frames(tmp_path, "pydicom"))
    assert [one for _, one in frames] == annotations_of("pydicom")
    for pixels, one in frames:
        assert pixels.shape[:2] == (one.height, one.width), one.file


def test_frames_of_the_shared_folder_decode_to_the_sizes_annotated(shared_data: Path) -> None:
    sources = ("us_dicom", "us_screens")
    frames = list(annotated_frames(shared_data, *sources))
    assert [one for _, one in frames] == annotations_of(*sources)
    for pixels, one in frames:
        assert pixels.shape[:2] == (one.height, one.width), one.file


def test_the_fan_ends_at_the_line_drawn_around_it(shared_data: Path) -> None:
    """The surroundings of these fans are black to the last bit, so that 2 px too many or too few show."""
    frames = list(annotated_frames(shared_data, "hc18"))
    assert len(frames) == 50
    for pixels, one in frames:
        assert pixels.shape == (one.height, one.width), one.file
        inside, elsewhere = one.sector_mask(), one.hidden_mask() | _furniture(one)
        rim = inside & ~_eroded(inside, 2) & ~elsewhere
        surroundings = _dilated(inside, 3) & ~_dilated(inside, 1) & ~elsewhere
        assert (pixels[rim] > 0).mean() > 0.98, one.file
        assert (pixels[surroundings] > 0).mean() < 0.01, one.file
        painted = pixels[one.hidden_mask() & inside]
        assert np.count_nonzero(painted) <= 0.02 * painted.size, one.file


def _furniture(one: Annotation) -> Mask:
    """Texts and marks with their black frames, and the bar below the picture that a cine has."""
    covered = np.zeros((one.height, one.width), np.bool_)
    for mark in one.texts + one.marks:
        covered[mark.window] = True
    covered = _dilated(covered, 2)
    covered[:2] = True  # the frame of the screen, on one of the pictures
    if any(text.kind == "setting" for text in one.texts):
        covered[516:] = True
    return covered


def _dilated(mask: Mask, by: int) -> Mask:
    return cv2.dilate(mask.astype(np.uint8), np.ones((2 * by + 1, 2 * by + 1), np.uint8)) > 0


def _eroded(mask: Mask, by: int) -> Mask:
    return ~_dilated(~mask, by)

"""The second look at marks: everywhere in a frame, in grey and in colour, along lines, and nowhere without need."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from sono.curation.cleaning.overlays import mark_detector
from sono.curation.cleaning.overlays.mark_detector import IS_MARK, look_again, middles_of
from sono.curation.cleaning.overlays.networks import network_bytes, session
from sono.curation.cleaning.overlays.text_detector import STRIDE, probabilities

Ends = tuple[tuple[int, int], tuple[int, int]]


def measured(ends: Ends, height: int = 300, width: int = 400) -> np.ndarray:
    """Speckle with crosses at both ends, and a dotted line between them."""
    random = np.random.default_rng(5)
    speckle = cv2.GaussianBlur(random.rayleigh(45, (height, width)).astype(np.float32), (0, 0), 1.3)
    frame = np.clip(speckle, 0, 255).astype(np.uint8)
    for x, y in np.linspace(*ends, 30).round().astype(int).tolist():
        frame[y : y + 2, x : x + 2] = 235
    for x, y in ends:
        cv2.line(frame, (x - 6, y), (x + 6, y), 235, 1)
        cv2.line(frame, (x, y - 6), (x, y + 6), 235, 1)
    return frame


def marks_of(frame: np.ndarray) -> np.ndarray:
    return look_again(frame, probabilities(frame)[1])


@pytest.mark.parametrize("ends", [((60, 60), (320, 240)), ((8, 8), (100, 8)), ((390, 290), (330, 200))])
def test_crosses_and_the_line_between_them_are_found_up_to_the_frame_s_corners(ends: Ends) -> None:
    marks = marks_of(measured(ends))
    for x, y in np.linspace(*ends, 30).round().astype(int).tolist()[::29]:
        row, column = y // STRIDE, x // STRIDE
        assert marks[max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2].max() > IS_MARK
    along = [marks[y // STRIDE, x // STRIDE] > IS_MARK for x, y in np.linspace(*ends, 30).round().astype(int)]
    assert np.mean(along) > 0.7


def test_along_an_edge_a_mark_is_followed_but_none_begins() -> None:
    frame = measured(((60, 60), (320, 60)))
    possible = probabilities(frame)[1]
    everywhere, beyond_150_px = np.ones(possible.shape, np.bool_), np.zeros(possible.shape, np.bool_)
    beyond_150_px[:, 150 // STRIDE :] = True
    assert not np.any(look_again(frame, possible, only_along=everywhere))
    followed = look_again(frame, possible, only_along=beyond_150_px)
    assert np.mean(followed[60 // STRIDE, 150 // STRIDE : 320 // STRIDE] > IS_MARK) > 0.7


def test_a_frame_that_is_full_of_what_may_be_marks_is_taken_for_marks(monkeypatch: pytest.MonkeyPatch) -> None:
    frame = measured(((60, 60), (320, 240)))
    monkeypatch.setattr(mark_detector, "MOST_WINDOWS", 3)
    full = np.full((75, 100), 0.5, np.float32)
    assert np.all(look_again(frame, full) == 1)


def test_grey_and_coloured_frames_are_seen_by_the_same_network() -> None:
    frame = measured(((60, 60), (320, 240)))
    colored = np.repeat(frame[..., None], 3, axis=2)
    possible = probabilities(frame)[1]
    assert np.allclose(look_again(frame, possible), look_again(colored, possible), atol=1e-4)


def test_few_windows_at_once_give_what_many_give(monkeypatch: pytest.MonkeyPatch) -> None:
    frame = measured(((60, 60), (320, 240)))
    together = marks_of(frame)
    monkeypatch.setattr(mark_detector, "AT_ONCE", 1)
    assert np.allclose(marks_of(frame), together, atol=1e-5)


def test_the_network_runs_only_where_something_may_be_a_mark(monkeypatch: pytest.MonkeyPatch) -> None:
    frame = measured(((60, 60), (320, 240)))
    nothing = np.zeros((75, 100), np.float32)
    monkeypatch.setattr(mark_detector, "session", None)
    assert not np.any(look_again(frame, nothing))


def test_windows_cover_all_that_is_worth_a_look_the_likeliest_first() -> None:
    worth = np.zeros((40, 60), np.float32)
    worth[3:30, 10] = 0.4
    worth[20, 50] = 0.9
    middles = middles_of(worth)
    assert middles[0] == (20, 50)
    covered = np.zeros(worth.shape, np.bool_)
    for row, column in middles:
        covered[max(row - 4, 0) : row + 4, max(column - 4, 0) : column + 4] = True
    assert np.all(covered[worth > 0])
    assert len(middles) <= 8


@pytest.mark.parametrize("grey", [True, False])
def test_the_network_is_small_and_says_what_it_was_trained_on(*, grey: bool) -> None:
    assert len(network_bytes("mark_detector", grey=grey)) < 400_000
    notes = session("mark_detector", grey=grey).get_modelmeta().custom_metadata_map
    assert notes.keys() >= {"trained_on", "seed", "steps", "license"}
    assert "measured phantoms" in notes["trained_on"]

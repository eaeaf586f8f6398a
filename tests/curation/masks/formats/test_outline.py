"""A closed outline becomes the area that it encloses; anything else is excluded."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from sono.curation.images.pixels import ExcludedError
from sono.curation.masks.formats.outline import fill_outline

SIZE = 200, 260


def test_a_closed_outline_is_filled_and_keeps_its_line() -> None:
    for thickness in (1, 2, 3):
        line, area = np.zeros(SIZE, np.uint8), np.zeros(SIZE, np.uint8)
        cv2.ellipse(line, (130, 100), (70, 50), 30, 0, 360, 255, thickness)
        contours, _ = cv2.findContours(line, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(area, contours, -1, 255, -1)
        assert np.array_equal(fill_outline(line > 0), area > 0)


def test_an_outline_along_the_border_of_the_image_is_closed() -> None:
    line = np.zeros(SIZE, np.uint8)
    cv2.rectangle(line, (0, 0), (80, 60), 255, 1)
    assert np.count_nonzero(fill_outline(line > 0)) == 81 * 61


@pytest.mark.parametrize("gap_degrees", [4, 40, 180])
def test_an_outline_that_does_not_close_is_excluded(gap_degrees: int) -> None:
    line = np.zeros(SIZE, np.uint8)
    cv2.ellipse(line, (130, 100), (70, 50), 30, gap_degrees, 360, 255, 1)
    with pytest.raises(ExcludedError) as caught:
        fill_outline(line > 0)
    assert caught.value.reason == "outline_not_closed"


def test_a_small_loop_does_not_close_an_open_outline() -> None:
    line = np.zeros(SIZE, np.uint8)
    cv2.ellipse(line, (130, 100), (70, 50), 30, 20, 360, 255, 1)
    cv2.circle(line, (200, 100), 3, 255, 1)
    with pytest.raises(ExcludedError) as caught:
        fill_outline(line > 0)
    assert caught.value.reason == "outline_not_closed"


def test_a_filled_area_is_not_an_outline() -> None:
    area = cv2.circle(np.zeros(SIZE, np.uint8), (130, 100), 40, 255, -1)
    with pytest.raises(ExcludedError) as caught:
        fill_outline(area > 0)
    assert caught.value.reason == "outline_is_filled"

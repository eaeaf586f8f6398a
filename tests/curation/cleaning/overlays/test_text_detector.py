"""The detector on sizes, colours and fonts, some of which it was not trained on."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from sono.curation.cleaning.overlays import text_detector
from sono.curation.cleaning.overlays.find import find_overlays
from sono.curation.cleaning.overlays.networks import network_bytes, session
from sono.curation.cleaning.overlays.text_detector import probabilities
from sono.curation.phantom.samples import Sample


def frame_with(text: str, height: int = 400, width: int = 560, *, size: float = 0.5) -> np.ndarray:
    random = np.random.default_rng(5)
    speckle = cv2.GaussianBlur(random.rayleigh(45, (height, width)).astype(np.float32), (0, 0), 1.3)
    frame = np.clip(speckle, 0, 255).astype(np.uint8)
    cv2.putText(frame, text, (width // 4, height // 2), cv2.FONT_HERSHEY_SIMPLEX, size, 230, 1, cv2.LINE_AA)
    return frame


@pytest.mark.parametrize(("height", "width"), [(400, 560), (397, 543), (768, 1024), (240, 320)])
def test_any_size_of_frame_is_taken(height: int, width: int) -> None:
    found = find_overlays(frame_with("MEIER 1987", height, width), np.ones((height, width), np.bool_))
    y, x = np.argwhere(found.text).mean(axis=0)
    assert found.text.shape == (height, width)
    assert abs(y - (height // 2 - 6)) < 6
    assert abs(x - (width // 4 + 50)) < 20


def test_grey_pixels_give_the_same_in_one_channel_and_in_three() -> None:
    grey = frame_with("MEIER 1987")
    inside = np.ones(grey.shape, np.bool_)
    assert np.array_equal(
        find_overlays(grey, inside).text, find_overlays(np.repeat(grey[..., None], 3, axis=2), inside).text
    )


def test_only_the_sector_is_looked_at() -> None:
    frame = frame_with("MEIER 1987")
    below = np.zeros(frame.shape, np.bool_)
    below[260:] = True
    assert not np.any(find_overlays(frame, below).text)
    assert not np.any(find_overlays(frame, np.zeros(frame.shape, np.bool_)).text)


def test_the_same_frame_gives_the_same_masks(written_samples: list[Sample]) -> None:
    for sample in written_samples[:3]:
        once, again = (find_overlays(sample.pixels, sample.drawn.sector_mask()) for _ in range(2))
        assert np.array_equal(once.text, again.text)
        assert np.array_equal(once.marks, again.marks)


def test_grey_and_coloured_frames_are_seen_by_the_same_network() -> None:
    grey = frame_with("MEIER 1987", 397, 543)
    one, three = probabilities(grey), probabilities(np.repeat(grey[..., None], 3, axis=2))
    assert one.max() > 0.9
    assert np.allclose(one, three, atol=1e-4)


@pytest.mark.parametrize("height", [397, 400])
def test_a_large_frame_in_bands_gives_what_it_gives_as_a_whole(height: int, monkeypatch: pytest.MonkeyPatch) -> None:
    frame = frame_with("MEIER 1987", height, 543)
    whole = probabilities(frame)
    monkeypatch.setattr(text_detector, "LARGEST_PX", 543 * 100)
    assert np.allclose(probabilities(frame), whole, atol=1e-6)


@pytest.mark.parametrize("grey", [True, False])
def test_the_network_is_small_and_says_what_it_was_trained_on(*, grey: bool) -> None:
    assert len(network_bytes("text_detector", grey=grey)) < 400_000
    notes = session("text_detector", grey=grey).get_modelmeta().custom_metadata_map
    assert notes.keys() >= {"trained_on", "seed", "steps", "license"}
    assert "HC18" in notes["trained_on"]

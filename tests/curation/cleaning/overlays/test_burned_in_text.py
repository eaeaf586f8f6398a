"""Text over the ultrasound is removed, whatever its script, and nothing else changes."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from sono.curation.cleaning.overlays import burned_in_text
from sono.curation.cleaning.overlays.burned_in_text import MOST_TEXT, TextFinding, clean_text
from sono.curation.cleaning.overlays.find import Overlays, find_overlays
from sono.curation.cleaning.reasons import TEXT
from sono.curation.phantom.drawing.screen import IDENTITY
from sono.curation.phantom.samples import Sample


@pytest.fixture(scope="module")
def cleaned(written_samples: list[Sample]) -> list[tuple[Sample, TextFinding]]:
    return [(sample, clean_text(sample.pixels, sample.drawn.sector_mask())) for sample in written_samples]


def test_strings_are_gone(cleaned: list[tuple[Sample, TextFinding]]) -> None:
    """All that say who was examined; of the others some can hardly be seen. A digit at a caliper is no string."""
    gone: list[bool] = []
    seen: set[str] = set()
    for sample, finding in cleaned:
        inside = sample.drawn.sector_mask()
        for line in sample.drawn.texts:
            x, y, width, height = line.box
            box = np.s_[y : y + height, x : x + width]
            if not line.inside or not inside[box].all() or len(line.text) < 3:
                continue
            seen |= {line.script, "upright" if line.angle else "across"}
            gone.append(bool(finding.edited[box].mean() > 0.85))
            assert gone[-1] or line.kind not in IDENTITY, f"{line.kind} in {line.script}, {sample.mode}"
    assert len(gone) > 30
    assert np.mean(gone) > 0.95
    assert seen >= {"latin", "cyrillic", "greek", "upright", "across"}


def test_text_is_found_beside_text_that_other_frames_of_the_cine_have(
    cleaned: list[tuple[Sample, TextFinding]],
) -> None:
    for sample, alone in cleaned[:6]:
        finding = clean_text(sample.pixels, sample.drawn.sector_mask(), known_boxes=alone.boxes[:1])
        for line in sample.drawn.texts:
            x, y, width, height = line.box
            box = np.s_[y : y + height, x : x + width]
            assert not line.inside or finding.edited[box].mean() > alone.edited[box].mean() - 0.05


def test_only_edited_pixels_change(cleaned: list[tuple[Sample, TextFinding]]) -> None:
    for sample, finding in cleaned:
        assert np.array_equal(finding.pixels[~finding.edited], sample.pixels[~finding.edited])
        assert not np.any(finding.edited & ~sample.drawn.sector_mask())
        assert len(finding.boxes) > 0


def test_removed_text_was_read_again_and_what_is_not_proved_is_unchecked(
    cleaned: list[tuple[Sample, TextFinding]],
) -> None:
    for _, finding in cleaned:
        assert finding.status == ("unchecked" if finding.reasons else "removed")
        assert set(finding.reasons) <= set(TEXT)
        if finding.status == "removed":
            assert finding.readers == ("detector", "tesserocr")
    assert sum(finding.status == "removed" for _, finding in cleaned) >= 0.7 * len(cleaned)


def test_the_detector_finds_nothing_in_a_cleaned_frame(cleaned: list[tuple[Sample, TextFinding]]) -> None:
    for sample, finding in cleaned:
        if finding.status == "removed":
            assert not np.any(find_overlays(finding.pixels, sample.drawn.sector_mask()).text)


def test_frames_without_text_stay_as_they_are(clean_samples: list[Sample]) -> None:
    findings = [clean_text(sample.pixels, sample.drawn.sector_mask()) for sample in clean_samples]
    assert [finding.status for finding in findings] == ["none"] * len(findings)
    for sample, finding in zip(clean_samples, findings, strict=True):
        assert np.array_equal(finding.pixels, sample.pixels)
        assert not np.any(finding.edited)


def test_known_boxes_are_removed_though_nothing_is_seen_there(clean_samples: list[Sample]) -> None:
    sample = clean_samples[0]
    inside = sample.drawn.sector_mask()
    y, x = (int(value) for value in np.argwhere(cv2.erode(inside.view(np.uint8), np.ones((61, 61), np.uint8)))[0])
    finding = clean_text(sample.pixels, inside, known_boxes=[(x, y, 24, 10)])
    assert finding.edited[y : y + 10, x : x + 24].all()
    assert finding.status == "removed"


def test_a_page_of_text_is_for_review() -> None:
    page = np.full((540, 800), 12, np.uint8)
    for row in range(14):
        cv2.putText(
            page, "Befund vom 03.04.2021: unauffaellig, Kontrolle", (20, 36 * row + 40), 0, 0.8, 230, 1, cv2.LINE_AA
        )
    finding = clean_text(page, np.ones(page.shape, np.bool_))
    assert finding.status == "unchecked"
    assert "text_covers_sector" in finding.reasons
    assert finding.edited.mean() > MOST_TEXT


def test_text_that_is_seen_again_is_for_review(clean_samples: list[Sample], monkeypatch: pytest.MonkeyPatch) -> None:
    """As if it could not be removed: the frame never becomes clean by default."""
    sample = clean_samples[0]
    inside = sample.drawn.sector_mask()
    always = np.zeros(inside.shape, np.bool_)
    y, x = np.argwhere(inside)[len(np.argwhere(inside)) // 2]
    always[y : y + 12, x : x + 40] = True
    nothing = np.zeros_like(always)
    seen = Overlays(always & inside, nothing, lambda: nothing)
    monkeypatch.setattr(burned_in_text, "find_overlays", lambda *_: seen)
    finding = clean_text(sample.pixels, inside)
    assert (finding.status, finding.reasons) == ("unchecked", ("text_remains",))


def test_text_that_another_reader_still_reads_is_for_review(
    written_samples: list[Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    sample = written_samples[0]
    monkeypatch.setattr(burned_in_text, "inpaint", lambda pixels, mask: pixels.copy())
    monkeypatch.setattr(
        burned_in_text,
        "find_overlays",
        once_then_blind(find_overlays(sample.pixels, sample.drawn.sector_mask())),
    )
    finding = clean_text(sample.pixels, sample.drawn.sector_mask())
    assert (finding.status, finding.reasons) == ("unchecked", ("text_readable",))


def once_then_blind(first: Overlays) -> object:
    """A detector that finds ``first`` once and is blind from then on."""
    left = [first]
    nothing = Overlays(*[np.zeros_like(first.text)] * 2, lambda: np.zeros_like(first.text))
    return lambda *_: left.pop() if left else nothing


def test_a_frame_without_a_sector_is_not_called_clean() -> None:
    with pytest.raises(ValueError, match="no pixel"):
        clean_text(np.zeros((200, 300), np.uint8), np.zeros((200, 300), np.bool_))


def test_a_black_frame_has_no_text() -> None:
    assert clean_text(np.zeros((200, 300), np.uint8), np.ones((200, 300), np.bool_)).status == "none"

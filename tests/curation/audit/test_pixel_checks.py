"""Stored pixels against their source: the sector kept, everything else gone, and what was painted over unreadable."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from sono.curation.audit import pixel_checks
from sono.curation.audit.cleaned import sector_area
from sono.curation.audit.findings import Findings
from sono.curation.audit.pixel_checks import check_pixels
from sono.curation.audit.text_reader import text_reader
from sono.curation.images.stored_png import encode_png
from sono.curation.phantom.drawing.sector import fan
from sono.manifests.pseudonyms import Pseudonymizer

Image = npt.NDArray[np.uint8]
KEYS = Pseudonymizer(b"k" * 32)
SECTOR = {"kind": "linear", "apex": None, "angles": None, "radii": None, "box": [40, 30, 300, 200], "confidence": 1.0}
TEXT = (60, 100, 170, 30)


def source() -> Image:
    """Speckle with a name on it inside the sector, and a bar outside."""
    random = np.random.default_rng(3)
    pixels = random.rayleigh(30, (300, 400)).clip(0, 255).astype(np.uint8)
    cv2.putText(pixels, "YAMAMOTO", (TEXT[0] + 4, TEXT[1] + 24), cv2.FONT_HERSHEY_SIMPLEX, 0.9, (255,), 2)
    return pixels


def cleaned(pixels: Image) -> Image:
    out = pixels * sector_area([SECTOR], *pixels.shape)
    x, y, width, height = TEXT
    out[y : y + height, x : x + width] = 30
    return np.asarray(out, dtype=np.uint8)


def judged(stored: Image, held: bool = False, **columns: Any) -> set[tuple[str, str, str]]:
    """Action, outcome and reason of everything that is not passed."""
    row = {
        "image": {"bytes": encode_png(stored), "path": None},
        "pixel_digest": KEYS.pixels(stored.shape, np.ascontiguousarray(stored).data),
        "crop": [0, 0, 400, 300],
        "sectors": [SECTOR],
        "text_boxes": [list(TEXT)],
        "mark_boxes": [],
        "cleaning_reasons": [],
        "burned_in_text": "removed",
        **columns,
    }
    findings = Findings()
    check_pixels(row, source(), KEYS, held, findings)
    rows = findings.table().to_pylist()
    return {(row["action"], row["outcome"], row["reason"]) for row in rows if row["outcome"] != "passed"}


needs_reader = pytest.mark.skipif(text_reader() is None, reason="Tesseract is not here")


@needs_reader
def test_a_cleaned_frame_passes() -> None:
    assert judged(cleaned(source())) == set()


@needs_reader
def test_text_that_can_still_be_read_fails_where_it_was_said_to_be_gone() -> None:
    stored = cleaned(source())
    x, y, width, height = TEXT
    stored[y : y + height, x : x + width] = source()[y : y + height, x : x + width] // 2 + 40
    assert judged(stored) == {("pixels_hidden", "failed", "text_can_be_read")}
    assert judged(stored, held=True) == {("pixels_hidden", "empty", "held_back_by_quality_control")}


def test_without_a_reader_nothing_is_called_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pixel_checks, "text_reader", lambda: None)
    assert judged(cleaned(source())) == {("pixels_hidden", "failed", "tesseract_is_not_installed")}


@pytest.mark.parametrize(
    ("change", "columns", "expected"),
    [
        (
            lambda out: out.__setitem__((200, 200), 255),
            {},
            ("pixels_retained", "failed", "pixels_changed_in_the_sector"),
        ),
        (lambda out: out.__setitem__((5, 5), 1), {}, ("pixels_hidden", "failed", "not_blank_outside_the_sector")),
        (
            lambda _: None,
            {"mark_boxes": [[200, 200, 9, 9]]},
            ("pixels_hidden", "failed", "a_recorded_edit_was_not_made"),
        ),
        (lambda _: None, {"crop": [1, 0, 400, 300]}, ("pixels_retained", "failed", "another_crop")),
        (lambda _: None, {"crop": [-1, 0, 400, 300]}, ("pixels_retained", "failed", "another_crop")),
        (lambda _: None, {"pixel_digest": "0" * 32}, ("pixels_retained", "failed", "another_pixel_digest")),
        (lambda _: None, {"cleaning_reasons": ["sector_uncertain"]}, ("pixels_hidden", "failed", "not_shown_clean")),
        (lambda _: None, {"sectors": []}, ("pixels_retained", "empty", "no_pixel_in_the_sector")),
    ],
    ids=["tissue", "outside", "no_edit", "crop", "negative_crop", "digest", "reasons", "no_sector"],
)
def test_each_fault_of_the_pixels_is_named(
    change: Callable[[Image], None], columns: dict[str, Any], expected: tuple[str, str, str]
) -> None:
    stored = cleaned(source())
    change(stored)
    assert expected in judged(stored, **columns)


def test_a_table_without_the_columns_of_cleaning_has_one_sector() -> None:
    row = {"crop": [0, 0, 9, 9], "sector": SECTOR, "burned_in_text": "unchecked"}
    found = pixel_checks.cleaning_of(row)
    assert (list(found.sectors), list(found.text_boxes), found.shown_clean) == ([SECTOR], [], False)


def test_the_area_of_a_fan_is_that_of_its_beams() -> None:
    drawn = fan("convex", 400, 300, 33.0, 40.0, 120.0).moved(20, 10)
    row = {
        "kind": drawn.kind,
        "apex": list(drawn.apex),
        "angles": [-drawn.half_angle, drawn.half_angle],
        "radii": [drawn.near, drawn.far],
        "box": list(drawn.box),
    }
    expected = np.zeros((400, 500), np.bool_)
    x, y, width, height = drawn.box
    expected[y : y + height, x : x + width] = drawn.inside()
    assert np.count_nonzero(sector_area([row], 400, 500) ^ expected) <= 0.002 * np.count_nonzero(expected)

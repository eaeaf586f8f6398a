"""Stored pixels against their source: the sector kept, everything else gone, and what was painted over unreadable."""

from __future__ import annotations

import datetime
import struct
import zlib
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from sono.curation.audit.checks.cleaned import sector_area
from sono.curation.audit.checks.pixel_checks import check_pixels, check_shown_clean, check_text
from sono.curation.audit.checks.readable_text import identifies, identity_of
from sono.curation.audit.findings import Findings
from sono.curation.audit.sources.header_values import HeaderValues
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


def row_of(stored: Image, **columns: Any) -> dict[str, Any]:
    return {
        "image": {"bytes": encode_png(stored), "path": None},
        "pixel_digest": KEYS.pixels(stored.shape, np.ascontiguousarray(stored).data),
        "crop": [0, 0, 400, 300],
        "sectors": [SECTOR],
        "text_boxes": [list(TEXT)],
        "mark_boxes": [],
        "edited_fraction": TEXT[2] * TEXT[3] / 60_000,
        "cleaning_reasons": [],
        "burned_in_text": "removed",
        **columns,
    }


def judged(stored: Image, verdict: str | None = "accept", **columns: Any) -> set[tuple[str, ...]]:
    """Action, outcome and reason of everything that is not passed, but for text."""
    findings, row = Findings(), row_of(stored, **columns)
    check_shown_clean(row, verdict, findings)
    check_pixels(row, source(), KEYS, findings)
    return not_passed(findings)


def not_passed(findings: Findings) -> set[tuple[str, ...]]:
    rows = findings.table().to_pylist()
    return {(row["action"], row["outcome"], row["reason"]) for row in rows if row["outcome"] != "passed"}


def test_a_cleaned_frame_passes() -> None:
    assert judged(cleaned(source())) == set()


def test_painting_over_one_level_changes_nothing_and_is_no_fault() -> None:
    """A cine's text is painted over in all of its frames, also where it was not shown over fluid."""
    pixels = source()
    pixels[150:180, 100:200] = 0
    boxes = {"text_boxes": [list(TEXT), [110, 155, 40, 10]]}
    findings = Findings()
    check_pixels(row_of(cleaned(pixels), **boxes), pixels, KEYS, findings)
    assert not_passed(findings) == {("pixels_hidden", "empty", "nothing_under_the_edit")}


def test_something_behind_the_pixels_of_a_stored_image_fails() -> None:
    row = row_of(cleaned(source()))
    whole = row["image"]["bytes"]
    hidden = b"IDATYAMAMOTO"
    chunk = struct.pack(">I", len(hidden) - 4) + hidden + struct.pack(">I", zlib.crc32(hidden))
    row["image"]["bytes"] = whole[:-12] + chunk + whole[-12:]
    findings = Findings()
    check_pixels(row, source(), KEYS, findings)
    assert not_passed(findings) == {("text_removed", "failed", "stored_image_holds_more_than_pixels")}


@pytest.mark.slow
def test_text_that_can_still_be_read_fails_and_a_patients_on_any_frame() -> None:
    gone, left = cleaned(source()), cleaned(source())
    x, y, width, height = TEXT
    left[y : y + height, x : x + width] = source()[y : y + height, x : x + width] // 2 + 40
    failed, empty = ("pixels_hidden", "failed"), ("pixels_hidden", "empty")
    for stored, verdict, name, expected in (
        (gone, "accept", "Yamamoto^Aiko", set()),
        (left, "accept", "Nobody", {(*failed, "text_can_be_read")}),
        (left, "review", "Nobody", {(*empty, "other_text_on_a_frame_for_review")}),
        (left, "review", "Yamamoto^Aiko", {(*failed, "what_the_source_says_can_be_read")}),
    ):
        findings = Findings()
        said = identity_of(HeaderValues([("PatientName", name)]), frozenset())
        textless = check_text(row_of(stored), stored, said, verdict, findings)
        assert not_passed(findings) == expected
        assert textless is (not expected)


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
        (
            lambda _: None,
            {"edited_fraction": 0.05},
            ("pixels_retained", "failed", "more_pixels_changed_than_recorded"),
        ),
        (
            lambda _: None,
            {"text_boxes": [list(TEXT), [20, 150, 60, 20]]},  # half of it outside of the sector
            ("pixels_hidden", "failed", "a_recorded_edit_was_not_made"),
        ),
        (
            lambda out: out.__setitem__((slice(40, 220), slice(50, 330)), 90),
            {"text_boxes": [[40, 30, 300, 200]]},
            ("pixels_retained", "failed", "more_pixels_changed_than_recorded"),
        ),
        (
            lambda _: None,
            {"text_boxes": [[40, 30, 300, 200]]},
            ("pixels_retained", "empty", "edits_fill_the_sector"),
        ),
        (lambda _: None, {"crop": [1, 0, 400, 300]}, ("pixels_retained", "failed", "another_crop")),
        (lambda _: None, {"crop": [-1, 0, 400, 300]}, ("pixels_retained", "failed", "another_crop")),
        (lambda _: None, {"pixel_digest": "0" * 32}, ("pixels_retained", "failed", "another_pixel_digest")),
        (
            lambda _: None,
            {"cleaning_reasons": ["sector_uncertain"]},
            ("pixels_hidden", "failed", "accepted_but_not_shown_clean"),
        ),
        (lambda _: None, {"sectors": []}, ("pixels_retained", "empty", "no_pixel_in_the_sector")),
    ],
    ids=[
        "tissue",
        "outside",
        "no_edit",
        "fraction",
        "half_an_edit",
        "a_great_box",
        "no_rest",
        "crop",
        "negative_crop",
        "digest",
        "reasons",
        "no_sector",
    ],
)
def test_each_fault_of_the_pixels_is_named(
    change: Callable[[Image], None], columns: dict[str, Any], expected: tuple[str, str, str]
) -> None:
    stored = cleaned(source())
    change(stored)
    assert expected in judged(stored, **columns)


def test_frames_that_cleaning_doubts_are_for_review_until_somebody_accepts_them() -> None:
    assert judged(cleaned(source()), None, burned_in_text="unchecked") == {("pixels_hidden", "empty", "for_review")}
    assert judged(cleaned(source()), "review", burned_in_text="unchecked") == {("pixels_hidden", "empty", "for_review")}


@pytest.mark.parametrize(
    ("reading", "found"),
    [
        ("YAMAMOTO", True),
        ("YAMAM0TO, A", True),
        ("Y A M A M O T O", True),
        ("id 107-919", True),
        ("31.05.2024", True),
        ("31.05.24", True),
        ("MAY 31 2024", True),
        ("12/24/1999", True),
        ("Xu", True),
        ("EXUDATE", False),
        ("GA 19w5d", False),
        ("HC 171.11 mm", False),
        ("10.5.19", False),
    ],
)
def test_a_source_is_recognized_in_what_was_read(reading: str, found: bool) -> None:
    texts = [("PatientName", "Yamamoto^Xu"), ("PatientID", "107919")]
    values = HeaderValues(texts, dates={datetime.date(2024, 5, 31)})
    assert identifies([reading], identity_of(values, frozenset())) is found


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

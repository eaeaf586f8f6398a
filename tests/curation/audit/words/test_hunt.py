"""What counts as found, what cannot be judged, and that the program's own words are nobody's."""

from __future__ import annotations

import datetime

import pytest

from sono.curation.audit.words.allowed_words import allowed_words
from sono.curation.audit.words.dates import readable_dates
from sono.curation.audit.words.hunt import ALLOWED_WORD, TOO_SHORT, Hunter
from sono.curation.audit.words.workspace_words import WorkspaceWords

ALLOWED = allowed_words(["North Hospital"])


def hunter(*texts: str) -> Hunter:
    words = WorkspaceWords()
    for text in texts:
        words.add_text(text, "somewhere", ALLOWED)
        words.add_cell(text, "somewhere", ALLOWED)
    return Hunter(
        {piece: sorted(places) for piece, places in words.pieces.items()},
        {cell: sorted(places) for cell, places in words.cells.items()},
        ALLOWED,
    )


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("scan of Müller", "MULLER^ANNA"),
        ("achterberg_1.png", "Achterberg^Ingrid"),
        ('{"operator": "Xu"}', "Xu^Wei"),
        ("number 107919", "107919"),
        ("S107919-2", "s107919"),
        ("P1", "P1"),
        ("A-12/3", "A-12/3"),
        ("4711", "4711"),
        ("2f1c7a52-96ac-5a8e-8d2b-0b6c2f7f1b11", "2F1C7A52-96AC-5A8E-8D2B-0B6C2F7F1B11"),
    ],
)
def test_words_and_numbers_are_found(text: str, value: str) -> None:
    assert hunter(text).find(value).places == {"somewhere"}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("liver", "Liv^Olga"),
        ("number 1079190", "107919"),
        ("0123456789abcdef0123456789abcdef", "abcdef"),
        ("model-1a2b3c4d", "1a2b"),
        ("0.107919", "10791"),
        ("North Hospital", "North^Mary"),
        ("c2c16e86", "c2c16e86-905f-5dd4-8780-50f8e3043ac6"),
    ],
)
def test_parts_of_other_words_numbers_and_digests_are_not(text: str, value: str) -> None:
    assert not hunter(text).find(value).places


def test_what_cannot_be_judged_says_why() -> None:
    assert hunter("anything").find("Long^Head").empty == ALLOWED_WORD
    assert hunter("anything").find("7").empty == TOO_SHORT
    assert hunter("anything").find("Yamamoto").empty is None


def test_dates_are_found_in_any_notation_and_only_as_a_whole() -> None:
    day = datetime.date(1985, 4, 11)
    for form in ("19850411", "11.04.1985", "1985-04-11T10:00", "04/11/1985"):
        assert hunter(f"born {form}").find_date(day), form
    assert not hunter("119850411").find_date(day)
    assert list(readable_dates(["2024-05-31", "1.2.840.10008", "20240531", "31/12/1999", "2024-99-99"])) == [
        "2024-05-31",
        "31/12/1999",
    ]


def test_the_programs_words_are_the_vocabularys_and_the_pages_but_no_phantoms_names() -> None:
    assert {"transthalamic", "voluson", "femur", "histogram", "reject"} <= ALLOWED
    assert not {"yamamoto", "achterberg", "wilhelmina"} & ALLOWED
    assert not list(readable_dates(ALLOWED))

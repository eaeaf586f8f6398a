"""Which woman a record is about: a number counts in its namespace, and nothing is borrowed from another woman."""

from __future__ import annotations

import datetime

import pytest

from sono.manifests.schemas import CAPTIONS

DAY = datetime.date(2023, 5, 18)
NORTH, SOUTH = {"center": "north"}, {"center": "south"}
ISSUED_NORTH, ISSUED_SOUTH = {"issuer": "NORTH"}, {"issuer": "SOUTH"}


def ages(clinic):
    """Gestational ages by the center of the frame's study, from the records table."""
    keys = clinic.workspace.keys
    names = {keys.study("1.1"): "north", keys.study("2.2"): "south"}
    return {names[row["study_key"]]: row["ga_days"] for row in clinic.records() if row["study_key"] in names}


def two_women(clinic, north=NORTH, south=SOUTH, **changes):
    clinic.frames(
        "one",
        clinic.frame("a", study="1.1", patient="4711", date=DAY, **north, **changes),
        clinic.frame("b", study="2.2", patient="4711", date=DAY + datetime.timedelta(days=30), **south, **changes),
    )


@pytest.mark.parametrize(("north", "south"), [(NORTH, SOUTH), (ISSUED_NORTH, ISSUED_SOUTH), (ISSUED_NORTH, NORTH)])
def test_no_due_date_or_crown_rump_length_is_borrowed_from_another_woman_of_the_number(clinic, north, south):
    two_women(clinic, north, south)
    lines = ["4711,1.1,2023-03-02,,", "4711,2.2,,170,"]
    clinic.caption(clinic.csv("patient_id,study_id,lmp,hc_mm,crl_mm", *lines))
    assert ages(clinic) == {"north": 77, "south": 137}


@pytest.mark.parametrize(
    ("header", "line", "expected"),
    [
        ("center", "south,4711,,150", {}),  # a center without the examination: nothing says which day
        ("center", "south,4711,2023-06-17,150", {"south": 150}),
        ("center", " South ,4711,2023-06-17,150", {"south": 150}),
        ("center", "west,4711,2023-06-17,150", {}),
        ("center", ",4711,2023-06-17,150", {}),
        ("issuer", ",4711,2023-06-17,150", {}),
        ("issuer", "SOUTH,4711,2023-06-17,150", {}),  # two of this number, and none says who issued it
    ],
)
def test_a_record_of_one_of_two_women_is_taken_only_if_it_says_which(clinic, header, line, expected):
    two_women(clinic)
    clinic.caption(clinic.csv(f"{header},patient_id,exam_date,ga_days", line))
    if not line.startswith("south,4711,,"):
        assert ages(clinic) == expected
    if not expected and "west" not in line and "south" not in line:
        assert clinic.reasons("records") == ["patient_unclear"]


@pytest.mark.parametrize(
    ("frame", "line", "taken"),
    [
        ({}, ",,150", True),
        ({}, "NORTH,,150", True),
        ({}, ",Center,150", True),
        ({}, ",South,150", False),
        ({}, "NORTH,South,150", False),
        ({}, "NORTH,Center,150", True),
        (ISSUED_NORTH, ",,150", True),
        (ISSUED_NORTH, "north ,,150", True),
        (ISSUED_NORTH, "SOUTH,,150", False),
        (ISSUED_NORTH, ",Center,150", True),
        (ISSUED_NORTH, ",South,150", False),
        ({"issuer": "urn:oid:1.2.3"}, "1.2.3,,150", True),
    ],
)
def test_a_namespace_that_contradicts_the_images_is_another_woman(clinic, frame, line, taken):
    clinic.frames("one", clinic.frame("a", patient="4711", study=None, **frame))
    clinic.caption(clinic.csv("patient_id,issuer,center,ga_days", f"4711,{line}"))
    assert bool(clinic.rows(CAPTIONS)) == taken
    assert (clinic.reasons("records") == ["unmatched"]) == (not taken)


def test_two_issuers_cannot_both_have_issued_the_number_of_the_images(clinic):
    clinic.frames("one", clinic.frame("a", patient="4711", study="1.1", date=DAY))
    clinic.caption(clinic.csv("patient_id,issuer,exam_date,ga_days", f"4711,NORTH,{DAY},150", f"4711,SOUTH,{DAY},170"))
    assert clinic.records() == []
    assert clinic.reasons("records") == ["patient_unclear"] * 2


def test_an_accession_number_of_two_hospitals_finds_the_patients_own(clinic):
    clinic.frames(
        "one",
        clinic.frame("a", study="1.1", patient="4711", accession="A1", center="north"),
        clinic.frame("b", study="2.2", patient="815", accession="A1", center="south"),
    )
    clinic.caption(clinic.csv("patient_id,accession,ga_days", "4711,A1,150", "815,A1,170"))
    assert ages(clinic) == {"north": 150, "south": 170}


def test_one_woman_in_two_hospitals_is_one_where_numbers_are_global(clinic):
    clinic.configure('[workspace]\npatient_scope = "global"\n')
    two_women(clinic)
    clinic.caption(clinic.csv("patient_id,study_id,lmp,hc_mm", "4711,1.1,2023-03-02,", "4711,2.2,,120"))
    assert ages(clinic) == {"north": 77, "south": 107}

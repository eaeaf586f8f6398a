"""Findings and views in structured reports, and the sections and modifiers that decide whether they count."""

from __future__ import annotations

import pytest
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

from tests.captioning.readers.sr.reports import (
    DAY,
    GA,
    HC,
    biometry,
    code,
    day,
    facts,
    finding,
    findings,
    number,
    read,
    reasons,
    section,
    seen,
    side,
    statements,
    summary,
    view,
)


@pytest.mark.parametrize(
    "content",
    [
        number(HC, 150),
        number(GA, 100, DAY),
        day(codes.LN.LMP, "20221201"),
        finding(Code("30288003", "SCT", "VSD")),
    ],
    ids=["measurement", "age", "date", "finding"],
)
@pytest.mark.parametrize("title", [codes.DCM.History, codes.DCM.PreviousFindings, Code("X", "99LOCAL", "Okafor")])
def test_items_in_other_sections_are_not_of_this_examination(content, title):
    entry = read(section(title, summary(content)))
    assert (facts(entry), reasons(entry)) == ({}, ["section_unknown"])


def test_an_earlier_value_does_not_hide_the_examinations_own():
    entry = read(section(codes.DCM.PreviousFindings, number(HC, 150)), biometry(number(HC, 190)))
    assert (facts(entry), reasons(entry)) == ({"hc_mm": 190.0}, ["section_unknown"])


def test_findings_about_the_mother_are_not_the_fetus():
    assert (
        facts(read(section(codes.DCM.PatientCharacteristics, finding(Code("38341003", "SCT", "Hypertension"))))) == {}
    )


@pytest.mark.parametrize("where", ["item", "section"])
def test_items_with_unknown_modifiers_are_not_taken(where):
    absent = code(Code("408729009", "SCT", "Finding context"), Code("410516002", "SCT", "Absent"), by="HAS CONCEPT MOD")
    value = Code("30288003", "SCT", "VSD")
    content = findings(finding(value, absent)) if where == "item" else findings(absent, finding(value))
    entry = read(content)
    assert (facts(entry), reasons(entry)) == ({}, ["modifier_unknown"])


def test_a_property_of_a_finding_may_take_it_back():
    absent = code(Code("246103008", "SCT", "Certainty"), Code("385434005", "SCT", "Improbable"), by="HAS PROPERTIES")
    assert reasons(read(findings(finding(Code("30288003", "SCT", "VSD"), absent)))) == ["modifier_unknown"]


def test_known_modifiers_are_allowed():
    site = code(Code("363698007", "SCT", "Finding Site"), Code("80891009", "SCT", "Heart"), by="HAS CONCEPT MOD")
    language = code(
        codes.DCM.LanguageOfContentItemAndDescendants, Code("en", "RFC5646", "English"), by="HAS CONCEPT MOD"
    )
    entry = read(language, findings(language, finding(Code("30288003", "SCT", "VSD"), site)))
    assert (facts(entry), reasons(entry)) == ({"findings": "SCT:30288003"}, [])


@pytest.mark.parametrize("title", [codes.DCM.History, codes.DCM.PreviousFindings])
def test_a_view_of_an_earlier_day_is_not_of_this_examination(title):
    entry = read(section(title, findings(view("transthalamic", *seen("thalami")))))
    assert (facts(entry), reasons(entry)) == ({}, [])


@pytest.mark.parametrize("title", [codes.DCM.ImageLibrary, Code("Okafor", "99LOCAL", "views"), codes.DCM.Findings])
def test_a_view_counts_wherever_it_stands(title):
    entry = read(section(title, section(Code("1", "99LOCAL", "x"), view("Trans-Ventricular", *seen("falx")))))
    (found,) = (statement for statement in entry.statements if statement.fact == "structures_seen")
    assert (found.value, found.plane) == ("falx", "transventricular")
    assert "Okafor" not in found.field


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (codes.SCT.Left, "left"),
        (codes.SCT.Right, "right"),
        (Code("51440002", "SCT", "Bilateral"), "bilateral"),
        (Code("G-A101", "SRT", "Left"), "left"),
    ],
)
@pytest.mark.parametrize("name", [codes.SCT.Laterality, codes.DCM.ImageLaterality])
def test_a_views_side_holds_for_its_plane(value, expected, name):
    entry = read(view("femur", side(value, name)))
    assert (statements(entry, "laterality"), reasons(entry)) == ([(expected, "femur")], [])


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (view("Okafor"), "plane_unknown"),
        (view("femur", *seen("Okafor")), "structure_unknown"),
        (view("femur", code(Code("N", "99L", "not seen"), Code("x", "99L", "femur"))), "component_unknown"),
        (view("femur", code(codes.DCM.ImageViewModifier, codes.SCT.Left, by="HAS CONCEPT MOD")), "modifier_unknown"),
        (view("femur", side(codes.SCT.Left), side(codes.SCT.Right)), "laterality_unknown"),
        (view("femur", side(codes.SCT.Unilateral)), "laterality_unknown"),
        (view("femur", side(Code("7771000", "99LOCAL", "Left"))), "laterality_unknown"),
    ],
)
def test_views_that_the_vocabulary_does_not_have_are_faults(content, reason):
    entry = read(content)
    assert (facts(entry), reasons(entry)) == ({}, [reason])
    assert "Okafor" not in repr(entry)


def test_a_code_and_a_meaning_of_two_planes_are_a_fault():
    both = code(codes.DCM.ImageView, Code("femur", "99LOCAL", "humerus"))
    assert reasons(read(both)) == ["plane_unknown"]


@pytest.mark.parametrize(
    ("scheme", "value", "expected"),
    [
        ("SCT", "30288003", "SCT:30288003"),
        ("SRT", "F-20265", None),
        ("SRT", "D4-31150", "SCT:30288003"),
        ("DCM", "111031", "DCM:111031"),
        ("HP", "0001561", "HP:0001561"),
        ("HPO", "HP:0001561", "HP:0001561"),
        ("I10", "O40", "ICD10:O40"),
        ("I10C", "O40.3XX0", "ICD10:O40.3XX0"),
        ("I11", "LA88.4", "ICD11:LA88.4"),
        ("SCT", "OKAFOR", None),
        ("DCM", "OKAFOR", None),
        ("I11", "NGOZI", None),
        ("99LOCAL", "30288003", None),
        ("", "30288003", None),
    ],
)
def test_a_finding_is_a_code_of_a_known_system(scheme, value, expected):
    entry = read(findings(finding(Code(value, scheme, "Okafor"))))
    if expected is None:
        assert (facts(entry), reasons(entry)) == ({}, ["finding_malformed"])
    else:
        assert (facts(entry), reasons(entry)) == ({"findings": expected}, [])

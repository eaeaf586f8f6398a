"""Measurements in structured reports: units, codes, and which of several values is taken."""

from __future__ import annotations

import pytest
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

from sono.captioning.readers.sr.reader import read_document
from tests.captioning.readers.sr.reports import (
    BPD,
    CM,
    FL,
    GA,
    HC,
    MEAN,
    MM,
    READING,
    WEEK,
    biometry,
    coded,
    dataset,
    derived,
    facts,
    fetus_summary,
    group,
    item,
    mean,
    number,
    read,
    reasons,
    section,
    selected,
    summary,
    to_bytes,
)

REPEATED = (190.0, 194.0)


def test_the_selected_value_is_taken():
    first, second = number(HC, 190.0), number(HC, 194.0, MM, selected())
    assert facts(read(biometry(group(first, second, number(HC, 192.0, MM, mean()))))) == {"hc_mm": 194.0}


@pytest.mark.parametrize("status", ["UserChosenValue", "MostRecentValueChosen", "MeanValueChosen"])
def test_every_selection_status_counts(status):
    chosen = number(HC, 190.0, MM, selected(getattr(codes.DCM, status)))
    assert facts(read(biometry(group(chosen, number(HC, 194.0))))) == {"hc_mm": 190.0}


@pytest.mark.parametrize("derivation", [MEAN, Code("R-00317", "SRT", "Mean")])
def test_without_a_selection_the_mean_of_the_report_is_taken(derivation):
    values = [number(HC, value) for value in REPEATED]
    entry = read(biometry(group(*values, number(HC, 191.7, MM, derived(derivation)))))
    assert (facts(entry), reasons(entry)) == ({"hc_mm": 191.7}, [])


def test_several_values_are_never_averaged():
    entry = read(biometry(group(*(number(HC, value) for value in REPEATED)), group(number(FL, 36.1))))
    assert (facts(entry), reasons(entry)) == ({"fl_mm": 36.1}, ["several_values"])


def test_two_sections_may_repeat_one_measurement():
    long_bones = section(codes.DCM.FetalLongBones, group(number(FL, 38.0)))
    assert reasons(read(biometry(group(number(FL, 36.1))), long_bones)) == ["several_values"]
    again = section(codes.DCM.FetalLongBones, group(number(FL, 3.61, CM)))
    assert facts(read(biometry(group(number(FL, 36.1))), again)) == {"fl_mm": 36.1}


def test_two_selected_values_contradict_each_other():
    values = [number(HC, value, MM, selected()) for value in REPEATED]
    assert reasons(read(biometry(group(*values, number(HC, 192, MM, mean()))))) == ["several_values"]


def test_a_median_or_a_maximum_is_not_taken():
    median = Code("373099004", "SCT", "Median")
    assert facts(read(biometry(group(number(HC, 192, MM, derived(median)), number(HC, 190.0))))) == {"hc_mm": 190.0}
    entry = read(biometry(group(number(HC, 192, MM, derived(median)))))
    assert (facts(entry), reasons(entry)) == ({}, ["derivation_unknown"])


def test_a_value_that_cannot_be_taken_leaves_the_others_in_doubt():
    inches = Code("[in_i]", "UCUM", "inch")
    entry = read(biometry(group(number(HC, 190.0), number(HC, 7.6, inches))))
    assert facts(entry) == {}
    assert "unit_unknown" in reasons(entry)
    assert facts(read(biometry(group(number(HC, 190.0, MM, selected()), number(HC, 7.6, inches))))) == {"hc_mm": 190.0}


def test_every_measurement_has_its_code():
    values = {
        BPD: ("bpd_mm", 51.3),
        HC: ("hc_mm", 190.2),
        codes.LN.AbdominalCircumference: ("ac_mm", 170.0),
        FL: ("fl_mm", 36.1),
        codes.LN.CrownRumpLength: ("crl_mm", 60.4),
        codes.LN.NuchalTranslucency: ("nt_mm", 1.6),
        codes.LN.TransverseCerebellarDiameter: ("tcd_mm", 23.5),
        codes.LN.HumerusLength: ("hl_mm", 34.2),
    }
    entry = read(biometry(*(group(number(name, value)) for name, (_, value) in values.items())))
    assert facts(entry) == dict(values.values())


def test_units_are_converted():
    assert facts(read(biometry(number(HC, 19.02, CM)))) == {"hc_mm": 190.2}
    assert facts(read(summary(fetus_summary(number(GA, 20.14, WEEK))))) == {"ga_days": 141}


@pytest.mark.parametrize(
    ("value", "unit", "reason"),
    [
        ("190.2", Code("mm", "99LOCAL", "mm"), "unit_unknown"),
        ("190.2", Code("inch", "UCUM", "inch"), "unit_unknown"),
        ("1902", MM, "number_impossible"),
        ("9e99", MM, "number_impossible"),
    ],
)
def test_an_impossible_measurement_is_a_fault(value, unit, reason):
    entry = read(biometry(group(number(HC, value, unit))), biometry(group(number(FL, 36.1))))
    assert (facts(entry), reasons(entry)) == ({"fl_mm": 36.1}, [reason])


def test_text_in_place_of_a_number_is_a_fault_of_that_number_alone():
    content = to_bytes(dataset(biometry(group(number(HC, "190.25")), group(number(FL, 36.1)))))
    entry = read_document(content.replace(b"190.25", b"Okafor"), "document 1", READING)
    assert (facts(entry), reasons(entry)) == ({"fl_mm": 36.1}, ["value_malformed"])


def test_a_number_qualified_as_not_a_number_is_not_taken():
    unknown = [coded(Code("114000", "DCM", "Not a number"))]
    entry = read(biometry(number(HC, 190, MM, NumericValueQualifierCodeSequence=unknown)))
    assert (facts(entry), reasons(entry)) == ({}, ["value_malformed"])


def test_a_number_without_a_value_says_nothing():
    entry = read(biometry(item("NUM", HC, MeasuredValueSequence=[])))
    assert (facts(entry), reasons(entry)) == ({}, [])

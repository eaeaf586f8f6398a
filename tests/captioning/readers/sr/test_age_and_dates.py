"""Gestational ages and dates in structured reports: those of the examination, and no others."""

from __future__ import annotations

from datetime import date, timedelta

import pytest
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

from tests.captioning.readers.sr.reports import (
    BPD,
    CM,
    COMPOSITE,
    DAY,
    GA,
    HC,
    KEYS,
    MM,
    PATIENT,
    biometry,
    code,
    day,
    facts,
    fetus_summary,
    group,
    number,
    read,
    reasons,
    section,
    summary,
)


def test_the_age_in_a_biometry_group_is_not_the_examinations():
    equation = code(codes.DCM.Equation, Code("11902-4", "LN", "BPD, Hadlock 1984"), by="INFERRED FROM")
    entry = read(biometry(group(number(BPD, 51.3), number(GA, 151, DAY, equation))))
    assert (facts(entry), reasons(entry)) == ({"bpd_mm": 51.3}, [])


@pytest.mark.parametrize("title", [codes.DCM.FetalBiometry, codes.DCM.EarlyGestation, codes.DCM.FetalCranium])
def test_an_age_beside_measurements_is_not_the_examinations(title):
    assert facts(read(section(title, number(HC, 190), number(GA, 151, DAY)))) == {"hc_mm": 190.0}


def test_what_a_number_was_inferred_from_is_not_taken():
    weight = Code("11727-5", "LN", "Estimated Weight")
    inferred = [number(HC, 170, MM, by="INFERRED FROM"), number(GA, 99, DAY, by="INFERRED FROM")]
    entry = read(summary(fetus_summary(number(weight, 350, Code("g", "UCUM", "g"), *inferred))))
    assert (facts(entry), reasons(entry)) == ({}, [])


def test_early_gestation_gives_crown_rump_length_and_no_age():
    crl, nt = codes.LN.CrownRumpLength, codes.LN.NuchalTranslucency
    groups = (group(number(crl, 6.04, CM), number(GA, 88, DAY)), group(number(nt, 1.6)))
    sac = section(Code("121070", "DCM", "Findings"), number(codes.LN.AmnioticFluidIndex, 120))
    assert facts(read(section(codes.DCM.EarlyGestation, *groups), sac)) == {"crl_mm": 60.4, "nt_mm": 1.6}


@pytest.mark.parametrize(
    ("loinc", "fact"),
    [
        ("18185-9", "ga_days"),
        ("11884-4", "ga_days_by_ultrasound"),
        ("11888-5", "ga_days_by_ultrasound"),
        ("11885-1", "ga_days_by_lmp"),
        ("11887-7", "ga_days_by_edd"),
    ],
)
def test_ages_of_the_fetus_summary_are_the_examinations(loinc, fact):
    assert facts(read(summary(fetus_summary(number(Code(loinc, "LN", "age"), 150, DAY))))) == {fact: 150}


def test_ages_that_contradict_each_other_are_not_taken():
    entry = read(summary(fetus_summary(number(GA, 150, DAY), number(GA, 160, DAY), number(COMPOSITE, 152, DAY))))
    assert (facts(entry), reasons(entry)) == ({"ga_days_by_ultrasound": 152}, ["several_values"])


def test_an_age_observed_on_another_day_is_not_the_examinations():
    entry = read(summary(fetus_summary(number(GA, 122, DAY, ObservationDateTime="20230408101500"))))
    assert (facts(entry), reasons(entry)) == ({}, ["another_day"])
    assert facts(read(summary(fetus_summary(number(GA, 150, DAY, ObservationDateTime="20230506")))))


def test_dates_of_the_pregnancy_are_days_on_the_patients_calendar():
    entry = read(summary(day(codes.LN.LMP, "20221201"), day(codes.LN.EDD, "20230909")))
    expected = {"lmp_day": date(2022, 12, 1), "edd_day": date(2023, 9, 9)}
    assert facts(entry) == {fact: KEYS.day(PATIENT, when) for fact, when in expected.items()}


def test_an_estimated_last_period_counts_and_derived_due_dates_do_not():
    derived_dates = (day(codes.LN.EDDFromLMP, "20230907"), day(codes.LN.EDDFromAverageUltrasoundAge, "20230911"))
    entry = read(summary(day(Code("11955-2", "LN", "LMP"), "20221201"), *derived_dates))
    assert facts(entry) == {"lmp_day": KEYS.day(PATIENT, date(2022, 12, 1))}


@pytest.mark.parametrize(
    ("name", "when", "reason"),
    [
        (codes.LN.LMP, "20230507", "date_impossible"),
        (codes.LN.LMP, "20220506", "date_impossible"),
        (codes.LN.EDD, "20230330", "date_impossible"),
        (codes.LN.EDD, "20240506", "date_impossible"),
        (codes.LN.EDD, "20230931", "date_malformed"),
        (codes.LN.EDD, "2023", "date_malformed"),
    ],
)
def test_an_impossible_date_is_a_fault(name, when, reason):
    entry = read(summary(day(name, when)))
    assert (facts(entry), reasons(entry)) == ({}, [reason])


def test_the_examination_is_dated_by_the_study_or_else_the_content():
    content = biometry(number(HC, 190))
    for header, when in (
        ({"StudyDate": "20230506", "ContentDate": "20230509"}, date(2023, 5, 6)),
        ({"StudyDate": "", "ContentDate": "20230509"}, date(2023, 5, 9)),
    ):
        exam = read(content, **header).exam
        assert exam is not None
        assert exam.study_day == KEYS.day(PATIENT, when)


def test_an_impossible_date_of_the_examination_is_left_out():
    content = biometry(number(HC, 190))
    tomorrow = (date.today() + timedelta(days=3)).strftime("%Y%m%d")
    for text_, reason in ((tomorrow, "date_impossible"), ("20231301", "date_malformed")):
        entry = read(content, StudyDate=text_)
        assert entry.exam is not None
        assert (entry.exam.study_day, reasons(entry), facts(entry)) == (None, [reason], {"hc_mm": 190.0})

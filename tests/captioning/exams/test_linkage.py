"""Which examination a record is about, and what becomes of records that contradict each other."""

from __future__ import annotations

import datetime

import pytest

from tests.captioning.readers.fhir import resources as fhir

DAY = datetime.date(2024, 5, 15)
OTHER_DAY = datetime.date(2024, 6, 20)


def ages(clinic):
    """Gestational age by study, of the studies that have one."""
    return {row["study_key"]: row["ga_days"] for row in clinic.records() if row["ga_days"] is not None}


def test_a_record_finds_its_study_by_accession_number(clinic):
    clinic.frames("one", clinic.frame("a", accession="A1"), clinic.frame("b", study="2.2", accession="A2"))
    clinic.caption(clinic.csv("patient_id,accession,ga_days", "PAT-1,A2,150"))
    assert ages(clinic) == {clinic.workspace.keys.study("2.2"): 150}


def test_a_record_finds_its_study_by_patient_and_date(clinic):
    clinic.frames("one", clinic.frame("a", date=DAY), clinic.frame("b", study="2.2", date=OTHER_DAY))
    clinic.caption(clinic.csv("patient_id,exam_date,ga_days", f"PAT-1,{OTHER_DAY},150", f"PAT-2,{DAY},151"))
    assert ages(clinic) == {clinic.workspace.keys.study("2.2"): 150}
    assert clinic.reasons("records") == ["unmatched"]


def test_a_patients_only_study_needs_neither(clinic):
    clinic.frames("one", clinic.frame("a", study=None), clinic.frame("b", study="2.2", patient="PAT-2", date=DAY))
    report = clinic.caption(clinic.csv("patient_id,ga_weeks", " PAT-1 ,8+2", "PAT-2,21+0"))
    assert sorted(ages(clinic).values()) == [58, 147]
    assert (report.matches.studies, report.matches.studies_with_record) == (2, 2)


def test_a_date_does_not_keep_a_record_from_images_that_have_none(clinic):
    clinic.frames("one", clinic.frame("a"))
    clinic.caption(clinic.csv("patient_id,exam_date,ga_days", f"PAT-1,{DAY},150"))
    assert list(ages(clinic).values()) == [150]


@pytest.mark.parametrize(
    ("header", "line"),
    [("patient_id,ga_days", "PAT-1,150"), ("patient_id,exam_date,ga_days", f"PAT-1,{DAY},150")],
)
def test_what_fits_two_studies_is_attributed_to_neither(clinic, header, line):
    clinic.frames("one", clinic.frame("a", date=DAY), clinic.frame("b", study="2.2", date=DAY))
    clinic.caption(clinic.csv(header, line))
    assert ages(clinic) == {}
    (row,) = clinic.exclusions("records")
    assert row["reason"] == "matched_twice"
    assert row["message"] == "line 2 of records file 1: several examinations fit it"


def test_a_record_of_another_day_than_its_studys_images_is_left_out(clinic):
    clinic.frames("one", clinic.frame("a", date=DAY))
    lines = [f"PAT-1,1.2.840.1,{day},150" for day in (OTHER_DAY,)]
    clinic.caption(clinic.csv("patient_id,study_id,exam_date,ga_days", *lines))
    assert clinic.reasons("records") == ["another_day"]
    clinic.caption(clinic.csv("patient_id,study_id,exam_date,ga_days", "PAT-1,1.2.840.1,2024-05-16,150"))
    assert list(ages(clinic).values()) == [150]  # past midnight


def test_a_study_that_two_patients_claim_is_left_out(clinic):
    clinic.frames("one", clinic.frame("a"))
    lines = ["PAT-1,1.2.840.1,,150", "PAT-2,1.2.840.1,femur,"]
    report = clinic.caption(clinic.csv("patient_id,study_id,plane,ga_days", *lines))
    assert clinic.records() == []
    assert report.records.exclusions == {"two_patients": 2}
    assert report.captions.exclusions == {"no_record": 1}


def twins(clinic, **changes):
    """Resources that say of one examination, study 1.2.3 of the patient MRN-0815, that it was of two fetuses."""
    count = fhir.observation("11878-6", **{"valueInteger": 2, **changes})
    path = clinic.folder / "fetuses.json"
    path.write_bytes(fhir.bundle(fhir.patient(), fhir.study(), {k: v for k, v in count.items() if v is not None}))
    return path


def test_an_examination_of_twins_has_no_facts_whatever_record_says_so(clinic):
    frames = [clinic.frame(study, study=study, patient="MRN-0815") for study in ("1.2.3", "2.2")]
    clinic.frames("one", *frames)
    table = clinic.csv("patient_id,study_id,ga_days", "MRN-0815,1.2.3,150", "MRN-0815,2.2,180")
    clinic.caption(table)
    assert sorted(ages(clinic).values()) == [150, 180]
    clinic.caption(table, twins(clinic))
    assert ages(clinic) == {clinic.workspace.keys.study("2.2"): 180}
    left_out = [row for row in clinic.exclusions("records") if row["reason"] == "several_fetuses"]
    assert [row["source_key"] for row in left_out] == [clinic.workspace.keys.study("1.2.3")]
    (row,) = [row for row in clinic.records() if row["study_key"] == clinic.workspace.keys.study("1.2.3")]
    assert row["identity"]  # captions of it must not name the patient all the same


def test_twins_of_a_record_that_names_another_day_are_twins_all_the_same(clinic):
    day = datetime.date(2023, 5, 8)  # the resources say the sixth
    clinic.frames("one", clinic.frame("a", study="1.2.3", patient="MRN-0815", date=day))
    table = clinic.csv("patient_id,study_id,ga_days", "MRN-0815,1.2.3,150")
    clinic.caption(table, twins(clinic))
    assert ages(clinic) == {}
    assert {"another_day", "several_fetuses"} <= set(clinic.reasons("records"))


def test_twins_that_may_be_of_two_examinations_are_of_both(clinic):
    days = {"7.1": datetime.date(2023, 5, 8), "7.2": datetime.date(2023, 6, 8)}
    frames = [clinic.frame(study, study=study, patient="MRN-0815", date=day) for study, day in days.items()]
    clinic.frames("one", *frames, clinic.frame("other", study="8.1", patient="PAT-2"))
    table = clinic.csv("patient_id,study_id,ga_days", "MRN-0815,7.1,150", "MRN-0815,7.2,181", "PAT-2,8.1,170")
    clinic.caption(table, twins(clinic, derivedFrom=None, effectiveDateTime=None))
    assert ages(clinic) == {clinic.workspace.keys.study("8.1"): 170}


@pytest.mark.parametrize("code", ["SCT:65147003", "ICD10:O30.0", "ICD10:O31.10X0"])
def test_a_finding_may_be_the_code_of_a_pregnancy_of_twins(clinic, code):
    clinic.frames("one", clinic.frame("a"))
    clinic.caption(clinic.csv("patient_id,study_id,ga_days,findings", f"PAT-1,1.2.840.1,150,{code}"))
    assert ages(clinic) == {}
    assert "several_fetuses" in clinic.reasons("records")


def test_what_is_measured_in_twins_dates_no_other_examination(clinic):
    """A crown-rump length may be of either of them."""
    early, late = datetime.date(2023, 5, 6), datetime.date(2023, 7, 1)
    days = {"1.2.3": early, "2.2": late}
    frames = [clinic.frame(study, study=study, patient="MRN-0815", date=day) for study, day in days.items()]
    clinic.frames("one", *frames)
    lines = [f"MRN-0815,1.2.3,{early},60", f"MRN-0815,2.2,{late},"]
    table = clinic.csv("patient_id,study_id,exam_date,crl_mm", *lines)
    clinic.caption(table)
    assert len(ages(clinic)) == 2
    clinic.caption(table, twins(clinic))
    assert ages(clinic) == {}


@pytest.mark.parametrize(
    ("column", "one", "other", "fact"),
    [
        ("fl_mm", "33.5", "34.5", "fl_mm"),
        ("presentation", "breech", "cephalic", "presentation"),
        ("laterality", "left", "right", "laterality"),
    ],
)
def test_two_lines_that_disagree_say_nothing(clinic, column, one, other, fact):
    clinic.frames("one", clinic.frame("a"))
    lines = [f"PAT-1,1.2.840.1,150,{value}" for value in (one, other)]
    report = clinic.caption(clinic.csv(f"patient_id,study_id,ga_days,{column}", *lines))
    assert report.records.exclusions == {"conflict": 1}
    assert clinic.records()[0][fact] is None
    assert list(ages(clinic).values()) == [150]
    (row,) = clinic.exclusions("records")
    assert row["message"].endswith(f"give different values of {fact}")


def test_lines_that_agree_are_no_conflict(clinic):
    clinic.frames("one", clinic.frame("a"))
    lines = ["PAT-1,1.2.840.1,150,33.5,head", "PAT-1,1.2.840.1,150,33.55,thalami"]
    report = clinic.caption(clinic.csv("patient_id,study_id,ga_days,fl_mm,structures_seen", *lines))
    assert report.records.exclusions == {}
    assert clinic.records()[0]["structures_seen"] == ["head", "thalami"]
    assert clinic.records()[0]["fl_mm"] == 33.5


@pytest.mark.parametrize(
    ("header", "lines"),
    [
        ("ga_days", ["150", "151"]),
        ("edd", ["2024-09-23", "2024-09-24"]),
        ("ga_days,ga_weeks_by_lmp", ["150,25+0"]),
        ("exam_date,ga_days,edd", [f"{DAY},150,2024-11-30"]),
    ],
)
def test_ages_that_contradict_each_other_give_none(clinic, header, lines):
    clinic.frames("one", clinic.frame("a"))
    rows = [f"PAT-1,1.2.840.1,{line}" for line in lines]
    report = clinic.caption(clinic.csv(f"patient_id,study_id,{header}", *rows))
    (record,) = clinic.records()
    assert record["ga_days"] is None
    assert record["ga_conflict"]
    assert "gestational_age_conflict" in report.records.exclusions
    assert report.captions.exclusions == {"gestational_age_conflict": 1}
    assert clinic.texts() == []


def test_a_due_date_holds_for_all_examinations_of_its_pregnancy(clinic):
    years_before = datetime.date(2021, 5, 15)
    clinic.frames(
        "one",
        clinic.frame("a", date=DAY),
        clinic.frame("b", study="2.2", date=OTHER_DAY),
        clinic.frame("c", study="3.3", date=years_before),
    )
    lines = [f"PAT-1,1.2.840.1,{DAY},2024-09-22,", f"PAT-1,2.2,{OTHER_DAY},,head", f"PAT-1,3.3,{years_before},,head"]
    clinic.caption(clinic.csv("patient_id,study_id,exam_date,edd,structures_seen", *lines))
    keys = clinic.workspace.keys
    assert ages(clinic) == {keys.study("1.2.840.1"): 150, keys.study("2.2"): 186}
    record = next(row for row in clinic.records() if row["study_key"] == keys.study("2.2"))
    assert "column edd of another examination" in str(record["provenance"])


def test_an_early_crown_rump_length_dates_the_later_examinations(clinic):
    early = DAY - datetime.timedelta(days=70)
    clinic.frames("one", clinic.frame("a", date=early), clinic.frame("b", study="2.2", date=DAY))
    lines = [f"PAT-1,1.2.840.1,{early},50,", f"PAT-1,2.2,{DAY},,head"]
    clinic.caption(clinic.csv("patient_id,study_id,exam_date,crl_mm,structures_seen", *lines))
    first, second = (ages(clinic)[clinic.workspace.keys.study(study)] for study in ("1.2.840.1", "2.2"))
    assert 78 <= first <= 84
    assert second == first + 70
    assert {row["ga_source"] for row in clinic.records()} == {"crl"}


def test_the_age_is_that_of_the_images_day(clinic):
    clinic.frames("one", clinic.frame("a", date=DAY))
    lmp = DAY - datetime.timedelta(days=150)
    clinic.caption(clinic.csv("patient_id,study_id,lmp", f"PAT-1,1.2.840.1,{lmp}"))
    assert list(ages(clinic).values()) == [150]


def test_an_accession_number_that_the_images_do_not_have_is_of_another_examination(clinic):
    clinic.frames("one", clinic.frame("a", accession="A1"), clinic.frame("b", study="2.2", patient="PAT-2"))
    clinic.caption(clinic.csv("patient_id,accession,ga_days", "PAT-1,A9,150", "PAT-2,A9,150"))
    assert ages(clinic) == {clinic.workspace.keys.study("2.2"): 150}  # these images have none at all
    assert clinic.reasons("records") == ["unmatched"]


def test_every_accession_number_of_a_study_counts(clinic):
    clinic.frames("one", clinic.frame("a", accession="A1"), clinic.frame("b", accession="A2"))
    clinic.caption(clinic.csv("patient_id,accession,ga_days", "PAT-1,A1,150"))
    assert list(ages(clinic).values()) == [150]


def test_an_accession_number_of_two_studies_tells_neither(clinic):
    frames = [("a", "1.1", "A1"), ("b", "2.2", "A1"), ("c", "2.2", "A3")]
    clinic.frames("one", *[clinic.frame(name, study=study, accession=number) for name, study, number in frames])
    clinic.caption(clinic.csv("patient_id,accession,ga_days", "PAT-1,A1,150"))
    assert clinic.reasons("records") == ["matched_twice"]


@pytest.mark.parametrize("record", [f"PAT-1,,{DAY},150", "PAT-1,,,150"])
def test_a_record_is_not_spread_over_images_of_several_days(clinic, record):
    """Images that were ingested without a study are all in one; their days say that they are not of one examination."""
    clinic.frames("one", clinic.frame("a", study=None, date=DAY), clinic.frame("b", study=None, date=OTHER_DAY))
    report = clinic.caption(clinic.csv("patient_id,study_id,exam_date,ga_days", record))
    assert report.records.exclusions == {"several_days": 1}
    assert clinic.texts() == []


@pytest.mark.parametrize("study", ["1.2.840.1", ""])
def test_records_of_two_days_are_not_of_one_examination(clinic, study):
    clinic.frames("one", clinic.frame("a"))
    lines = [f"PAT-1,{study},{DAY},150,", f"PAT-1,{study},{OTHER_DAY},,33.5"]
    report = clinic.caption(clinic.csv("patient_id,study_id,exam_date,ga_days,fl_mm", *lines))
    assert report.records.exclusions == {"two_days": 2}
    assert clinic.records() == []


def frame_without_patient(clinic, name, date):
    """As ingest makes it with ``missing_patient = "study"``: its day stands on the study's calendar."""
    keys = clinic.workspace.keys
    frame = clinic.frame(name)
    frame["patient_key"] = keys.patient_of_study(str(frame["study_key"]))
    frame["patient_center_key"] = frame["patient_number_key"] = None
    frame["study_day"] = keys.day(str(frame["patient_key"]), date)
    return frame


def test_days_of_two_calendars_are_not_compared(clinic):
    clinic.frames("one", frame_without_patient(clinic, "a", DAY))
    lmp = DAY - datetime.timedelta(days=150)
    clinic.caption(clinic.csv("patient_id,study_id,exam_date,lmp", f"PAT-1,1.2.840.1,{DAY},{lmp}"))
    assert list(ages(clinic).values()) == [150]
    clinic.caption(clinic.csv("patient_id,study_id,lmp", f"PAT-1,1.2.840.1,{lmp}"))
    assert clinic.reasons("records") == ["no_gestational_age"]


@pytest.mark.parametrize("other", [f"PAT-{number}" for number in range(2, 8)])
def test_images_of_another_patient_in_the_study_do_not_move_its_day(clinic, other):
    clinic.frames("one", clinic.frame("a", date=DAY), clinic.frame("b", patient=other, date=DAY))
    report = clinic.caption(clinic.csv("patient_id,study_id,exam_date,ga_days", f"PAT-1,1.2.840.1,{DAY},150"))
    assert list(ages(clinic).values()) == [150]
    assert report.captions.exclusions == {"another_patient": 1}


@pytest.mark.parametrize(
    ("one", "other", "agree"), [("33.5", "33.6", True), ("35.5", "35.6", True), ("3", "3.2", False)]
)
def test_a_tenth_of_a_millimetre_is_rounding_in_any_bits(clinic, one, other, agree):
    clinic.frames("one", clinic.frame("a"))
    lines = [f"PAT-1,1.2.840.1,150,{value}" for value in (one, other)]
    report = clinic.caption(clinic.csv("patient_id,study_id,ga_days,fl_mm", *lines))
    assert report.records.exclusions == ({} if agree else {"conflict": 1})


def test_a_due_date_in_conflict_leaves_the_other_examinations_without(clinic):
    days = [DAY + datetime.timedelta(days=30 * number) for number in range(3)]
    clinic.frames("one", *[clinic.frame(f"{n}", study=f"{n}", date=day) for n, day in enumerate(days)])
    edds = [(0, "2024-09-22"), (1, "2024-09-22"), (1, "2024-11-30"), (2, "")]
    lines = [f"PAT-1,{n},{days[n]},{edd},head" for n, edd in edds]
    clinic.caption(clinic.csv("patient_id,study_id,exam_date,edd,structures_seen", *lines))
    assert ages(clinic) == {clinic.workspace.keys.study("0"): 150}

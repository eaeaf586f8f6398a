"""DICOM structured reports: what they say of an examination, and nothing of whom."""

from __future__ import annotations

import dataclasses
import io
import random
import struct
import time
from collections.abc import Sequence
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.uid import (
    UID,
    BasicTextSRStorage,
    Comprehensive3DSRStorage,
    ComprehensiveSRStorage,
    DeflatedExplicitVRLittleEndian,
    EnhancedSRStorage,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    UltrasoundImageStorage,
)

from sono.captioning.facts.statements import BY_RULE, Entry, Fault, Reading, Statement
from sono.captioning.readers.sr.content import is_dicom
from sono.captioning.readers.sr.reader import read_document
from sono.curation.phantom.anatomy import FINDINGS
from sono.curation.phantom.exams import plan_exam
from sono.curation.phantom.files import sr
from sono.curation.phantom.hospitals import Center
from sono.curation.phantom.records import ExamRecord, Patient, View
from sono.manifests import vocabulary as vocabularies
from sono.manifests.pseudonyms import Pseudonymizer

KEYS = Pseudonymizer(bytes(range(32)))
VOCABULARY = vocabularies.load()
READING = Reading(KEYS, VOCABULARY)
MM, CM, DAY, WEEK = (Code(unit, "UCUM", unit) for unit in ("mm", "cm", "d", "wk"))
HC, BPD, FL = codes.LN.HeadCircumference, codes.LN.BiparietalDiameter, codes.LN.FemurLength
GA, COMPOSITE = codes.LN.GestationalAge, codes.LN.CompositeUltrasoundAge
MEAN = Code("373098007", "SCT", "Mean")
PATIENT = KEYS.patient("MRN 0815")

RECORD = ExamRecord(
    center=Center("north clinic", "St. Änne", "GE Healthcare", "Voluson E10", "EC200"),
    patient=Patient("MRN 0815", "Ünlü-Schmidt", "Ana María", date(1990, 2, 3)),
    study_uid="2.25.329800735698586629295641978511506172918",
    accession_number="ACC-77",
    started=datetime(2023, 5, 6, 7, 8, 9),
    referring_physician=("Łęcka", "Olga"),
    sonographer=("Nyström", "Åsa"),
    lmp=date(2022, 12, 1),
    edd=date(2023, 9, 9),
    ga_days=150,
    ga_days_by_lmp=156,
    biometry_mm={"bpd_mm": 51.3, "hc_mm": 190.2, "ac_mm": 170.0, "crl_mm": 60.4, "nt_mm": 1.6, "hl_mm": 34.2},
    views=tuple(View(plane.id, plane.structures) for plane in VOCABULARY.planes.values()),
    findings=tuple(FINDINGS),
)


# --------------------------------------------------------------------------------------- reports, built by the standard


def item(kind: str, name: Code, *children: Dataset, by: str = "CONTAINS", **values: Any) -> Dataset:
    found = Dataset()
    found.RelationshipType = by
    found.ValueType = kind
    found.ConceptNameCodeSequence = [coded(name)]
    for keyword, value in values.items():
        setattr(found, keyword, value)
    if children:
        found.ContentSequence = list(children)
    return found


def coded(code: Code) -> Dataset:
    found = Dataset()
    found.CodeValue, found.CodingSchemeDesignator, found.CodeMeaning = code.value, code.scheme_designator, code.meaning
    return found


def section(name: Code, *children: Dataset) -> Dataset:
    return item("CONTAINER", name, *children, ContinuityOfContent="SEPARATE")


def number(name: Code, value: object, unit: Code = MM, *children: Dataset, **values: Any) -> Dataset:
    measured = Dataset()
    measured.NumericValue = str(value)
    measured.MeasurementUnitsCodeSequence = [coded(unit)]
    return item("NUM", name, *children, MeasuredValueSequence=[measured], **values)


def code(name: Code, value: Code, *children: Dataset, by: str = "CONTAINS") -> Dataset:
    return item("CODE", name, *children, by=by, ConceptCodeSequence=[coded(value)])


def day(name: Code, text: str) -> Dataset:
    return item("DATE", name, Date=text)


def text(name: Code, value: str, by: str = "CONTAINS") -> Dataset:
    return item("TEXT", name, by=by, TextValue=value)


def mean() -> Dataset:
    return code(codes.DCM.Derivation, MEAN, by="HAS CONCEPT MOD")


def derived(value: Code) -> Dataset:
    return code(codes.DCM.Derivation, value, by="HAS CONCEPT MOD")


def selected(value: Code = codes.DCM.UserChosenValue) -> Dataset:
    return code(codes.DCM.SelectionStatus, value, by="HAS PROPERTIES")


def group(*children: Dataset) -> Dataset:
    return section(codes.DCM.BiometryGroup, *children)


def biometry(*children: Dataset) -> Dataset:
    return section(codes.DCM.FetalBiometry, *children)


def summary(*children: Dataset) -> Dataset:
    return section(codes.DCM.Summary, *children)


def fetus_summary(*children: Dataset) -> Dataset:
    return section(codes.DCM.FetusSummary, *children)


def findings(*children: Dataset) -> Dataset:
    return section(codes.DCM.Findings, *children)


def finding(value: Code, *children: Dataset) -> Dataset:
    return code(codes.DCM.Finding, value, *children)


def dataset(*content: Dataset, **header: Any) -> Dataset:
    report = section(codes.DCM.OBGYNUltrasoundProcedureReport, *content)
    del report.RelationshipType
    values: dict[str, Any] = {
        "SpecificCharacterSet": "ISO_IR 192",
        "SOPClassUID": ComprehensiveSRStorage,
        "SOPInstanceUID": "2.25.1",
        "PatientName": "Okafor^Ngozi",
        "PatientID": "MRN 0815",
        "StudyInstanceUID": "2.25.2",
        "AccessionNumber": "ACC-77",
        "StudyDate": "20230506",
        "Modality": "SR",
        "CompletionFlag": "COMPLETE",
        **header,
    }
    for keyword, value in values.items():
        if value is not None:
            setattr(report, keyword, value)
    return report


def to_bytes(report: Dataset, syntax: UID = ExplicitVRLittleEndian) -> bytes:
    report.file_meta = FileMetaDataset()
    report.file_meta.TransferSyntaxUID = syntax
    report.file_meta.MediaStorageSOPClassUID = report.SOPClassUID
    report.file_meta.MediaStorageSOPInstanceUID = report.SOPInstanceUID
    file = io.BytesIO()
    report.save_as(file, enforce_file_format=True)
    return file.getvalue()


def read(*content: Dataset, reading: Reading = READING, **header: Any) -> Entry:
    return read_document(to_bytes(dataset(*content, **header)), "document 1", reading)


def facts(entry: Entry) -> dict[str, float | str]:
    """Facts but identity; of each there is one."""
    found = [statement for statement in entry.statements if statement.fact != "identity"]
    assert len({statement.fact for statement in found}) == len(found)
    return {statement.fact: statement.value for statement in found}


def reasons(entry: Entry) -> list[str]:
    return [fault.reason for fault in entry.faults]


def statements(entry: Entry, fact: str) -> list[tuple[float | str, str | None]]:
    return [(statement.value, statement.plane) for statement in entry.statements if statement.fact == fact]


# ----------------------------------------------------------------------------------------------------------- phantoms


SPARSE: dict[str, dict[str, Any]] = {
    "full": {},
    "no dates and no age": {"lmp": None, "edd": None, "ga_days": None, "ga_days_by_lmp": None},
    "no biometry": {"biometry_mm": {}},
    "no views": {"views": ()},
    "a view without structures": {"views": (View("femur", ()),)},
    "no findings": {"findings": ()},
}


def check_record(record: ExamRecord) -> None:
    entry = read_document(to_bytes(sr.document(record, VOCABULARY)), "document 1", READING)
    assert entry.faults == []
    patient = KEYS.patient(record.patient.patient_id)
    assert entry.exam is not None
    assert entry.exam.patient_key == patient
    assert entry.exam.study_key == KEYS.study(record.study_uid)
    assert entry.exam.accession_key == KEYS.accession(record.accession_number)
    assert entry.exam.study_day == KEYS.day(patient, record.started.date())
    expected = {
        ("lmp_day", record.lmp and KEYS.day(patient, record.lmp), None),
        ("edd_day", record.edd and KEYS.day(patient, record.edd), None),
        ("ga_days", record.ga_days, None),
        ("ga_days_by_lmp", record.ga_days_by_lmp, None),
        *((name, value, None) for name, value in record.biometry_mm.items()),
        *(("findings", value, None) for value in record.findings),
        *(("structures_seen", seen, view.plane) for view in record.views for seen in view.structures_seen),
    }
    found = [(said.fact, said.value, said.plane) for said in entry.statements if said.fact != "identity"]
    assert len(set(found)) == len(found)
    assert set(found) == {fact for fact in expected if fact[1] is not None}


@pytest.mark.parametrize("change", SPARSE.values(), ids=SPARSE)
def test_a_phantoms_report_gives_back_its_record(change):
    check_record(dataclasses.replace(RECORD, **change))


def test_reports_of_planned_examinations_give_back_their_records():
    for index in range(25):
        check_record(plan_exam(7, index, VOCABULARY).record)


def test_fields_are_paths_of_codes():
    entry = read_document(to_bytes(sr.document(RECORD, VOCABULARY)), "document 1", READING)
    fields = {said.fact: said.field for said in entry.statements}
    assert fields["hc_mm"] == "SR 125002/125005/11984-2"
    assert fields["ga_days"] == "SR 121111/125008/18185-9"
    assert fields["structures_seen"] == "SR 111031"
    assert fields["findings"] == "SR 121070/121071"
    assert fields["identity"] == "SR header"


def test_names_of_everybody_in_the_report_become_hashes():
    entry = read_document(to_bytes(sr.document(RECORD, VOCABULARY)), "document 1", READING)
    words = {value for value, _ in statements(entry, "identity")}
    for name in ("Schmidt", "ünlü", "María", "Łęcka", "Olga", "Nyström", "MRN 0815", "ACC-77"):
        assert KEYS.word(name) in words


# ------------------------------------------------------------------------------------- repeated measurements (TID 5008)


REPEATED = (190.0, 194.0)


def test_the_selected_value_is_taken():
    first, second = number(HC, 190.0), number(HC, 194.0, MM, selected())
    assert facts(read(biometry(group(first, second, number(HC, 192.0, MM, mean()))))) == {"hc_mm": 194.0}


@pytest.mark.parametrize("status", ["UserChosenValue", "MostRecentValueChosen", "MeanValueChosen"])
def test_every_way_of_selecting_counts(status):
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


def test_values_in_two_sections_are_values_of_one_measurement():
    long_bones = section(codes.DCM.FetalLongBones, group(number(FL, 38.0)))
    assert reasons(read(biometry(group(number(FL, 36.1))), long_bones)) == ["several_values"]
    again = section(codes.DCM.FetalLongBones, group(number(FL, 3.61, CM)))
    assert facts(read(biometry(group(number(FL, 36.1))), again)) == {"fl_mm": 36.1}


def test_two_selected_values_contradict_each_other():
    values = [number(HC, value, MM, selected()) for value in REPEATED]
    assert reasons(read(biometry(group(*values, number(HC, 192, MM, mean()))))) == ["several_values"]


def test_a_median_or_a_maximum_is_no_measurement():
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


# ------------------------------------------------------------------------------------------------------------- numbers


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
def test_a_number_that_is_no_measurement_is_a_fault(value, unit, reason):
    entry = read(biometry(group(number(HC, value, unit))), biometry(group(number(FL, 36.1))))
    assert (facts(entry), reasons(entry)) == ({"fl_mm": 36.1}, [reason])


def test_text_in_the_place_of_a_number_costs_nothing_else():
    content = to_bytes(dataset(biometry(group(number(HC, "190.25")), group(number(FL, 36.1)))))
    entry = read_document(content.replace(b"190.25", b"Okafor"), "document 1", READING)
    assert (facts(entry), reasons(entry)) == ({"fl_mm": 36.1}, ["value_malformed"])


def test_a_number_that_is_qualified_as_none_is_not_taken():
    unknown = [coded(Code("114000", "DCM", "Not a number"))]
    entry = read(biometry(number(HC, 190, MM, NumericValueQualifierCodeSequence=unknown)))
    assert (facts(entry), reasons(entry)) == ({}, ["value_malformed"])


def test_a_number_without_a_value_says_nothing():
    entry = read(biometry(item("NUM", HC, MeasuredValueSequence=[])))
    assert (facts(entry), reasons(entry)) == ({}, [])


# ---------------------------------------------------------------------------------------------------- gestational age


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


# --------------------------------------------------------------------------------------------------------------- dates


def test_dates_of_the_pregnancy_are_days_on_the_patients_calendar():
    entry = read(summary(day(codes.LN.LMP, "20221201"), day(codes.LN.EDD, "20230909")))
    expected = {"lmp_day": date(2022, 12, 1), "edd_day": date(2023, 9, 9)}
    assert facts(entry) == {fact: KEYS.day(PATIENT, when) for fact, when in expected.items()}


def test_the_estimated_last_period_counts_and_derived_due_dates_do_not():
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


def test_the_day_of_the_examination_is_the_studys_else_the_contents():
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


# ------------------------------------------------------------------------------------------------------------- fetuses


def fetus(name: Code, value: str) -> Dataset:
    return text(name, value, by="HAS OBS CONTEXT")


FETUS_ID, SUBJECT_ID = Code("11951-1", "LN", "Fetus ID"), codes.DCM.SubjectID
COUNT, ONE = codes.LN.NumberOfFetusesByUS, Code("1", "UCUM", "no units")
TWINS: dict[str, Sequence[Dataset]] = {
    "two fetus ids": [biometry(fetus(FETUS_ID, name), group(number(HC, 190))) for name in "AB"],
    "two names of our own": [biometry(fetus(FETUS_ID, name), group(number(HC, 190))) for name in ("left", "right")],
    "two subject ids": [biometry(fetus(SUBJECT_ID, name), group(number(HC, 190))) for name in "AB"],
    "two fetus numbers": [
        biometry(number(codes.DCM.FetusNumber, value, ONE, by="HAS OBS CONTEXT"), number(HC, 190)) for value in (1, 2)
    ],
    "the second alone": [biometry(fetus(FETUS_ID, "Fetus B"), number(HC, 190))],
    "a twin": [biometry(fetus(SUBJECT_ID, "leading Twin"), number(HC, 190))],
    "their number": [summary(number(COUNT, 2, ONE)), biometry(number(HC, 190))],
    "two summaries": [summary(fetus_summary(number(GA, 150, DAY)), fetus_summary(number(GA, 150, DAY)))],
    "the second as subject of the whole": [
        code(codes.DCM.SubjectClass, codes.DCM.Fetus, by="HAS OBS CONTEXT"),
        fetus(SUBJECT_ID, "2"),
        biometry(number(HC, 190)),
    ],
}


@pytest.mark.parametrize("content", TWINS.values(), ids=TWINS)
def test_nothing_is_attributed_where_there_are_several_fetuses(content):
    view = code(codes.DCM.ImageView, Code("femur", "99X", "femur"))
    entry = read(
        *content, findings(finding(Code("30288003", "SCT", "VSD"))), view, text(codes.DCM.Comment, "HC 190 mm")
    )
    assert (facts(entry), reasons(entry)) == ({}, ["several_fetuses"])
    assert statements(entry, "identity")


@pytest.mark.parametrize("name", ["Foetus B", "F2", "baby-b", "Fetus #2", "fetus II", "1/2", "A of 2", "fetus: c"])
def test_a_fetus_that_is_not_the_only_one_may_be_called_in_many_ways(name):
    assert reasons(read(biometry(fetus(FETUS_ID, name), number(HC, 190)))) == ["several_fetuses"]


@pytest.mark.parametrize("name", ["A", "1", "Fetus A", "F1", "Fetus 1", "singleton", "Baby A", "1/1"])
def test_a_fetus_that_may_be_the_only_one_is_read(name):
    assert facts(read(biometry(fetus(FETUS_ID, name), number(HC, 190)))) == {"hc_mm": 190.0}


def test_prose_about_several_fetuses_is_not_read():
    def prose(*_: object) -> tuple[list[Statement], list[Fault]]:
        raise AssertionError

    reading = dataclasses.replace(READING, prose=prose)
    assert reasons(read(text(codes.DCM.Comment, "x"), *TWINS["their number"], reading=reading)) == ["several_fetuses"]


@pytest.mark.parametrize("value", ["0", "1.5"])
def test_an_unclear_number_of_fetuses_leaves_everything_out(value):
    entry = read(summary(number(COUNT, value, ONE)), biometry(number(HC, 190)))
    assert (facts(entry), reasons(entry)) == ({}, [{"0": "fetuses_unclear", "1.5": "several_fetuses"}[value]])


def test_the_reports_own_subject_is_the_mother():
    entry = read(fetus(SUBJECT_ID, "MRN 0815"), biometry(fetus(SUBJECT_ID, "A"), number(HC, 190)))
    assert (facts(entry), reasons(entry)) == ({"hc_mm": 190.0}, [])


def test_one_fetus_that_is_named_is_one_fetus():
    entry = read(
        code(codes.DCM.SubjectClass, codes.DCM.Patient, by="HAS OBS CONTEXT"),
        fetus(SUBJECT_ID, "MRN 0815"),
        summary(number(COUNT, 1, ONE), fetus_summary(fetus(SUBJECT_ID, "A"), number(GA, 150, DAY))),
        biometry(fetus(SUBJECT_ID, "a "), number(codes.DCM.FetusNumber, "1.0", ONE), group(number(HC, 190))),
        section(codes.DCM.FetalLongBones, number(codes.DCM.FetusNumber, "1", ONE), group(number(FL, 36.1))),
    )
    assert (facts(entry), reasons(entry)) == ({"ga_days": 150, "hc_mm": 190.0, "fl_mm": 36.1}, [])


# --------------------------------------------------------------------------------------- where and how something stands


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
def test_what_stands_in_another_section_is_not_of_this_examination(content, title):
    entry = read(section(title, summary(content)))
    assert (facts(entry), reasons(entry)) == ({}, ["section_unknown"])


def test_an_earlier_value_elsewhere_leaves_the_examinations_own():
    entry = read(section(codes.DCM.PreviousFindings, number(HC, 150)), biometry(number(HC, 190)))
    assert (facts(entry), reasons(entry)) == ({"hc_mm": 190.0}, ["section_unknown"])


def test_findings_about_the_mother_are_not_the_fetus():
    assert (
        facts(read(section(codes.DCM.PatientCharacteristics, finding(Code("38341003", "SCT", "Hypertension"))))) == {}
    )


@pytest.mark.parametrize("where", ["item", "section"])
def test_a_modifier_that_is_not_known_may_mean_anything(where):
    absent = code(Code("408729009", "SCT", "Finding context"), Code("410516002", "SCT", "Absent"), by="HAS CONCEPT MOD")
    value = Code("30288003", "SCT", "VSD")
    content = findings(finding(value, absent)) if where == "item" else findings(absent, finding(value))
    entry = read(content)
    assert (facts(entry), reasons(entry)) == ({}, ["modifier_unknown"])


def test_a_property_of_a_finding_may_take_it_back():
    absent = code(Code("246103008", "SCT", "Certainty"), Code("385434005", "SCT", "Improbable"), by="HAS PROPERTIES")
    assert reasons(read(findings(finding(Code("30288003", "SCT", "VSD"), absent)))) == ["modifier_unknown"]


def test_known_modifiers_are_no_matter():
    site = code(Code("363698007", "SCT", "Finding Site"), Code("80891009", "SCT", "Heart"), by="HAS CONCEPT MOD")
    language = code(
        codes.DCM.LanguageOfContentItemAndDescendants, Code("en", "RFC5646", "English"), by="HAS CONCEPT MOD"
    )
    entry = read(language, findings(language, finding(Code("30288003", "SCT", "VSD"), site)))
    assert (facts(entry), reasons(entry)) == ({"findings": "SCT:30288003"}, [])


# ------------------------------------------------------------------------------------------------- views and structures


SEEN = Code("STRUCTURE", "99LOCAL", "Structure seen")


def seen(*names: str) -> list[Dataset]:
    return [code(SEEN, Code("x", "99LOCAL", name), by="HAS PROPERTIES") for name in names]


def view(name: str, *children: Dataset) -> Dataset:
    return code(codes.DCM.ImageView, Code("x", "99LOCAL", name), *children)


def side(value: Code, name: Code = codes.SCT.Laterality) -> Dataset:
    return code(name, value, by="HAS CONCEPT MOD")


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
def test_what_the_vocabulary_does_not_know_is_a_fault(content, reason):
    entry = read(content)
    assert (facts(entry), reasons(entry)) == ({}, [reason])
    assert "Okafor" not in repr(entry)


def test_a_code_and_a_meaning_that_name_two_planes_name_none():
    both = code(codes.DCM.ImageView, Code("femur", "99LOCAL", "humerus"))
    assert reasons(read(both)) == ["plane_unknown"]


# ------------------------------------------------------------------------------------------------------------ findings


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


# --------------------------------------------------------------------------------------------------------------- prose


def test_prose_gets_texts_their_place_and_names():
    given: list[tuple[str, str, Sequence[str]]] = []

    def prose(text: str, field: str, names: Sequence[str]) -> tuple[list[Statement], list[Fault]]:
        given.append((text, field, names))
        return [Statement("hc_mm", 190.0, f"{field} sentence 1", None, BY_RULE)], [Fault("not_read", "not read")]

    entry = read(
        item("PNAME", codes.DCM.PersonObserverName, by="HAS OBS CONTEXT", PersonName="Nyström^Åsa"),
        findings(text(codes.DCM.Finding, "HC 190 mm")),
        summary(fetus_summary(text(codes.DCM.Comment, "Okafor is well"))),
        section(codes.DCM.History, text(codes.DCM.Comment, "an earlier child")),
        text(Code("1", "99LOCAL", "anything"), "something"),
        OperatorsName=["Bello^Ada", "Costa^Rui"],
        reading=dataclasses.replace(READING, prose=prose),
    )
    assert [(text_, field) for text_, field, _ in given] == [
        ("HC 190 mm", "SR 121070/121071"),
        ("Okafor is well", "SR 121111/125008/121106"),
    ]
    assert {"Okafor", "Ngozi", "MRN 0815", "ACC-77", "Nyström", "Åsa", "Bello", "Costa^Rui"} <= set(given[0][2])
    assert [(statement.fact, statement.rank) for statement in entry.statements if statement.fact != "identity"] == [
        ("hc_mm", BY_RULE)
    ] * 2
    assert reasons(entry) == ["not_read"]


def test_without_a_reader_of_prose_texts_say_nothing():
    entry = read(findings(text(codes.DCM.Finding, "HC 190 mm")))
    assert (facts(entry), reasons(entry)) == ({}, [])


# --------------------------------------------------------------------------------------------------- whole documents


@pytest.mark.parametrize(
    "uid", [BasicTextSRStorage, EnhancedSRStorage, ComprehensiveSRStorage, Comprehensive3DSRStorage]
)
def test_every_kind_of_report_is_read(uid):
    assert facts(read(biometry(number(HC, 190)), SOPClassUID=uid)) == {"hc_mm": 190.0}


def test_the_title_does_not_matter():
    report = dataset(biometry(number(HC, 190)))
    report.ConceptNameCodeSequence = [coded(Code("1", "99LOCAL", "Prenatal report"))]
    assert facts(read_document(to_bytes(report), "document 1", READING)) == {"hc_mm": 190.0}


def undefined_lengths(report: Dataset) -> Dataset:
    for element in report:
        if element.VR == "SQ":
            element.is_undefined_length = True
            for part in element.value:
                part.is_undefined_length_sequence_item = True
                undefined_lengths(part)
    return report


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian])
@pytest.mark.parametrize("undefined", [False, True])
def test_the_encoding_does_not_matter(syntax, undefined):
    report = sr.document(RECORD, VOCABULARY)
    entry = read_document(to_bytes(report), "document 1", READING)
    again = undefined_lengths(sr.document(RECORD, VOCABULARY)) if undefined else report
    assert read_document(to_bytes(again, syntax), "document 1", READING) == entry


def test_a_partial_report_is_read_and_a_preliminary_one_is_not():
    content = biometry(number(HC, 190))
    assert facts(read(content, CompletionFlag="PARTIAL", PreliminaryFlag="FINAL")) == {"hc_mm": 190.0}
    entry = read(content, PreliminaryFlag="PRELIMINARY")
    assert (facts(entry), reasons(entry)) == ({}, ["not_final"])


@pytest.mark.parametrize("patient_id", [None, "", "  "])
def test_a_report_about_nobody_says_nothing(patient_id):
    entry = read(biometry(number(HC, 190)), PatientID=patient_id)
    assert (entry.exam, entry.statements, reasons(entry)) == (None, (), ["patient_missing"])


def test_missing_identifiers_have_no_keys():
    entry = read(biometry(number(HC, 190)), StudyInstanceUID="", AccessionNumber="", StudyDate="")
    assert entry.exam == dataclasses.replace(entry.exam, study_key=None, accession_key=None, study_day=None)


@pytest.mark.parametrize("content", [b"", b"DICM", bytes(132), bytes(128) + b"DICM", b"%PDF-1.7", b"\xff" * 4000])
def test_what_is_no_dicom_is_a_fault(content):
    entry = read_document(content, "document 1", READING)
    assert (entry.place, entry.exam, reasons(entry)) == ("document 1", None, ["not_dicom"])


def test_dicom_is_told_by_its_preamble():
    assert is_dicom(to_bytes(dataset(biometry(number(HC, 190))))[:132])
    assert not is_dicom(b"PAR1" + bytes(200))


def test_an_image_is_no_report():
    assert reasons(read(biometry(number(HC, 190)), SOPClassUID=UltrasoundImageStorage)) == ["not_a_report"]


@pytest.mark.parametrize("undefined", [False, True])
def test_a_file_that_ends_too_early_says_nothing(undefined):
    report = sr.document(dataclasses.replace(RECORD, views=RECORD.views[:1]), VOCABULARY)
    content = to_bytes(undefined_lengths(report) if undefined else report)
    for end in range(0, len(content), 13):
        entry = read_document(content[:end], "document 1", READING)
        assert (entry.exam, reasons(entry)) == (None, ["not_dicom"])


def test_damaged_files_never_raise():
    chance = random.Random(5)
    content = to_bytes(sr.document(dataclasses.replace(RECORD, views=RECORD.views[:1]), VOCABULARY))
    for _ in range(200):
        damaged = bytearray(content)
        for _ in range(chance.randint(1, 20)):
            damaged[chance.randrange(132, len(content))] = chance.randrange(256)
        assert isinstance(read_document(bytes(damaged), "document 1", READING), Entry)


def nested(levels: int) -> bytes:
    """A report with containers in containers; pydicom itself could not write so many."""
    name = to_bytes(dataset(biometry(number(HC, 190))))
    inner = b""
    for _ in range(levels):
        inner = struct.pack("<HHI", 0xFFFE, 0xE000, len(inner)) + inner
        inner = struct.pack("<HH2sHI", 0x0040, 0xA730, b"SQ", 0, len(inner)) + inner
    start = name.index(struct.pack("<HH2s", 0x0040, 0xA730, b"SQ"))
    return name[:start] + inner


def nested_without_lengths(levels: int) -> bytes:
    content = to_bytes(dataset(biometry(number(HC, 190))))
    start = content.index(struct.pack("<HH2s", 0x0040, 0xA730, b"SQ"))
    begin = struct.pack("<HH2sHIHHI", 0x0040, 0xA730, b"SQ", 0, 0xFFFFFFFF, 0xFFFE, 0xE000, 0xFFFFFFFF)
    end = struct.pack("<HHIHHI", 0xFFFE, 0xE00D, 0, 0xFFFE, 0xE0DD, 0)
    return content[:start] + begin * levels + end * levels


def test_content_that_is_nested_too_deeply_is_not_read():
    entry = read_document(nested(100), "document 1", READING)
    assert entry.exam is not None
    assert (facts(entry), reasons(entry)) == ({}, ["too_deep"])


def test_a_header_that_is_nested_too_deeply_is_not_read():
    other = Dataset()
    for _ in range(100):
        above = Dataset()
        above.OtherPatientIDsSequence = [other]
        other = above
    entry = read(biometry(number(HC, 190)), OtherPatientIDsSequence=[other])
    assert (entry.exam, reasons(entry)) == (None, ["too_deep"])


@pytest.mark.parametrize("build", [nested, nested_without_lengths])
def test_endless_nesting_costs_neither_the_program_nor_much_time(build):
    content = build(5_000)
    started = time.process_time()
    entry = read_document(content, "document 1", READING)
    assert time.process_time() - started < 5
    assert facts(entry) == {}
    assert entry.faults


@pytest.mark.parametrize("name", ["test-SR.dcm", "reportsi.dcm", "reportsi_with_empty_number_tags.dcm"])
def test_reports_about_something_else_hold_no_facts(name):
    path = get_testdata_file(name, download=False)
    assert path is not None
    content = Path(path).read_bytes()
    entry = read_document(content, "document 1", READING)
    has_patient = bool(str(pydicom.dcmread(io.BytesIO(content)).get("PatientID") or "").strip())
    assert (entry.exam is not None) == has_patient
    assert reasons(entry) == ([] if has_patient else ["patient_missing"])
    assert facts(entry) == {}


# ------------------------------------------------------------------------------------------- written by another library


def test_a_report_that_highdicom_wrote_is_read():
    from highdicom.sr import (
        CodeContentItem,
        ComprehensiveSR,
        ContainerContentItem,
        ContentSequence,
        DateContentItem,
        NumContentItem,
        RelationshipTypeValues,
    )

    contains, modifier = RelationshipTypeValues.CONTAINS, RelationshipTypeValues.HAS_CONCEPT_MOD

    def container(name: Code, *children: Dataset) -> Dataset:
        found = ContainerContentItem(name, relationship_type=contains)
        found.ContentSequence = ContentSequence(children)
        return found

    def num(name: Code, value: float, unit: Code, *children: Dataset) -> Dataset:
        found = NumContentItem(name, value=value, unit=unit, relationship_type=contains)
        if children:
            found.ContentSequence = ContentSequence(children)
        return found

    root = ContainerContentItem(codes.DCM.OBGYNUltrasoundProcedureReport, template_id="5000")
    root.ContentSequence = ContentSequence(
        [
            container(
                codes.DCM.Summary,
                DateContentItem(codes.LN.LMP, value=date(2022, 12, 1), relationship_type=contains),
                container(codes.DCM.FetusSummary, num(COMPOSITE, 151, DAY)),
            ),
            container(
                codes.DCM.FetalBiometry,
                container(
                    codes.DCM.BiometryGroup,
                    num(HC, 19.0, CM),
                    num(HC, 19.4, CM),
                    num(HC, 19.2, CM, CodeContentItem(codes.DCM.Derivation, MEAN, relationship_type=modifier)),
                    num(GA, 152, DAY),
                ),
            ),
            container(
                codes.DCM.Findings,
                CodeContentItem(
                    codes.DCM.Finding, Code("30288003", "SCT", "Ventricular septal defect"), relationship_type=contains
                ),
            ),
        ]
    )
    image = pydicom.Dataset()
    image.SOPClassUID, image.SOPInstanceUID = UltrasoundImageStorage, "2.25.9"
    image.StudyInstanceUID, image.SeriesInstanceUID = "2.25.2", "2.25.8"
    image.PatientID, image.PatientName, image.PatientBirthDate, image.PatientSex = "MRN 0815", "Okafor^Ngozi", "", "F"
    image.StudyDate, image.StudyTime, image.StudyID, image.AccessionNumber = "20230506", "070809", "7", "ACC-77"
    image.ReferringPhysicianName, image.SpecificCharacterSet = "Łęcka^Olga", "ISO_IR 192"
    report = ComprehensiveSR(
        evidence=[image],
        content=root,
        series_instance_uid="2.25.3",
        series_number=1,
        sop_instance_uid="2.25.4",
        instance_number=1,
        manufacturer="nobody",
        is_complete=True,
        is_final=True,
    )
    file = io.BytesIO()
    report.save_as(file)

    entry = read_document(file.getvalue(), "document 1", READING)
    lmp = KEYS.day(PATIENT, date(2022, 12, 1))
    assert facts(entry) == {"lmp_day": lmp, "ga_days_by_ultrasound": 151, "hc_mm": 192.0, "findings": "SCT:30288003"}
    assert reasons(entry) == []
    assert entry.exam is not None
    assert entry.exam.patient_key == PATIENT
    assert entry.exam.study_key == KEYS.study("2.25.2")
    assert entry.exam.study_day == KEYS.day(PATIENT, date(2023, 5, 6))


# ---------------------------------------------------------------------------------------------------- names and privacy


@pytest.mark.parametrize(
    ("character_set", "name", "words"),
    [
        ("ISO_IR 192", "Ünlü^Ana", ["Ünlü", "Ana"]),
        ("ISO_IR 100", "Müller^Zoë", ["Müller", "Zoë"]),
        (
            ["", "ISO 2022 IR 87"],
            "Yamada^Tarou=山田^太郎=やまだ^たろう",
            ["Yamada", "Tarou", "山田", "太郎", "やまだ", "たろう"],
        ),
        ("ISO_IR 192", "Wang^XiaoDong=王^小东", ["Wang", "XiaoDong", "王", "小东"]),
    ],
)
def test_names_in_any_script_become_hashes_word_by_word(character_set, name, words):
    entry = read(biometry(number(HC, 190)), SpecificCharacterSet=character_set, PatientName=name)
    found = {value for value, _ in statements(entry, "identity")}
    for word in words:
        assert (KEYS.word(word) in found) == (len(word) > 1)
    assert all(word not in repr(entry) for word in words if len(word) > 1)


def test_the_patients_key_does_not_depend_on_padding():
    for patient_id in ("MRN 0815", "MRN 0815 ", " MRN 0815"):
        exam = read(biometry(number(HC, 190)), PatientID=patient_id).exam
        assert exam is not None
        assert exam.patient_key == PATIENT


def test_the_patients_key_is_that_of_the_images():
    content = to_bytes(dataset(biometry(number(HC, 190)), PatientID=["A", "B"]))
    exam = read_document(content, "document 1", READING).exam
    assert exam is not None
    assert exam.patient_key == KEYS.patient(str(pydicom.dcmread(io.BytesIO(content)).PatientID))


def test_nothing_of_the_record_shows_in_the_entry(caplog, capsys, recwarn):
    canary = "Xyzzy"
    name = Code(canary, canary, canary)
    other = Dataset()
    other.PatientID = f"{canary}-other"
    content = [
        item("PNAME", codes.DCM.PersonObserverName, by="HAS OBS CONTEXT", PersonName=f"{canary}^Q"),
        *(text(title, f"{canary} 20011231") for title in (codes.DCM.Comment, codes.DCM.Finding, name)),
        section(name, number(HC, 190), number(name, 190), code(name, name), view(canary)),
        findings(finding(name), finding(Code("30288003", "SCT", canary))),
        view("femur", *seen(canary), code(name, name, by="HAS PROPERTIES"), side(name)),
        biometry(fetus(SUBJECT_ID, canary), number(HC, 190, name), number(FL, 36.1, MM, code(name, name))),
        summary(day(codes.LN.LMP, "20011231"), day(codes.LN.EDD, "20211231")),
    ]
    entry = read(
        *content,
        PatientName=f"{canary}^Q",
        PatientID=canary,
        OtherPatientIDsSequence=[other],
        AccessionNumber=canary,
        StudyID=canary,
        StudyDescription=canary,
        StudyDate="20011230",
        InstitutionName=canary,
        OperatorsName=[f"{canary}^A", "Plugh^B"],
        PerformingPhysicianName=f"{canary}^C",
        PatientBirthDate="20011231",
        PatientComments=canary,
    )
    shown = repr(entry).casefold()
    assert "xyzzy" not in shown
    assert "plugh" not in shown
    assert "2001" not in shown
    assert facts(entry) == {"findings": "SCT:30288003", "fl_mm": 36.1}
    assert {KEYS.word("Xyzzy"), KEYS.word("Plugh"), KEYS.word("Xyzzy-other")} <= {
        value for value, _ in statements(entry, "identity")
    }
    assert (caplog.text, *capsys.readouterr(), list(recwarn)) == ("", "", "", [])


def test_warnings_of_the_parser_reach_nobody(caplog, capsys, recwarn):
    content = to_bytes(dataset(biometry(number(HC, 190)), StudyInstanceUID="2.25.2", SpecificCharacterSet="ISO_IR 100"))
    for wrong in (content.replace(b"ISO_IR 100", b"XYZZY 1000"), content.replace(b"2.25.2", b"XYZZY2")):
        assert wrong != content
        assert "XYZZY" not in repr(read_document(wrong, "document 1", READING))
    assert (caplog.text, *capsys.readouterr(), list(recwarn)) == ("", "", "", [])

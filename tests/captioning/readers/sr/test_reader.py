"""Complete structured reports: of phantoms, of any kind and encoding, and written by another library."""

from __future__ import annotations

import dataclasses
import io
from datetime import date
from typing import Any

import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.uid import (
    BasicTextSRStorage,
    Comprehensive3DSRStorage,
    ComprehensiveSRStorage,
    DeflatedExplicitVRLittleEndian,
    EnhancedSRStorage,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    UltrasoundImageStorage,
)

from sono.captioning.readers.sr.reader import read_document
from sono.curation.phantom.exams import plan_exam
from sono.curation.phantom.files import sr
from sono.curation.phantom.records import ExamRecord, View
from tests.captioning.readers.sr.reports import (
    CM,
    COMPOSITE,
    DAY,
    GA,
    HC,
    KEYS,
    MEAN,
    PATIENT,
    READING,
    RECORD,
    VOCABULARY,
    biometry,
    coded,
    dataset,
    facts,
    number,
    read,
    reasons,
    to_bytes,
    undefined_lengths,
)

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
    patient = KEYS.patient("", record.patient.patient_id)
    assert entry.exam is not None
    assert entry.exam.patient.patient == patient
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
    found = [(each.fact, each.value, each.plane) for each in entry.statements if each.fact != "identity"]
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
    fields = {each.fact: each.field for each in entry.statements}
    assert fields["hc_mm"] == "SR 125002/125005/11984-2"
    assert fields["ga_days"] == "SR 121111/125008/18185-9"
    assert fields["structures_seen"] == "SR 111031"
    assert fields["findings"] == "SR 121070/121071"
    assert fields["identity"] == "SR header"


@pytest.mark.parametrize(
    "uid", [BasicTextSRStorage, EnhancedSRStorage, ComprehensiveSRStorage, Comprehensive3DSRStorage]
)
def test_every_kind_of_report_is_read(uid):
    assert facts(read(biometry(number(HC, 190)), SOPClassUID=uid)) == {"hc_mm": 190.0}


def test_the_title_does_not_matter():
    report = dataset(biometry(number(HC, 190)))
    report.ConceptNameCodeSequence = [coded(Code("1", "99LOCAL", "Prenatal report"))]
    assert facts(read_document(to_bytes(report), "document 1", READING)) == {"hc_mm": 190.0}


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
    assert entry.exam.patient.patient == PATIENT
    assert entry.exam.study_key == KEYS.study("2.25.2")
    assert entry.exam.study_day == KEYS.day(PATIENT, date(2023, 5, 6))

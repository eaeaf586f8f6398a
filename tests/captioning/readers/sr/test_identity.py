"""Names and identifiers in structured reports: they become hashes, and show nowhere."""

from __future__ import annotations

import dataclasses
import io

import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

from sono.captioning.readers.sr.reader import read_document
from sono.curation.phantom.files import sr
from sono.manifests import pydicom_warnings
from tests.captioning.readers.sr.reports import (
    FL,
    HC,
    KEYS,
    MM,
    PATIENT,
    READING,
    RECORD,
    SUBJECT_ID,
    VOCABULARY,
    biometry,
    code,
    dataset,
    day,
    facts,
    fetus,
    finding,
    findings,
    item,
    number,
    read,
    reasons,
    section,
    seen,
    side,
    statements,
    summary,
    text,
    to_bytes,
    view,
)


def test_names_of_everybody_in_the_report_become_hashes():
    entry = read_document(to_bytes(sr.document(RECORD, VOCABULARY)), "document 1", READING)
    words = {value for value, _ in statements(entry, "identity")}
    for name in ("Schmidt", "ünlü", "María", "Łęcka", "Olga", "Nyström", "MRN 0815", "ACC-77"):
        assert KEYS.word(name) in words


@pytest.mark.parametrize("patient_id", [None, "", "  "])
def test_a_report_without_a_patient_gives_nothing(patient_id):
    entry = read(biometry(number(HC, 190)), PatientID=patient_id)
    assert (entry.exam, entry.statements, reasons(entry)) == (None, (), ["patient_missing"])


def test_missing_identifiers_have_no_keys():
    entry = read(biometry(number(HC, 190)), StudyInstanceUID="", AccessionNumber="", StudyDate="")
    assert entry.exam == dataclasses.replace(entry.exam, study_key=None, accession_key=None, study_day=None)


@pytest.mark.parametrize(("study", "unknown"), [("", True), ("1.2.3", False)])
def test_a_date_that_is_not_understood_keeps_a_report_from_the_only_examination(study, unknown):
    with pydicom_warnings.silenced():
        entry = read(biometry(number(HC, 190)), StudyInstanceUID=study, AccessionNumber="ACC-77", StudyDate="2020")
    assert entry.exam.accession_key is not None
    assert entry.exam.study_unknown is unknown


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
        assert exam.patient.patient == PATIENT


def test_the_patients_key_is_that_of_the_images():
    content = to_bytes(dataset(biometry(number(HC, 190)), PatientID=["A", "B"]))
    exam = read_document(content, "document 1", READING).exam
    assert exam is not None
    assert exam.patient.patient == KEYS.patient("", str(pydicom.dcmread(io.BytesIO(content)).PatientID))


def test_no_name_or_date_shows_in_the_entry(caplog, capsys, recwarn):
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


def test_warnings_of_pydicom_are_silenced(caplog, capsys, recwarn):
    content = to_bytes(dataset(biometry(number(HC, 190)), StudyInstanceUID="2.25.2", SpecificCharacterSet="ISO_IR 100"))
    for wrong in (content.replace(b"ISO_IR 100", b"XYZZY 1000"), content.replace(b"2.25.2", b"XYZZY2")):
        assert wrong != content
        assert "XYZZY" not in repr(read_document(wrong, "document 1", READING))
    assert (caplog.text, *capsys.readouterr(), list(recwarn)) == ("", "", "", [])


@pytest.mark.parametrize("issuer", ["", "NORTH"])
def test_the_issuer_of_the_number_belongs_to_the_patient(issuer):
    entry = read(biometry(number(HC, 190)), IssuerOfPatientID=issuer)
    assert entry.exam is not None
    assert entry.exam.patient == KEYS.patient_keys("MRN 0815", issuer=issuer)


def test_a_date_that_is_not_understood_is_not_a_missing_one():
    entry = read(biometry(number(HC, 190)), StudyDate="2023", StudyInstanceUID="", AccessionNumber="")
    assert entry.exam is not None
    assert entry.exam.study_unknown

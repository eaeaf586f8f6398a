"""Structured reports for tests, built by the standard, and what reading them gives."""

from __future__ import annotations

import io
from datetime import date, datetime
from typing import Any

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.uid import UID, ComprehensiveSRStorage, ExplicitVRLittleEndian

from sono.captioning.facts.statements import Entry, Reading
from sono.captioning.readers.sr.reader import read_document
from sono.curation.phantom.anatomy import FINDINGS
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
PATIENT = KEYS.patient("", "MRN 0815")
FETUS_ID, SUBJECT_ID = Code("11951-1", "LN", "Fetus ID"), codes.DCM.SubjectID
COUNT, ONE = codes.LN.NumberOfFetusesByUS, Code("1", "UCUM", "no units")
SEEN = Code("STRUCTURE", "99LOCAL", "Structure seen")

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
    found = [statement for statement in entry.statements if statement.fact not in ("identity", "several_fetuses")]
    assert len({statement.fact for statement in found}) == len(found)
    return {statement.fact: statement.value for statement in found}


def reasons(entry: Entry) -> list[str]:
    return [fault.reason for fault in entry.faults]


def statements(entry: Entry, fact: str) -> list[tuple[float | str, str | None]]:
    return [(statement.value, statement.plane) for statement in entry.statements if statement.fact == fact]


def fetus(name: Code, value: str) -> Dataset:
    return text(name, value, by="HAS OBS CONTEXT")


def seen(*names: str) -> list[Dataset]:
    return [code(SEEN, Code("x", "99LOCAL", name), by="HAS PROPERTIES") for name in names]


def view(name: str, *children: Dataset) -> Dataset:
    return code(codes.DCM.ImageView, Code("x", "99LOCAL", name), *children)


def side(value: Code, name: Code = codes.SCT.Laterality) -> Dataset:
    return code(name, value, by="HAS CONCEPT MOD")


def undefined_lengths(report: Dataset) -> Dataset:
    for element in report:
        if element.VR == "SQ":
            element.is_undefined_length = True
            for part in element.value:
                part.is_undefined_length_sequence_item = True
                undefined_lengths(part)
    return report

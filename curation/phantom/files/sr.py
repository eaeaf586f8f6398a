"""A phantom's clinical records as a DICOM structured report: TID 5000 "OB-GYN Ultrasound Procedure Report" (PS3.16).

SOP class Comprehensive SR. A singleton needs no TID 1008 "Subject Context, Fetus", which tells the sections of several
fetuses apart::

    CONTAINER (125000, DCM, "OB-GYN Ultrasound Procedure Report")        TID 5000
      language (TID 1204), person observer (TID 1001, 1002, 1003)
      CONTAINER (121111, DCM, "Summary")                                 TID 5002
        DATE LMP, EDD                                                    CID 12003
        CONTAINER (125008, DCM, "Fetus Summary")                         TID 5003
          NUM gestational age, gestational age by LMP                    CID 12019
      CONTAINER (125002, DCM, "Fetal Biometry")                          TID 5005: BPD, HC, AC, FL, TCD of CID 12005
        CONTAINER (125005, DCM, "Biometry Group")                        TID 5008, holding NUM by TID 300
      CONTAINER (125003, DCM, "Fetal Long Bones")                        TID 5006: humerus of CID 12006
      CONTAINER (125009, DCM, "Early Gestation")                         TID 5011: CRL, NT of CID 12009
      CONTAINER (121070, DCM, "Findings")                                extension
        CODE (121071, DCM, "Finding")
      CONTAINER (PLANES, 99SONO_CONCEPT, "Planes shown")                 extension
        CODE (111031, DCM, "Image View") = a plane of the vocabulary
          HAS PROPERTIES CODE (STRUCTURE, 99SONO_CONCEPT, "Structure seen") = one of the vocabulary

A section without content is left out; so is TID 5001 "Patient Characteristics" (height, weight, gravida...), of which
the phantom knows nothing. TID 5000 is extensible (PS3.16 6.2.5), and has no place for what the two extensions hold: its
image library lists images without saying which plane they show. TID 5030 "Fetal Anatomy Survey" calls structures normal
or abnormal, and that one was seen says neither. Planes have the coding scheme of the images' View Code Sequence;
structures need another, because their ids overlap ('femur'). The Coding Scheme Identification Sequence (PS3.3 C.12.1)
names both.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from datetime import date
from pathlib import Path

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.uid import UID, ComprehensiveSRStorage, ExplicitVRLittleEndian

from sono.curation.phantom.exams import (
    IMPLEMENTATION_NAME,
    IMPLEMENTATION_UID,
    PLANE_SCHEME,
    PLANE_SCHEME_NAME,
    PLANE_SCHEME_UID,
    UID_ROOT,
    ExamRecord,
    View,
)
from sono.manifests.store import write_atomically
from sono.manifests.vocabulary import Vocabulary

from .fhir import finding_display

STRUCTURES, CONCEPTS = "99SONO_STRUCTURE", "99SONO_CONCEPT"
"""Coding scheme designators beside the planes', which is also in the images."""

_SCHEMES = {
    PLANE_SCHEME: (PLANE_SCHEME_UID, PLANE_SCHEME_NAME),
    STRUCTURES: (f"{UID_ROOT}125828352273695116696085346740336358041", "Structures of sono-curate's vocabulary"),
    CONCEPTS: (f"{UID_ROOT}34087768801873125478793799809748171744", "Concept names of sono-curate's reports"),
}
"""UID and name."""

SECTIONS: tuple[tuple[Code, str, tuple[tuple[str, Code], ...]], ...] = (
    (
        codes.DCM.FetalBiometry,
        "5005",
        (
            ("bpd_mm", codes.LN.BiparietalDiameter),
            ("hc_mm", codes.LN.HeadCircumference),
            ("ac_mm", codes.LN.AbdominalCircumference),
            ("fl_mm", codes.LN.FemurLength),
            ("tcd_mm", codes.LN.TransverseCerebellarDiameter),
        ),
    ),
    (codes.DCM.FetalLongBones, "5006", (("hl_mm", codes.LN.HumerusLength),)),
    (
        codes.DCM.EarlyGestation,
        "5011",
        (("crl_mm", codes.LN.CrownRumpLength), ("nt_mm", codes.LN.NuchalTranslucency)),
    ),
)
"""Each section's title, template, and measurements.

Femur length, TCD and NT could stand in another section as well, because CID 12006 or 12007 has them too.
"""

_CONTAINS, _HAS_PROPERTIES = "CONTAINS", "HAS PROPERTIES"


def document(record: ExamRecord, vocabulary: Vocabulary) -> Dataset:
    """The report as a dataset with file meta information; equal records give equal datasets.

    Raises:
        ValueError: a finding is none of ``phantom_fhir.FINDINGS``.
        KeyError: a plane or structure is not in the vocabulary.
    """
    dataset = _container(None, codes.DCM.OBGYNUltrasoundProcedureReport, _content(record, vocabulary), "5000")
    _set_patient_and_study(dataset, record)
    _set_series_and_equipment(dataset, record)
    _set_document(dataset, record)
    dataset.file_meta = _file_meta(dataset)
    return dataset


def write(path: Path, record: ExamRecord, vocabulary: Vocabulary) -> None:
    """Write the report as a DICOM file, atomically."""
    dataset = document(record, vocabulary)
    write_atomically(path, lambda file: dataset.save_as(file, enforce_file_format=True))


# ------------------------------------------------------------------------------------------------------- the header


def _set_patient_and_study(dataset: Dataset, record: ExamRecord) -> None:
    """Patient and General Study modules (PS3.3 C.7.1.1, C.7.2.1): the same as in the images."""
    dataset.PatientName = _person_name((record.patient.family_name, record.patient.given_name))
    dataset.PatientID = record.patient.patient_id
    dataset.PatientBirthDate = _date(record.patient.birth_date)
    dataset.PatientSex = "F"
    dataset.StudyInstanceUID = record.study_uid
    dataset.StudyID = dataset.AccessionNumber = record.accession_number
    dataset.StudyDate = _date(record.started)
    dataset.StudyTime = record.started.strftime("%H%M%S")
    dataset.ReferringPhysicianName = _person_name(record.referring_physician)
    dataset.StudyDescription = "Obstetric ultrasound"


def _set_series_and_equipment(dataset: Dataset, record: ExamRecord) -> None:
    """SR Document Series and General Equipment modules (PS3.3 C.17.1, C.7.5.1)."""
    dataset.Modality = "SR"
    dataset.SeriesInstanceUID = _uid(record, "series")
    dataset.SeriesNumber = 9000  # scanners number their reports apart from the images
    dataset.ReferencedPerformedProcedureStepSequence = []
    dataset.Manufacturer = record.center.manufacturer
    dataset.ManufacturerModelName = record.center.model
    dataset.SoftwareVersions = record.center.software
    dataset.InstitutionName = record.center.hospital


def _set_document(dataset: Dataset, record: ExamRecord) -> None:
    """SR Document General and SOP Common modules (PS3.3 C.17.2, C.12.1)."""
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.SOPClassUID = ComprehensiveSRStorage
    dataset.SOPInstanceUID = _uid(record, "document")
    dataset.InstanceNumber = 1
    dataset.CompletionFlag = "COMPLETE"
    dataset.VerificationFlag = "UNVERIFIED"  # straight from the scanner: no physician has signed it
    dataset.ContentDate = dataset.StudyDate
    dataset.ContentTime = dataset.StudyTime
    dataset.PerformedProcedureCodeSequence = []
    dataset.ReferencedRequestSequence = [_request(record)]
    if record.views:
        dataset.CodingSchemeIdentificationSequence = [_coding_scheme(name) for name in _SCHEMES]


def _request(record: ExamRecord) -> Dataset:
    """The order that the examination fulfils; all but the study's UID may be empty (PS3.3 C.17.2)."""
    request = Dataset()
    request.StudyInstanceUID = record.study_uid
    request.ReferencedStudySequence = []
    request.AccessionNumber = record.accession_number
    request.PlacerOrderNumberImagingServiceRequest = ""
    request.FillerOrderNumberImagingServiceRequest = ""
    request.RequestedProcedureID = ""
    request.RequestedProcedureDescription = ""
    request.RequestedProcedureCodeSequence = []
    return request


def _coding_scheme(designator: str) -> Dataset:
    scheme = Dataset()
    scheme.CodingSchemeDesignator = designator
    scheme_uid, scheme.CodingSchemeName = _SCHEMES[designator]
    scheme.CodingSchemeUID = UID(scheme_uid)
    return scheme


def _file_meta(dataset: Dataset) -> FileMetaDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    # Set here, because pydicom would write its own version: equal records would give other bytes after an update.
    meta.ImplementationClassUID = UID(IMPLEMENTATION_UID)
    meta.ImplementationVersionName = IMPLEMENTATION_NAME
    return meta


def _uid(record: ExamRecord, part: str) -> UID:
    """128 bits below the root for UUIDs (PS3.5 B.2)."""
    return UID(f"{UID_ROOT}{int.from_bytes(hashlib.sha256(f'{record.study_uid}/sr/{part}'.encode()).digest()[:16])}")


def _person_name(name: tuple[str, str]) -> str:
    return "^".join(name)


def _date(day: date) -> str:
    return day.strftime("%Y%m%d")


# ------------------------------------------------------------------------------------------------------ the content


def _content(record: ExamRecord, vocabulary: Vocabulary) -> list[Dataset]:
    return [
        _code("HAS CONCEPT MOD", codes.DCM.LanguageOfContentItemAndDescendants, Code("en", "RFC5646", "English")),
        _code("HAS OBS CONTEXT", codes.DCM.ObserverType, codes.DCM.Person),
        _person("HAS OBS CONTEXT", codes.DCM.PersonObserverName, record.sonographer),
        *_section(codes.DCM.Summary, _summary(record), "5002"),
        *(
            section
            for title, template, measurements in SECTIONS
            for section in _section(title, _biometry_groups(record, measurements), template)
        ),
        *_section(codes.DCM.Findings, [_finding(finding) for finding in record.findings]),
        *_section(Code("PLANES", CONCEPTS, "Planes shown"), [_view(view, vocabulary) for view in record.views]),
    ]


def _summary(record: ExamRecord) -> list[Dataset]:
    dates = [(codes.LN.LMP, record.lmp), (codes.LN.EDD, record.edd)]
    ages = [(codes.LN.GestationalAge, record.ga_days), (codes.LN.GestationalAgeByLMP, record.ga_days_by_lmp)]
    return [
        *(_day(name, day) for name, day in dates if day is not None),
        *_section(
            codes.DCM.FetusSummary,
            [_number(name, days, codes.UCUM.Day) for name, days in ages if days is not None],
            "5003",
        ),
    ]


def _biometry_groups(record: ExamRecord, measurements: Iterable[tuple[str, Code]]) -> list[Dataset]:
    """TID 5008 gives each kind of measurement a group of its own."""
    return [
        group
        for name, code in measurements
        if name in record.biometry_mm
        for group in _section(
            codes.DCM.BiometryGroup, [_number(code, record.biometry_mm[name], codes.UCUM.Millimeter)], "5008"
        )
    ]


def _finding(finding: str) -> Dataset:
    scheme, value = finding.split(":", 1)
    return _code(_CONTAINS, codes.DCM.Finding, Code(value, scheme, finding_display(finding)))


def _view(view: View, vocabulary: Vocabulary) -> Dataset:
    structures = [
        _code(
            _HAS_PROPERTIES,
            Code("STRUCTURE", CONCEPTS, "Structure seen"),
            Code(structure, STRUCTURES, vocabulary.structures[structure].name),
        )
        for structure in view.structures_seen
    ]
    item = _code(_CONTAINS, codes.DCM.ImageView, Code(view.plane, PLANE_SCHEME, vocabulary.planes[view.plane].name))
    if structures:
        item.ContentSequence = structures
    return item


# --------------------------------------------------------------------------------- content items (PS3.3 C.17.3, C.18)


def _section(title: Code, content: Sequence[Dataset], template: str | None = None) -> list[Dataset]:
    """A container, or nothing where it would be empty."""
    return [_container(_CONTAINS, title, content, template)] if content else []


def _container(relationship: str | None, title: Code, content: Sequence[Dataset], template: str | None) -> Dataset:
    item = _item(relationship, "CONTAINER", title)
    item.ContinuityOfContent = "SEPARATE"
    if template:
        used = Dataset()
        used.MappingResource = "DCMR"
        used.TemplateIdentifier = template
        item.ContentTemplateSequence = [used]
    item.ContentSequence = list(content)
    return item


def _code(relationship: str, name: Code, value: Code) -> Dataset:
    item = _item(relationship, "CODE", name)
    item.ConceptCodeSequence = [_coded(value)]
    return item


def _number(name: Code, value: float, unit: Code) -> Dataset:
    measured = Dataset()
    measured.NumericValue = str(value)
    measured.MeasurementUnitsCodeSequence = [_coded(unit)]
    item = _item(_CONTAINS, "NUM", name)
    item.MeasuredValueSequence = [measured]
    return item


def _day(name: Code, day: date) -> Dataset:
    item = _item(_CONTAINS, "DATE", name)
    item.Date = _date(day)
    return item


def _person(relationship: str, title: Code, name: tuple[str, str]) -> Dataset:
    item = _item(relationship, "PNAME", title)
    item.PersonName = _person_name(name)
    return item


def _item(relationship: str | None, kind: str, name: Code) -> Dataset:
    item = Dataset()
    if relationship:
        item.RelationshipType = relationship
    item.ValueType = kind
    item.ConceptNameCodeSequence = [_coded(name)]
    return item


def _coded(code: Code) -> Dataset:
    """A code sequence item; a code of more than 16 characters has its own attribute (PS3.3 8.1)."""
    item = Dataset()
    if len(code.value) <= 16:
        item.CodeValue = code.value
    else:
        item.LongCodeValue = code.value
    item.CodingSchemeDesignator = code.scheme_designator
    item.CodeMeaning = code.meaning
    return item

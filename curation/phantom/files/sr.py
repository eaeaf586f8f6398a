"""A phantom's clinical records as a DICOM structured report: TID 5000 "OB-GYN Ultrasound Procedure Report" (PS3.16).

SOP class Comprehensive SR. A single fetus needs no TID 1008 "Subject Context, Fetus", which tells the sections of
several fetuses apart::

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

A section without content is left out, and so is TID 5001 "Patient Characteristics" (height, weight, gravida...), about
which the phantom knows nothing. TID 5000 is extensible (PS3.16 6.2.5) and has no place for the content of the two
extensions: its image library lists images without saying which plane they show, and TID 5030 "Fetal Anatomy Survey"
calls structures normal or abnormal, but not seen. Planes have the coding scheme of the images' View Code Sequence;
structures need another one, because their ids overlap ('femur'). The Coding Scheme Identification Sequence (PS3.3
C.12.1) names both.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.uid import UID, ComprehensiveSRStorage, ExplicitVRLittleEndian

from sono.curation.phantom.anatomy import finding_meaning
from sono.curation.phantom.identifiers import PLANE_SCHEME, PLANE_SCHEME_NAME, PLANE_SCHEME_UID, UID_ROOT, hashed_uid
from sono.curation.phantom.records import ExamRecord, View
from sono.manifests.store import write_atomically
from sono.manifests.vocabulary import Vocabulary

from .modules import coding_scheme_item, file_meta, set_character_set, set_equipment, set_patient, set_study
from .sr_items import (
    CONTAINS,
    HAS_CONCEPT_MOD,
    HAS_OBS_CONTEXT,
    HAS_PROPERTIES,
    code_content,
    container,
    date_content,
    number_content,
    person_content,
    section,
)

STRUCTURES, CONCEPTS = "99SONO_STRUCTURE", "99SONO_CONCEPT"
"""Coding scheme designators besides the planes', which the images also use."""

_SCHEMES = {
    PLANE_SCHEME: (PLANE_SCHEME_UID, PLANE_SCHEME_NAME),
    STRUCTURES: (f"{UID_ROOT}125828352273695116696085346740336358041", "Structures of sono-curate's vocabulary"),
    CONCEPTS: (f"{UID_ROOT}34087768801873125478793799809748171744", "Concept names of sono-curate's reports"),
}
"""UID and name."""

# Templates of PS3.16.
_TID_PROCEDURE_REPORT = "5000"
_TID_SUMMARY = "5002"
_TID_FETUS_SUMMARY = "5003"
_TID_BIOMETRY_SECTION = "5005"
_TID_LONG_BONES_SECTION = "5006"
_TID_BIOMETRY_GROUP = "5008"
_TID_EARLY_GESTATION_SECTION = "5011"

_ENGLISH = Code("en", "RFC5646", "English")
_PLANES_SHOWN = Code("PLANES", CONCEPTS, "Planes shown")
_STRUCTURE_SEEN = Code("STRUCTURE", CONCEPTS, "Structure seen")

_REPORT_SERIES_NUMBER = 9000  # scanners number their reports apart from the images

SECTIONS: tuple[tuple[Code, str, tuple[tuple[str, Code], ...]], ...] = (
    (
        codes.DCM.FetalBiometry,
        _TID_BIOMETRY_SECTION,
        (
            ("bpd_mm", codes.LN.BiparietalDiameter),
            ("hc_mm", codes.LN.HeadCircumference),
            ("ac_mm", codes.LN.AbdominalCircumference),
            ("fl_mm", codes.LN.FemurLength),
            ("tcd_mm", codes.LN.TransverseCerebellarDiameter),
        ),
    ),
    (codes.DCM.FetalLongBones, _TID_LONG_BONES_SECTION, (("hl_mm", codes.LN.HumerusLength),)),
    (
        codes.DCM.EarlyGestation,
        _TID_EARLY_GESTATION_SECTION,
        (("crl_mm", codes.LN.CrownRumpLength), ("nt_mm", codes.LN.NuchalTranslucency)),
    ),
)
"""Each section's title, template, and measurements.

Femur length, TCD and NT could also be in another section, since CID 12006 or 12007 has them as well.
"""


def document(record: ExamRecord, vocabulary: Vocabulary) -> Dataset:
    """The report as a dataset with file meta information; equal records give equal datasets.

    Raises:
        ValueError: a finding is not one of ``FINDINGS``.
        KeyError: a plane or structure is not in the vocabulary.
    """
    content = _content(record, vocabulary)
    dataset = container(None, codes.DCM.OBGYNUltrasoundProcedureReport, content, _TID_PROCEDURE_REPORT)
    set_patient(dataset, record)
    set_study(dataset, record)
    _set_series(dataset, record)
    set_equipment(dataset, record)
    _set_document(dataset, record)
    set_character_set(dataset, record.character_set)
    dataset.file_meta = file_meta(dataset, ExplicitVRLittleEndian)
    return dataset


def write(path: Path, record: ExamRecord, vocabulary: Vocabulary) -> None:
    """Write the report as a DICOM file, atomically."""
    dataset = document(record, vocabulary)
    write_atomically(path, lambda file: dataset.save_as(file, enforce_file_format=True))


# ------------------------------------------------------------------------------------------------------- the header


def _set_series(dataset: Dataset, record: ExamRecord) -> None:
    """SR Document Series (PS3.3 C.17.1)."""
    dataset.Modality = "SR"
    dataset.SeriesInstanceUID = _uid(record, "series")
    dataset.SeriesNumber = _REPORT_SERIES_NUMBER
    dataset.ReferencedPerformedProcedureStepSequence = []


def _set_document(dataset: Dataset, record: ExamRecord) -> None:
    """SR Document General and SOP Common (PS3.3 C.17.2, C.12.1)."""
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
        dataset.CodingSchemeIdentificationSequence = [
            coding_scheme_item(designator, uid, name) for designator, (uid, name) in _SCHEMES.items()
        ]


def _request(record: ExamRecord) -> Dataset:
    """The order that the examination fulfils; everything but the study's UID may be empty (PS3.3 C.17.2)."""
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


def _uid(record: ExamRecord, part: str) -> UID:
    return UID(hashed_uid(f"{record.study_uid}/sr/{part}"))


# ------------------------------------------------------------------------------------------------------ the content


def _content(record: ExamRecord, vocabulary: Vocabulary) -> list[Dataset]:
    return [
        code_content(HAS_CONCEPT_MOD, codes.DCM.LanguageOfContentItemAndDescendants, _ENGLISH),
        code_content(HAS_OBS_CONTEXT, codes.DCM.ObserverType, codes.DCM.Person),
        person_content(HAS_OBS_CONTEXT, codes.DCM.PersonObserverName, record.sonographer),
        *section(codes.DCM.Summary, _summary(record), _TID_SUMMARY),
        *(
            item
            for title, template, measurements in SECTIONS
            for item in section(title, _biometry_groups(record, measurements), template)
        ),
        *section(codes.DCM.Findings, [_finding(finding) for finding in record.findings]),
        *section(_PLANES_SHOWN, [_view(view, vocabulary) for view in record.views]),
    ]


def _summary(record: ExamRecord) -> list[Dataset]:
    dates = [(codes.LN.LMP, record.lmp), (codes.LN.EDD, record.edd)]
    ages = [(codes.LN.GestationalAge, record.ga_days), (codes.LN.GestationalAgeByLMP, record.ga_days_by_lmp)]
    return [
        *(date_content(name, day) for name, day in dates if day is not None),
        *section(
            codes.DCM.FetusSummary,
            [number_content(name, days, codes.UCUM.Day) for name, days in ages if days is not None],
            _TID_FETUS_SUMMARY,
        ),
    ]


def _biometry_groups(record: ExamRecord, measurements: Iterable[tuple[str, Code]]) -> list[Dataset]:
    """TID 5008: each kind of measurement has its own group."""
    return [
        group
        for name, code in measurements
        if name in record.biometry_mm
        for group in section(
            codes.DCM.BiometryGroup,
            [number_content(code, record.biometry_mm[name], codes.UCUM.Millimeter)],
            _TID_BIOMETRY_GROUP,
        )
    ]


def _finding(finding: str) -> Dataset:
    scheme, value = finding.split(":", 1)
    return code_content(CONTAINS, codes.DCM.Finding, Code(value, scheme, finding_meaning(finding)))


def _view(view: View, vocabulary: Vocabulary) -> Dataset:
    structures = [
        code_content(
            HAS_PROPERTIES,
            _STRUCTURE_SEEN,
            Code(structure, STRUCTURES, vocabulary.structures[structure].name),
        )
        for structure in view.structures_seen
    ]
    item = code_content(
        CONTAINS, codes.DCM.ImageView, Code(view.plane, PLANE_SCHEME, vocabulary.planes[view.plane].name)
    )
    if structures:
        item.ContentSequence = structures
    return item

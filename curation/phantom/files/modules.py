"""DICOM modules and code items that images and reports have in common."""

from __future__ import annotations

from datetime import date, datetime

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID

from sono.curation.phantom.identifiers import IMPLEMENTATION_NAME, IMPLEMENTATION_UID
from sono.curation.phantom.records import ExamRecord
from sono.curation.phantom.scripts import encodable

_TEXT = ("PN", "LO", "SH", "ST", "LT", "UC", "UT")
"""Value representations whose letters depend on the character set (PS3.5 6.1.2.3)."""

_LONGEST_CODE_VALUE = 16  # PS3.3 8.8: a longer code belongs in Long Code Value


def set_patient(dataset: Dataset, record: ExamRecord) -> None:
    """Patient (PS3.3 C.7.1.1)."""
    patient = record.patient
    dataset.PatientName = person_name((patient.family_name, patient.given_name))
    dataset.PatientID = patient.patient_id
    dataset.PatientBirthDate = dicom_date(patient.birth_date)
    dataset.PatientSex = "F"


def set_study(dataset: Dataset, record: ExamRecord) -> None:
    """General Study (PS3.3 C.7.2.1)."""
    dataset.StudyInstanceUID = UID(record.study_uid)
    dataset.StudyDate, dataset.StudyTime = dicom_date(record.started), dicom_time(record.started)
    dataset.ReferringPhysicianName = person_name(record.referring_physician)
    dataset.StudyID = dataset.AccessionNumber = record.accession_number
    dataset.StudyDescription = "Obstetric ultrasound"


def set_equipment(dataset: Dataset, record: ExamRecord) -> None:
    """General Equipment (PS3.3 C.7.5.1)."""
    center = record.center
    dataset.Manufacturer, dataset.ManufacturerModelName = center.manufacturer, center.model
    dataset.SoftwareVersions = center.software
    dataset.InstitutionName = center.hospital


def set_character_set(dataset: Dataset, character_set: str) -> None:
    """SOP Common (PS3.3 C.12.1): to be called last; letters that the character set lacks lose their accents."""
    dataset.SpecificCharacterSet = character_set
    for element in dataset.iterall():
        if element.VR in _TEXT and element.value:
            element.value = encodable(str(element.value), character_set)


def file_meta(dataset: Dataset, transfer_syntax: UID) -> FileMetaDataset:
    """File meta information (PS3.10 7.1).

    The implementation is named here because pydicom would write its own version: the bytes would change with it.
    """
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    meta.TransferSyntaxUID = transfer_syntax
    meta.ImplementationClassUID = UID(IMPLEMENTATION_UID)
    meta.ImplementationVersionName = IMPLEMENTATION_NAME
    return meta


def code_item(value: str, scheme: str, meaning: str) -> Dataset:
    """An item of a code sequence (PS3.3 8.8)."""
    item = Dataset()
    if len(value) <= _LONGEST_CODE_VALUE:
        item.CodeValue = value
    else:
        item.LongCodeValue = value
    item.CodingSchemeDesignator = scheme
    item.CodeMeaning = meaning
    return item


def coding_scheme_item(designator: str, uid: str, name: str) -> Dataset:
    """An item of Coding Scheme Identification Sequence (PS3.3 C.12.1)."""
    item = Dataset()
    item.CodingSchemeDesignator = designator
    item.CodingSchemeUID = UID(uid)
    item.CodingSchemeName = name
    return item


def person_name(name: tuple[str, str]) -> str:
    """Family name and given name as DICOM's PN."""
    return "^".join(name)


def dicom_date(day: date) -> str:
    return f"{day:%Y%m%d}"


def dicom_time(time: datetime) -> str:
    return f"{time:%H%M%S}"

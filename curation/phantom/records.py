"""The clinical record of an examination: what every form of record is written from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime

from .hospitals import Center


@dataclass(frozen=True)
class Patient:
    """The mother. ``patient_id`` is issued by the hospital."""

    patient_id: str
    family_name: str
    given_name: str
    birth_date: date


@dataclass(frozen=True)
class View:
    """A plane shown in an examination, and the structures seen in it, by their ids in the vocabulary."""

    plane: str
    structures_seen: tuple[str, ...]


@dataclass(frozen=True)
class ExamRecord:
    """What the hospital's records say about one examination: the same facts in every form of record.

    Attributes:
        study_uid: DICOM Study Instance UID.
        accession_number: number of the order.
        started: local time.
        lmp: first day of the last menstrual period.
        edd: estimated date of delivery.
        ga_days: gestational age at the examination, in completed days.
        ga_days_by_lmp: the same by the last menstrual period; contradicts ``ga_days`` where a conflict was put in.
        biometry_mm: by the names in ``schemas.BIOMETRY``.
        views: the planes shown, one entry per plane.
        findings: codes as ``SYSTEM:CODE``, keys of ``FINDINGS``.
        character_set: Specific Character Set of its DICOM files.
    """

    center: Center
    patient: Patient
    study_uid: str
    accession_number: str
    started: datetime
    referring_physician: tuple[str, str]  # family name, given name
    sonographer: tuple[str, str]
    lmp: date | None
    edd: date | None
    ga_days: int | None
    ga_days_by_lmp: int | None
    biometry_mm: Mapping[str, float]
    views: tuple[View, ...]
    findings: tuple[str, ...]
    character_set: str = "ISO_IR 192"

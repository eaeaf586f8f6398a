"""Which patient and examination a FHIR resource is about, according to the notes on its references."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple

from sono.captioning.facts.statements import Exam, FaultError, Reading
from sono.manifests.pseudonyms import PatientKeys

from .elements import Reference
from .index import Store
from .notes import ANY, SEVERAL_FETUSES, noted_encounter, noted_link, noted_patient, noted_study, unclear_study
from .references import MEDICAL_RECORD, ReferenceKeys, Study, identified_study, leads_nowhere, patient_keys_of
from .resources import DiagnosticReport, ImagingStudy, Observation

_PANELS_DEEP = 8  # panels within panels; against circles
_ANY_DAY = datetime.date(2000, 1, 1)


class Subject(NamedTuple):
    """A patient's pseudonyms, and hashes of the names and identifiers."""

    patient: PatientKeys
    words: Sequence[str]


class _Linked(NamedTuple):
    """What the reports and panels that list a record say: its studies, days, and whether they name a lost one."""

    studies: list[Study]
    days: set[int]
    is_lost: bool


class About(NamedTuple):
    """Whom and what a resource is about.

    Attributes:
        own_day: its own date, on the patient's calendar.
        has_several_fetuses: more than one fetus may have been examined.
        is_identified: the study is known.
        is_listed: an ImagingStudy of the records says which.
    """

    exam: Exam
    subject: Subject
    own_day: int | None
    has_several_fetuses: bool
    is_identified: bool
    is_listed: bool


class Attribution:
    """Looks up references in a store of notes, and remembers what it found for the next resources."""

    def __init__(self, reading: Reading, store: Store) -> None:
        self._reading, self._keys = reading, reading.keys
        self._references = ReferenceKeys(reading.keys)
        self._note = lru_cache(maxsize=10_000)(store.get)
        self._any_day = lru_cache(maxsize=10_000)(lambda key: reading.keys.day(key, _ANY_DAY))
        self._fetuses_anywhere = store.get(self._references.fetuses(ANY, None)) is not None

    def of_study(self, study: ImagingStudy) -> About:
        """Of a study itself.

        Raises:
            FaultError: its patient is not known.
        """
        subject = self._subject(study.subject)
        own_day = self._day(study.date, subject)
        exam = self._exam(subject, identified_study(study.identifiers, self._keys), own_day)
        several = self._has_several_fetuses(study, self._references.targets(study.targets), exam)
        return About(exam, subject, own_day, several, is_identified=True, is_listed=True)

    def of_record(self, record: DiagnosticReport | Observation) -> About:
        """Of a report or an observation: by its studies; without any, the reports and panels that list it may tell.

        What it says of its examination and nobody understands is not as if it said nothing: then only a day that is
        known can find the examination.

        Raises:
            FaultError: whom it is about is not known, or which of several studies; or it is not clear when it was.
        """
        subject = self._subject(record.subject)
        own_day = day = self._day(record.date, subject)
        references = self._references.studies(record.studies)
        is_lost = any(leads_nowhere(reference, self._keys) for reference in record.studies)
        if references or is_lost:
            keys = list(references)
            found = [self._noted_study(key) or study for key, study in references.items()]
            studies = [study for study in found if study]
            is_lost = is_lost or len(studies) < len(found)
        else:
            studies, days, is_lost = self._linked(self._references.targets(record.targets), subject)
            keys = [study.calendar for study in studies]
            if own_day is None and len(days) > 1:
                raise unclear_study()
            day = own_day if own_day is not None or not days else days.pop()
        study = _only_study(studies)
        if study is not None and is_lost:
            raise unclear_study()
        if study is None and day is None:
            if is_lost:
                raise missing_study()
            day = self._other_day(record, subject)
        exam = self._exam(subject, study, day, is_lost or (day is None and record.has_date))
        is_identified = exam.study_key is not None or exam.accession_key is not None
        if study is not None and not is_identified and exam.study_day is None:
            raise missing_study()  # nothing would keep it from the patient's only examination that has images
        is_listed = is_identified and not any(references.values())
        return About(exam, subject, own_day, self._has_several_fetuses(record, keys, exam), is_identified, is_listed)

    def _other_day(self, record: DiagnosticReport | Observation, subject: Subject) -> int | None:
        """The day of a record's encounter, or the day it was issued; None where it says nothing of when it was.

        Raises:
            FaultError: it says something that is not clear. Nothing else would keep it from the patient's only
                examination that has images.
        """
        if record.has_date:
            raise FaultError("date_malformed", "its date is no full one, or lies in the future")
        encounter = record.encounter
        if encounter.target or encounter.is_unclear or encounter.identifier.value:
            key = self._references.targets([encounter.target])[0] if encounter.target else ""
            _, day = noted_encounter((key and self._note(key)) or "")
            if day is None:
                raise FaultError("encounter_unclear", "its encounter is not in the records, or not of a single day")
            return self._moved(day, key, subject)
        if record.names_others:
            raise missing_study()
        if record.has_issued and record.issued is None:
            raise FaultError("date_malformed", "its date is no full one, or lies in the future")
        return self._day(record.issued, subject)

    def _subject(self, reference: Reference) -> Subject:
        for key in self._references.subject(reference):
            note = self._note(key)
            if note is not None:
                patient, words = noted_patient(note)
                if patient is None:
                    raise FaultError(
                        "patient_unclear", "which of its patient's identifiers is the images' is not clear"
                    )
                return Subject(patient, words)
        identifier = reference.identifier
        # a reference may give the number itself; without a type or the system that was asked for it could be any
        is_typed = self._reading.patient_system is not None or MEDICAL_RECORD in identifier.types
        if is_typed and (patient := patient_keys_of([identifier], self._reading)) is not None:
            return Subject(patient, ())
        raise FaultError("patient_missing", "the patient it is about is not in the records")

    def _noted_study(self, key: str) -> Study | None:
        note = self._note(key)
        if note is None:
            note = self._note(self._references.said(key))
        return None if note is None else noted_study(note, key)

    def _linked(self, keys: Iterable[str], subject: Subject) -> _Linked:
        """What the reports and panels that a record is listed in say of its examination."""
        studies: list[Study] = []
        days: set[int] = set()
        is_lost = False
        for start in keys:
            study, day, lost = self._followed(start, subject)
            studies += [study] if study else []
            days |= set() if day is None else {day}
            is_lost = is_lost or lost
        return _Linked(studies, days, is_lost)

    def _followed(self, key: str, subject: Subject) -> tuple[Study | None, int | None, bool]:
        """The study or the nearest day at the end of links, and whether the links name what is not known."""
        day: int | None = None
        is_lost = False
        seen: set[str] = set()
        while key not in seen:
            if len(seen) == _PANELS_DEEP:
                return None, day, True
            seen.add(key)
            note = self._note(key)
            link = noted_link(note) if note is not None else None
            if link is None:
                is_encounter, encounter_day = noted_encounter(note or "")
                if is_encounter and encounter_day is not None:
                    return None, self._moved(encounter_day, key, subject) if day is None else day, False
                study = None if is_encounter else self._noted_study(key)
                return study, None if study else day, is_lost and study is None
            if day is None and link.day is not None:
                day = self._moved(link.day, key, subject)
            is_lost = is_lost or link.is_lost
            if link.key is None:
                break
            key = link.key
        return None, day, is_lost

    def _exam(self, subject: Subject, study: Study | None, own_day: int | None, is_lost: bool = False) -> Exam:
        if study is None:
            return Exam(subject.patient, study_day=own_day, study_unknown=is_lost)
        day = own_day if study.day is None else self._moved(study.day, study.calendar, subject)
        # By its number only: a day that it names and nobody understands is not one that was never given.
        unknown = is_lost and study.study_key is None and day is None
        return Exam(subject.patient, study.study_key, study.accession_key, day, unknown)

    def _day(self, date: datetime.date | None, subject: Subject) -> int | None:
        return self._any_day(subject.patient.number) + (date - _ANY_DAY).days if date else None

    def _moved(self, day: int, calendar: str, subject: Subject) -> int:
        """From a resource's own calendar to its patient's; the date itself is never known."""
        return day - self._any_day(calendar) + self._any_day(subject.patient.number)

    def _has_several_fetuses(
        self, record: ImagingStudy | DiagnosticReport | Observation, studies: Sequence[str], exam: Exam
    ) -> bool:
        """What another resource of the same study says, or one about the patient on the same day."""
        if not self._fetuses_anywhere:
            return False
        subjects = self._references.subject(record.subject)
        dates = {record.date}
        if exam.study_day is not None:  # which may be its study's, its report's or its encounter's
            dates.add(_ANY_DAY + datetime.timedelta(exam.study_day - self._any_day(exam.patient.number)))
        pairs = [(key, date) for key in subjects for date in dates]
        pairs += [(key, None) for key in (*subjects, *studies)]
        return any(self._note(self._references.fetuses(key, date)) == SEVERAL_FETUSES for key, date in pairs)


def missing_study() -> FaultError:
    """What is raised where the study that a record names is not known."""
    return FaultError("study_missing", "the imaging study it is about is not in the records")


def _only_study(studies: Iterable[Study | None]) -> Study | None:
    found = {study.study_key or study.accession_key or study.calendar: study for study in studies if study}
    if len(found) > 1:
        raise unclear_study()
    return next(iter(found.values()), None)

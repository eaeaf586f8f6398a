"""Which patient and examination a FHIR resource is about, according to the notes on its references."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple

from sono.captioning.facts.statements import Exam, FaultError, Reading

from .elements import Reference
from .index import Store
from .notes import ANY, SEVERAL_FETUSES, noted_link, noted_patient, noted_study, unclear_study
from .references import MEDICAL_RECORD, ReferenceKeys, Study, identified_study, patient_key_of
from .resources import DiagnosticReport, ImagingStudy, Observation

_PANELS_DEEP = 8  # panels within panels; against circles
_ANY_DAY = datetime.date(2000, 1, 1)


class Subject(NamedTuple):
    """A patient's pseudonym, and hashes of the names and identifiers."""

    patient_key: str
    words: Sequence[str]


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
        several = self._has_several_fetuses(study, self._references.targets(study.targets))
        return About(exam, subject, own_day, several, is_identified=True, is_listed=True)

    def of_record(self, record: DiagnosticReport | Observation) -> About:
        """Of a report or an observation: by its studies; without any, the reports and panels that list it may tell.

        Raises:
            FaultError: whom it is about is not known, or which of several studies; or nothing says when it was.
        """
        subject = self._subject(record.subject)
        own_day = day = self._day(record.date, subject)
        references = self._references.studies(record.studies)
        if references:
            keys = list(references)
            studies = [study or self._noted_study(key) for key, study in references.items()]
        else:
            studies, days = self._linked(self._references.targets(record.targets), subject)
            keys = [study.calendar for study in studies if study]
            day = own_day if own_day is not None or len(days) != 1 else days.pop()
        study = _only_study(studies)
        if study is None and day is None:
            # nothing would keep it from the patient's only examination that has images
            if references:
                raise missing_study()
            if record.has_date:
                raise FaultError("date_malformed", "its date is no full one, or lies in the future")
        exam = self._exam(subject, study, day)
        is_identified = exam.study_key is not None or exam.accession_key is not None
        is_listed = is_identified and not any(references.values())
        return About(exam, subject, own_day, self._has_several_fetuses(record, keys), is_identified, is_listed)

    def _subject(self, reference: Reference) -> Subject:
        for key in self._references.subject(reference):
            note = self._note(key)
            if note is not None:
                patient_key, words = noted_patient(note)
                if patient_key is None:
                    raise FaultError(
                        "patient_unclear", "which of its patient's identifiers is the images' is not clear"
                    )
                return Subject(patient_key, words)
        identifier = reference.identifier
        # a reference may give the number itself; without a type or the system that was asked for it could be any
        is_typed = self._reading.patient_system is not None or MEDICAL_RECORD in identifier.types
        if is_typed and (patient_key := patient_key_of([identifier], self._reading)) is not None:
            return Subject(patient_key, ())
        raise FaultError("patient_missing", "the patient it is about is not in the records")

    def _noted_study(self, key: str) -> Study | None:
        note = self._note(key)
        return None if note is None else noted_study(note, key)

    def _linked(self, keys: Iterable[str], subject: Subject) -> tuple[list[Study | None], set[int]]:
        """The studies, or else the days, of the reports and panels that a record is listed in."""
        studies: list[Study | None] = []
        days: set[int] = set()
        for key in keys:
            for _ in range(_PANELS_DEEP):
                note = self._note(key)
                link = noted_link(note) if note is not None else None
                if link is None:
                    studies.append(None if note is None else noted_study(note, key))
                    break
                if link.key is None:
                    days |= set() if link.day is None else {self._moved(link.day, key, subject)}
                    break
                key = link.key
        return studies, days

    def _exam(self, subject: Subject, study: Study | None, own_day: int | None) -> Exam:
        if study is None:
            return Exam(subject.patient_key, study_day=own_day)
        day = own_day if study.day is None else self._moved(study.day, study.calendar, subject)
        return Exam(subject.patient_key, study.study_key, study.accession_key, day)

    def _day(self, date: datetime.date | None, subject: Subject) -> int | None:
        return self._any_day(subject.patient_key) + (date - _ANY_DAY).days if date else None

    def _moved(self, day: int, calendar: str, subject: Subject) -> int:
        """From a resource's own calendar to its patient's; the date itself is never known."""
        return day - self._any_day(calendar) + self._any_day(subject.patient_key)

    def _has_several_fetuses(
        self, record: ImagingStudy | DiagnosticReport | Observation, studies: Sequence[str]
    ) -> bool:
        if not self._fetuses_anywhere:
            return False
        subjects = self._references.subject(record.subject)
        pairs = [*((key, record.date) for key in subjects), *((key, None) for key in (*subjects, *studies))]
        return any(self._note(self._references.fetuses(key, date)) == SEVERAL_FETUSES for key, date in pairs)


def missing_study() -> FaultError:
    """What is raised where the study that a record names is not known."""
    return FaultError("study_missing", "the imaging study it is about is not in the records")


def _only_study(studies: Iterable[Study | None]) -> Study | None:
    found = {study.study_key or study.accession_key or study.calendar: study for study in studies if study}
    if len(found) > 1:
        raise unclear_study()
    return next(iter(found.values()), None)

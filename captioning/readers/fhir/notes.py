"""Notes, in pseudonyms, on what references in FHIR records point to, so that a bulk export is read file by file.

Noted are of a patient the pseudonyms and hashes of names, of a study its pseudonyms and its day, of an encounter its
day, of an observation the report or panel that lists it, and where more than one fetus was examined.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from sono.captioning.facts.statements import FaultError, Reading, identity_statements
from sono.captioning.readers.codes import SECOND_FETUS
from sono.manifests.pseudonyms import PatientKeys

from .elements import Reference
from .index import PATIENT, UNCLEAR, Store
from .references import ReferenceKeys, Study, identified_study, leads_nowhere, patient_keys_of
from .resources import DiagnosticReport, Encounter, ImagingStudy, Observation, Person, Resource, identifier_values

ANY = ""
"""Stands for every examination, where fetuses are noted."""

SEVERAL_FETUSES = UNCLEAR
"""The note of fetuses where there may be more than one: also where two of them are named."""

_NONE, _LOST = "-", "?"
_STUDY, _LINK, _FETUS, _ENCOUNTER = "S", "U", "F", "E"  # first words of notes, as index.PATIENT


class Link(NamedTuple):
    """What lists an observation, or says otherwise which examination it is of.

    Attributes:
        key: under which that is noted itself.
        day: its own day, on the calendar of the observation's key.
        is_lost: it names an examination; if nothing is noted under ``key``, it is not known which.
    """

    key: str | None
    day: int | None
    is_lost: bool


class Notes:
    """Notes resources in a store, under hashes of what they may be referred to by."""

    def __init__(self, reading: Reading, store: Store) -> None:
        self._reading, self._keys, self._store = reading, reading.keys, store
        self._references = ReferenceKeys(reading.keys)

    def note(self, resource: Resource) -> None:
        """Note a resource, if it is one that may be looked up, and valid."""
        if isinstance(resource, Person):
            if resource.kind == "Patient":
                self._note_patient(resource)
        elif isinstance(resource, Encounter):
            self._note_encounter(resource)
        elif isinstance(resource, ImagingStudy) and resource.is_valid:
            self._note_study(resource)
        elif isinstance(resource, DiagnosticReport) and resource.is_valid:
            self._note_results(resource)
        elif isinstance(resource, Observation) and resource.is_valid:
            studies = self._studies(resource.studies)
            self._note_members(resource, studies)
            self._note_fetuses(resource, studies)

    def _note_patient(self, patient: Person) -> None:
        texts = [*patient.names, *identifier_values(patient.identifiers)]
        words = sorted(str(statement.value) for statement in identity_statements(self._keys, texts, ""))
        found = patient_keys_of(patient.identifiers, self._reading)
        value = " ".join((PATIENT, *((found.patient, found.number) if found else (_NONE, _NONE)), *words))
        for key in (*self._references.targets(patient.targets), *self._references.identifiers(patient.identifiers)):
            self._store.put(key, value)

    def _note_study(self, study: ImagingStudy) -> None:
        found = identified_study(study.identifiers, self._keys) or Study(None, None, None, "")
        for key in self._references.targets(study.targets):
            day = self._keys.day(key, study.date) if study.date else None
            self._store.put(key, _study_note(found._replace(day=day)))

    def _note_encounter(self, encounter: Encounter) -> None:
        for key in self._references.targets(encounter.targets):
            day = self._keys.day(key, encounter.date) if encounter.date else _NONE
            self._store.put(key, f"{_ENCOUNTER} {day}")

    def _note_results(self, report: DiagnosticReport) -> None:
        studies = self._studies(report.studies)
        if studies or report.is_obstetric:
            for key in self._references.targets(report.results):
                self._note_link(key, report, studies)

    def _note_members(self, panel: Observation, studies: Sequence[str]) -> None:
        for key in self._references.targets(panel.members):
            self._note_link(key, panel, studies, self._references.targets(panel.targets[:1]))

    def _note_link(
        self, key: str, record: DiagnosticReport | Observation, studies: Sequence[str], own: Sequence[str] = ()
    ) -> None:
        """Note what ``record`` says of the examination of what it lists under ``key``.

        Args:
            studies: keys of the studies that it refers to.
            own: its own key, under which other records may say more.
        """
        if len(studies) > 1:
            self._store.put(key, UNCLEAR)
        elif studies:
            self._store.put(key, f"{_LINK} {studies[0]} {_LOST}")
        elif any(leads_nowhere(reference, self._keys) for reference in record.studies):
            self._store.put(key, f"{_LINK} {_NONE} {_LOST}")
        else:
            self._store.put(key, f"{_LINK} {self._above(key, record, own)}")

    def _above(self, key: str, record: DiagnosticReport | Observation, own: Sequence[str]) -> str:
        """A key and a day: of the record itself, or else its encounter."""
        above = own[0] if own else _NONE
        if record.date:
            return f"{above} {self._keys.day(key, record.date)}"
        encounter = record.encounter
        if not record.has_date and encounter.target and not own:
            return f"{self._references.targets([encounter.target])[0]} {_LOST}"
        if record.has_date or encounter.target or encounter.is_unclear or record.names_others:
            return f"{above} {_LOST}"
        return f"{above} {self._keys.day(key, record.issued) if record.issued else _NONE}"

    def _note_fetuses(self, observation: Observation, studies: Sequence[str]) -> None:
        for part in (observation.part, *observation.components):
            if not (part.fetus or part.counts_several):
                continue
            several = not part.fetus or SECOND_FETUS.fullmatch(part.fetus)
            self._note_fetus(observation, studies, None if several else part.fetus)
        for focus in observation.focus:
            self._note_fetus(observation, studies, f"focus {focus}")

    def _note_fetus(self, observation: Observation, studies: Sequence[str], name: str | None) -> None:
        """Note which fetus an observation names; None where it says that there are several."""
        note = SEVERAL_FETUSES if name is None else f"{_FETUS} {self._keys.content(f'fetus {name}')}"
        self._store.put(self._references.fetuses(ANY, None), _FETUS)
        for key in studies:
            self._store.put(self._references.fetuses(key, None), note)
        for key in self._references.subject(observation.subject):
            self._store.put(self._references.fetuses(key, observation.date), note)

    def _studies(self, references: Iterable[Reference]) -> list[str]:
        """Keys of the studies that are referred to; those that the references themselves identify are noted."""
        found = self._references.studies(references)
        for key, study in found.items():
            if study is not None:
                self._store.put(self._references.said(key), _study_note(study))
        return list(found)


def noted_patient(note: str) -> tuple[PatientKeys | None, list[str]]:
    """The pseudonyms, None where they are not clear, and hashes of names and identifiers."""
    _, key, number, *words = note.split() or (UNCLEAR, _NONE, _NONE)
    return None if key == _NONE else PatientKeys(key, number, number), words


def noted_study(note: str, key: str) -> Study:
    """The study that is noted under ``key``.

    Raises:
        FaultError: several claim it.
    """
    if not note.startswith(_STUDY):
        raise unclear_study()
    _, study_key, accession_key, day = (None if part == _NONE else part for part in note.split())
    return Study(study_key, accession_key, None if day is None else int(day), key)


def noted_link(note: str) -> Link | None:
    """None where the note is of something else."""
    if not note.startswith(_LINK):
        return None
    _, key, day = note.split()
    return Link(None if key == _NONE else key, None if day in (_NONE, _LOST) else int(day), day == _LOST)


def noted_encounter(note: str) -> tuple[bool, int | None]:
    """Whether the note is of an encounter, and its day on its own calendar; None where it is not of one day."""
    if not note.startswith(_ENCOUNTER):
        return False, None
    day = note.split()[1]
    return True, None if day == _NONE else int(day)


def unclear_study() -> FaultError:
    """What is raised where a record may be about one of several studies."""
    return FaultError("study_unclear", "it may be about more than one imaging study")


def _study_note(study: Study) -> str:
    parts = (study.study_key, study.accession_key, study.day)
    return " ".join((_STUDY, *(_NONE if part is None else str(part) for part in parts)))

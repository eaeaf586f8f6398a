"""Notes, in pseudonyms, on what references in FHIR records point to, so that a bulk export is read file by file.

Noted are of a patient the pseudonym and hashes of names, of a study its pseudonyms and its day, of an observation the
report or panel that lists it, and where more than one fetus was examined.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from sono.captioning.facts.statements import FaultError, Reading, identity_statements
from sono.captioning.readers.codes import SECOND_FETUS

from .elements import Reference
from .index import PATIENT, UNCLEAR, Store
from .references import ReferenceKeys, Study, identified_study, patient_key_of
from .resources import DiagnosticReport, ImagingStudy, Observation, Person, Resource, identifier_values

ANY = ""
"""Stands for every examination, where fetuses are noted."""

SEVERAL_FETUSES = UNCLEAR
"""The note of fetuses where there may be more than one: also where two of them are named."""

_NONE = "-"
_STUDY, _LINK, _FETUS = "S", "U", "F"  # first words of notes, as index.PATIENT


class Link(NamedTuple):
    """What lists an observation: the key under which it is noted itself, or else its day, on the key's calendar."""

    key: str | None
    day: int | None


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
        value = " ".join((PATIENT, patient_key_of(patient.identifiers, self._reading) or _NONE, *words))
        for key in (*self._references.targets(patient.targets), *self._references.identifiers(patient.identifiers)):
            self._store.put(key, value)

    def _note_study(self, study: ImagingStudy) -> None:
        found = identified_study(study.identifiers, self._keys) or Study(None, None, None, "")
        for key in self._references.targets(study.targets):
            day = self._keys.day(key, study.date) if study.date else None
            self._store.put(key, _study_note(found._replace(day=day)))

    def _note_results(self, report: DiagnosticReport) -> None:
        studies = self._studies(report.studies)
        if studies or report.is_obstetric:
            for key in self._references.targets(report.results):
                if studies:
                    self._note_link(key, studies)
                else:
                    day = self._keys.day(key, report.date) if report.date else _NONE
                    self._store.put(key, f"{_LINK} {_NONE} {day}")

    def _note_members(self, panel: Observation, studies: Sequence[str]) -> None:
        above = studies or self._references.targets(panel.targets[:1])
        for key in self._references.targets(panel.members):
            self._note_link(key, above)

    def _note_link(self, key: str, above: Sequence[str]) -> None:
        self._store.put(key, f"{_LINK} {above[0]} {_NONE}" if len(above) == 1 else UNCLEAR)

    def _note_fetuses(self, observation: Observation, studies: Sequence[str]) -> None:
        for part in (observation.part, *observation.components):
            if not (part.fetus or part.counts_several):
                continue
            several = not part.fetus or SECOND_FETUS.fullmatch(part.fetus)
            note = SEVERAL_FETUSES if several else f"{_FETUS} {self._keys.content(f'fetus {part.fetus}')}"
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
                self._store.put(key, _study_note(study))
        return list(found)


def noted_patient(note: str) -> tuple[str | None, list[str]]:
    """The pseudonym, None where it is not clear, and hashes of names and identifiers."""
    _, key, *words = note.split() or (UNCLEAR, _NONE)
    return None if key == _NONE else key, words


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
    return Link(None if key == _NONE else key, None if day == _NONE else int(day))


def unclear_study() -> FaultError:
    """What is raised where a record may be about one of several studies."""
    return FaultError("study_unclear", "it may be about more than one imaging study")


def _study_note(study: Study) -> str:
    parts = (study.study_key, study.accession_key, study.day)
    return " ".join((_STUDY, *(_NONE if part is None else str(part) for part in parts)))

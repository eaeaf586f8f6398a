"""Clinical records as HL7 FHIR R4 (https://hl7.org/fhir/R4/): Bundles, single resources, and NDJSON bulk exports.

Facts come from ``Observation`` (LOINC codes, UCUM units) and ``DiagnosticReport``, whom and which examination they are
about from ``Patient`` and ``ImagingStudy``. What refers to something that cannot be told apart is not taken.

References are compared by resource type and id, without the server's address: ``https://a.example/fhir/Patient/1`` is
``Patient/1``. Two different patients or studies of one id are both refused.
"""

from __future__ import annotations

import datetime
import re
import unicodedata
from collections.abc import Collection, Iterable, Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

from sono.captioning.facts.statements import Entry, Exam, Fault, FaultError, Reading, Statement, identity_statements
from sono.captioning.readers.codes import AGES, DATES, FETUS_ID, FETUSES, IMAGE_VIEW, LENGTHS, SECOND_FETUS, SIDES
from sono.manifests.errors import UserError

from .elements import (
    DCM,
    FINAL,
    REPORTED,
    STUDY_HOLDS,
    Json,
    as_object,
    as_objects,
    as_text,
    codings_of,
    displays_of,
    effective_date,
    has_effective,
    identifier_values,
    is_typed,
    names_of,
    parsed,
    past_date,
)
from .index import (
    ANY,
    KINDS,
    SEVERAL,
    Index,
    Local,
    Notes,
    Store,
    Study,
    fetus_key,
    identified_study,
    link_of,
    own_references,
    patient_key_of,
    patient_of,
    study_of,
    study_references,
    subject_references,
    unclear_study,
)
from .observations import facts_of, findings_of, is_obstetric, modified, parts_of, plain_forms, view_of

__all__ = [  # the codes are also those of DICOM SR
    "AGES",
    "DATES",
    "FETUSES",
    "FETUS_ID",
    "IMAGE_VIEW",
    "KINDS",
    "LENGTHS",
    "SECOND_FETUS",
    "SIDES",
    "Index",
    "index_ndjson",
    "read_json",
    "read_ndjson",
]

_RESOURCE_TYPE = re.compile(rb'"resourceType"\s*:\s*"([A-Za-z]+)"')
_PANELS_DEEP = 8  # panels within panels; against circles
_ANY_DAY = datetime.date(2000, 1, 1)
_NOT_JSON = Fault("not_json", "it is no JSON object")
_NO_TYPE = Fault("not_fhir", "it is no FHIR resource: resourceType is missing")
_SEVERAL_FETUSES = Fault(
    "several_fetuses", "more than one fetus may have been examined, and images do not say which they show"
)
_NOTED_OBSERVATIONS = (b"hasMember", FETUSES.encode(), FETUS_ID.encode())


def index_ndjson(lines: Iterable[bytes], reading: Reading, index: Index, kinds: Collection[str] = KINDS) -> None:
    """Note in ``index`` what lines of a bulk export are referred to by, in pseudonyms.

    One sweep over all files, in any order, is enough: references are followed only when they are looked up, and dates
    stand on a calendar of the resource's own until the patient is known. A line that cannot be read is passed over.

    Args:
        kinds: which of ``KINDS`` are noted. Of reports, the results they list; of observations, panels' members and
            fetuses' number and names alone.
    """
    notes = Notes(reading, index)
    wanted = {kind.encode() for kind in kinds}
    for line in lines:
        types = set(_RESOURCE_TYPE.findall(line))
        if types & wanted and (types != {b"Observation"} or any(word in line for word in _NOTED_OBSERVATIONS)):
            resource = parsed(line)
            if resource is not None and resource.get("resourceType") in kinds:
                notes.note(resource)
    index.flush()


def read_ndjson(lines: Iterable[tuple[int, bytes]], label: str, reading: Reading, index: Index) -> Iterator[Entry]:
    """Entries of an NDJSON file's lines.

    Args:
        lines: (number, line).
        label: what messages call the file: ``records file 1``.
        index: filled by ``index_ndjson`` from all files of the export.
    """
    reader = _Reader(reading, index)
    for number, line in lines:
        if not line.strip():
            continue
        place = f"line {number} of {label}"
        resource = parsed(line)
        if resource is None:
            yield Entry(place, None, faults=(_NOT_JSON,))
        elif (entry := reader.entry(resource, place)) is not None:
            yield entry


def read_json(content: bytes, label: str, reading: Reading, index: Index) -> Iterator[Entry]:
    """Entries of a Bundle of any type, or of a single resource; references are looked up there, then in ``index``.

    Raises:
        UserError: it is no JSON, or no FHIR resource.
    """
    top = parsed(content)
    if top is None:
        raise UserError("not valid JSON", fix="export it again as FHIR R4 JSON")
    if not as_text(top.get("resourceType")):
        raise UserError("no FHIR resource: resourceType is missing", fix="export it again as FHIR R4 JSON")
    single = [{"resource": top}]
    return _bundle(as_objects(top.get("entry")) if top["resourceType"] == "Bundle" else single, label, reading, index)


def _bundle(entries: Sequence[Json], label: str, reading: Reading, index: Index) -> Iterator[Entry]:
    local = Local(index)
    notes = Notes(reading, local)
    names: list[str] = []
    for entry in entries:
        resource = as_object(entry.get("resource"))
        notes.note(resource, full_url=as_text(entry.get("fullUrl")))
        if resource.get("resourceType") in ("Patient", "Practitioner"):
            names += [*names_of(resource), *identifier_values(resource)]
    reader = _Reader(reading, local, names)
    numbers: dict[str, int] = {}
    for entry in entries:
        if resource := as_object(entry.get("resource")):
            kind = as_text(resource.get("resourceType"))
            numbers[kind] = numbers.get(kind, 0) + 1
            # any other type's name is the writer's own text
            place = f"{kind if kind in KINDS else 'resource'} {numbers[kind]} of {label}"
            if (found := reader.entry(resource, place, full_url=as_text(entry.get("fullUrl")))) is not None:
                yield found


class _Subject(NamedTuple):
    patient_key: str
    words: Sequence[str]  # hashes of the patient's names and identifiers


class _About(NamedTuple):
    """Whom and what a resource is about.

    ``own_day`` is its own date, ``several``: there is more than one fetus, ``identified``: the study it names is known,
    ``listed``: that is so by an ImagingStudy of the records.
    """

    exam: Exam
    subject: _Subject
    own_day: int | None
    several: bool
    identified: bool
    listed: bool


class _Reader:
    """Makes entries of resources."""

    def __init__(self, reading: Reading, store: Store, names: Sequence[str] = ()) -> None:
        self._reading, self._keys, self._names = reading, reading.keys, names
        self._get = lru_cache(maxsize=10_000)(store.get)
        self._fetuses_anywhere = store.get(fetus_key(ANY, None, reading.keys)) is not None
        self._said: dict[Exam, None] = {}

    def entry(self, resource: Json, place: str, full_url: str = "") -> Entry | None:
        """None where the resource is none that says anything of use."""
        kind = as_text(resource.get("resourceType"))
        if not kind:
            return Entry(place, None, faults=(_NO_TYPE,))
        try:
            if kind == "ImagingStudy":
                return self._imaging_study(resource, place)
            if kind == "DiagnosticReport":
                return self._report(resource, place)
            if kind == "Observation":
                return self._observation(resource, place, full_url)
        except FaultError as error:
            return Entry(place, None, faults=(error.fault,))
        return None

    def _imaging_study(self, resource: Json, place: str) -> Entry:
        _check_holds(resource, STUDY_HOLDS)
        subject = self._subject(resource)
        found = identified_study(as_objects(resource.get("identifier")), self._keys)
        date = past_date(resource.get("started"))
        exam = self._exam(subject, found, self._keys.day(subject.patient_key, date) if date else None)
        several = self._is_several(resource, own_references(resource, "", self._keys))
        statements = self._identity(subject, [*displays_of(resource), *identifier_values(resource)])
        return Entry(place, exam, statements, (_SEVERAL_FETUSES,) if several else ())

    def _report(self, resource: Json, place: str) -> Entry | None:
        if not (is_obstetric(resource) or as_objects(resource.get("imagingStudy"))):
            return None
        _check_holds(resource, REPORTED)
        about = self._about(resource, ("imagingStudy",))
        if not (about.identified or is_obstetric(resource)):
            raise _study_missing()  # by its date alone, a report about a chest would be taken for one about a fetus
        statements = self._identity(about.subject, [*displays_of(resource), *identifier_values(resource)])
        faults: list[Fault] = []
        if about.several:
            return Entry(place, about.exam, statements, (_SEVERAL_FETUSES,))
        for concept in as_objects(resource.get("conclusionCode")):
            try:
                statements += findings_of(concept)
            except FaultError as error:
                faults.append(error.fault)
        if self._reading.prose is not None:
            texts = [("DiagnosticReport.conclusion", as_text(resource.get("conclusion")))]
            texts += [("DiagnosticReport.presentedForm", text) for text in plain_forms(resource, faults)]
            statements += self._prose(resource, texts, about.subject, faults)
        return Entry(place, about.exam, statements, faults)

    def _observation(self, resource: Json, place: str, full_url: str) -> Entry | None:
        view = (DCM, IMAGE_VIEW) in codings_of(resource.get("code"))
        parts = parts_of(resource)
        notes = [as_text(note.get("text")) for note in as_objects(resource.get("note"))]
        imaging = view or parts or _in_category(resource, "imaging")
        if not (view or parts or (self._reading.prose is not None and imaging and any(notes))):
            return None
        _check_holds(resource, FINAL)
        about = self._about(resource, ("derivedFrom", "partOf"), full_url)
        statements: list[Statement] = []
        faults: list[Fault] = []
        if about.several:
            faults.append(_SEVERAL_FETUSES)
        else:
            statements += facts_of(parts, about.exam, about.own_day, self._keys, faults)
            statements += view_of(resource, self._reading.vocabulary, faults) if view else []
            texts = [("Observation.note", text) for text in notes]
            statements += self._prose(resource, texts, about.subject, faults)
        # An examination that no ImagingStudy stands for gets its patient's names here, once in a while.
        if not about.listed and about.exam not in self._said:
            if len(self._said) >= 10_000:
                self._said.clear()
            self._said[about.exam] = None
            statements += self._identity(about.subject, displays_of(resource))
        return Entry(place, about.exam, statements, faults)

    # ------------------------------------------------------------------------------------------- whom and what about

    def _subject(self, resource: Json) -> _Subject:
        for key in subject_references(resource, self._keys):
            value = self._get(key)
            if value is not None:
                patient_key, words = patient_of(value)
                if patient_key is None:
                    raise FaultError(
                        "patient_unclear", "which of its patient's identifiers is the images' is not clear"
                    )
                return _Subject(patient_key, words)
        identifier = as_object(as_object(resource.get("subject")).get("identifier"))
        # a reference may give the number itself; without a type or the system that was asked for it could be any
        typed = self._reading.patient_system is not None or is_typed(identifier, "MR")
        if typed and (direct := patient_key_of([identifier], self._reading)) is not None:
            return _Subject(direct, ())
        raise FaultError("patient_missing", "the patient it is about is not in the records")

    def _about(self, resource: Json, fields: Sequence[str], full_url: str = "") -> _About:
        """``fields`` refer to imaging studies; without any, the reports and panels that list the resource may tell."""
        subject = self._subject(resource)
        date = effective_date(resource)
        own_day = day = self._keys.day(subject.patient_key, date) if date else None
        references = study_references(resource, fields, self._keys)
        found = [study or self._known(key) for key, study in references.items()]
        keys = list(references)
        if not keys:
            found, days = self._linked(own_references(resource, full_url, self._keys), subject)
            keys = [study.calendar for study in found if study]
            day = own_day if own_day is not None or len(days) != 1 else days.pop()
        studies = {study.study_key or study.accession_key or study.calendar: study for study in found if study}
        if len(studies) > 1:
            raise unclear_study()
        study = next(iter(studies.values()), None)
        if study is None and day is None:
            # nothing would keep it from the patient's only examination that has images
            if references:
                raise _study_missing()
            if has_effective(resource):
                raise FaultError("date_malformed", "its date is no full one, or lies in the future")
        exam = self._exam(subject, study, day)
        identified = exam.study_key is not None or exam.accession_key is not None
        listed = identified and not any(references.values())
        return _About(exam, subject, own_day, self._is_several(resource, keys), identified, listed)

    def _known(self, key: str) -> Study | None:
        value = self._get(key)
        return None if value is None else study_of(value, key)

    def _linked(self, own: Sequence[str], subject: _Subject) -> tuple[list[Study | None], set[int]]:
        """The studies, or else the days, of the reports and panels that an observation is listed in."""
        studies: list[Study | None] = []
        days: set[int] = set()
        for key in own:
            for _ in range(_PANELS_DEEP):
                value = self._get(key)
                link = link_of(value) if value is not None else None
                if link is None:
                    studies.append(None if value is None else study_of(value, key))
                    break
                above, day = link
                if above is None:
                    days |= set() if day is None else {self._moved(day, key, subject)}
                    break
                key = above
        return studies, days

    def _exam(self, subject: _Subject, study: Study | None, own_day: int | None) -> Exam:
        if study is None:
            return Exam(subject.patient_key, study_day=own_day)
        day = own_day if study.day is None else self._moved(study.day, study.calendar, subject)
        return Exam(subject.patient_key, study.study_key, study.accession_key, day)

    def _moved(self, day: int, calendar: str, subject: _Subject) -> int:
        """From a resource's own calendar to its patient's; the date itself is never known."""
        return day - self._keys.day(calendar, _ANY_DAY) + self._keys.day(subject.patient_key, _ANY_DAY)

    def _is_several(self, resource: Json, studies: Sequence[str]) -> bool:
        if not self._fetuses_anywhere:
            return False
        date = effective_date(resource) or past_date(resource.get("started"))
        subjects = subject_references(resource, self._keys)
        pairs = [*((key, date) for key in subjects), *((key, None) for key in (*subjects, *studies))]
        return any(self._get(fetus_key(key, day, self._keys)) == SEVERAL for key, day in pairs)

    def _identity(self, subject: _Subject, texts: Sequence[str]) -> list[Statement]:
        found = [Statement("identity", word, "Patient.name") for word in subject.words]
        known = set(subject.words)
        others = identity_statements(self._keys, texts, "identifiers and displays")
        return [*found, *(statement for statement in others if statement.value not in known)]

    def _prose(
        self, resource: Json, texts: Sequence[tuple[str, str]], subject: _Subject, faults: list[Fault]
    ) -> list[Statement]:
        if self._reading.prose is None:
            return []
        hashes, statements = set(subject.words), []
        for field, written in texts:
            if text := unicodedata.normalize("NFC", written):  # as identity_statements hashes words
                # A bulk export's patients are known by hashes alone: their names are found again word by word.
                words = {word for word in re.findall(r"\w+", text) if self._keys.word(word) in hashes}
                names = [*self._names, *displays_of(resource), *identifier_values(resource), *sorted(words)]
                found, faulty = self._reading.prose(text, field, list(dict.fromkeys(names)))
                statements += found
                faults += faulty
        return statements


def _check_holds(resource: Json, statuses: Collection[str]) -> None:
    if as_text(resource.get("status")) not in statuses:
        raise FaultError("not_final", "its status is not one of a finished, valid record")
    if resource.get("modifierExtension") or resource.get("implicitRules"):
        raise modified()


def _study_missing() -> FaultError:
    return FaultError("study_missing", "the imaging study it is about is not in the records")


def _in_category(resource: Json, code: str) -> bool:
    return any(code == found for item in as_objects(resource.get("category")) for _, found in codings_of(item))

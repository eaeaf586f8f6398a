"""Clinical records as HL7 FHIR R4 (https://hl7.org/fhir/R4/): Bundles, single resources, and NDJSON bulk exports.

Facts come from ``Observation`` (LOINC codes, UCUM units) and ``DiagnosticReport``; whom and which examination they are
about comes from ``Patient`` and ``ImagingStudy``. What refers to something ambiguous is not taken.

References are compared by resource type and id, without the server's address: ``https://a.example/fhir/Patient/1`` is
``Patient/1``. Two different patients or studies of one id are both refused.
"""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections.abc import Collection, Iterable, Iterator, Sequence

from sono.captioning.facts.statements import (
    Entry,
    Exam,
    Fault,
    FaultError,
    Reading,
    Statement,
    identity_statements,
    several_fetuses_in,
)
from sono.captioning.readers.codes import FETUS_ID, NUMBER_OF_FETUSES
from sono.manifests.errors import UserError

from .attribution import About, Attribution, Subject, missing_study
from .contained import with_contained
from .elements import Json, as_object, as_objects, as_text, parsed
from .index import BundleStore, Index
from .notes import Notes
from .observations import facts_of, modified, parts_with_facts
from .reports import findings_of, texts_of
from .resources import (
    KINDS,
    DiagnosticReport,
    ImagingStudy,
    Observation,
    Person,
    Resource,
    identifier_values,
    parse_resource,
)
from .views import Views, is_view

_RESOURCE_TYPE = re.compile(rb'"resourceType"\s*:\s*"([A-Za-z]+)"')
_NOTED_OBSERVATIONS = (b"hasMember", b"focus", b"contained", NUMBER_OF_FETUSES.encode(), FETUS_ID.encode())
_EXAMS_REMEMBERED = 10_000
_NOT_JSON = Fault("not_json", "it is no JSON object")
_NO_TYPE = Fault("not_fhir", "it is no FHIR resource: resourceType is missing")
_FOCUS_UNKNOWN = ("focus_unknown", "it is about something else than its patient, or it is not clear what")
_SEVERAL_FETUSES = Fault(
    "several_fetuses", "more than one fetus may have been examined, and images do not say which they show"
)


def index_ndjson(lines: Iterable[bytes], reading: Reading, index: Index, kinds: Collection[str] = KINDS) -> None:
    """Note in ``index`` what the lines of a bulk export are referred to by, in pseudonyms.

    One sweep over all files, in any order, is enough: references are followed only when they are looked up, and dates
    stay on a calendar of the resource's own until the patient is known. A line that cannot be read is skipped.

    Args:
        kinds: which of ``KINDS`` are noted. Of reports, the results they list; of observations, only the members of
            panels, and the number and names of fetuses.
    """
    notes = Notes(reading, index)
    wanted = {kind.encode() for kind in kinds}
    for line in lines:
        types = set(_RESOURCE_TYPE.findall(line))
        if types & wanted and (types != {b"Observation"} or any(word in line for word in _NOTED_OBSERVATIONS)):
            for json in with_contained(parsed(line) or {}):
                if json.get("resourceType") in kinds:
                    notes.note(parse_resource(json))
    index.flush()


def read_ndjson(lines: Iterable[tuple[int, bytes]], label: str, reading: Reading, index: Index) -> Iterator[Entry]:
    """Entries of an NDJSON file's lines.

    Args:
        lines: (number, line).
        label: what messages call the file: ``records file 1``.
        index: filled by ``index_ndjson`` from all files of the export.
    """
    reader = _Reader(reading, Attribution(reading, index))
    for number, line in lines:
        if not line.strip():
            continue
        place = f"line {number} of {label}"
        json = parsed(line)
        if json is None:
            yield Entry(place, None, faults=(_NOT_JSON,))
        else:
            own, *contained = with_contained(json)
            resources = [parse_resource(own), *(parse_resource(item) for item in contained)]
            yield from reader.entries(resources, place)


def read_json(content: bytes, label: str, reading: Reading, index: Index) -> Iterator[Entry]:
    """Entries of a Bundle of any type, or of a single resource; references are looked up there, then in ``index``.

    Raises:
        UserError: it is not JSON, or not a FHIR resource.
    """
    top = parsed(content)
    if top is None:
        raise UserError("not valid JSON", fix="export it again as FHIR R4 JSON")
    if not as_text(top.get("resourceType")):
        raise UserError("not a FHIR resource: resourceType is missing", fix="export it again as FHIR R4 JSON")
    entries = as_objects(top.get("entry")) if top["resourceType"] == "Bundle" else [{"resource": top}]
    return _read_bundle(list(map(_resources_in, entries)), label, reading, index)


def _resources_in(entry: Json) -> list[Resource]:
    """The resource of a bundle's entry, and those that it contains."""
    json = as_object(entry.get("resource"))
    if not json:
        return []
    own, *contained = with_contained(dict(json))
    return [parse_resource(own, as_text(entry.get("fullUrl"))), *map(parse_resource, contained)]


def _read_bundle(entries: Sequence[Sequence[Resource]], label: str, reading: Reading, index: Index) -> Iterator[Entry]:
    store = BundleStore(index)
    notes = Notes(reading, store)
    names: list[str] = []
    for resource in itertools.chain.from_iterable(entries):
        notes.note(resource)
        if isinstance(resource, Person):
            names += [*resource.names, *identifier_values(resource.identifiers)]
    reader = _Reader(reading, Attribution(reading, store), names)
    numbers: dict[str, int] = {}
    for resources in filter(None, entries):
        kind = resources[0].kind
        numbers[kind] = numbers.get(kind, 0) + 1
        # any other type's name is the writer's own text
        place = f"{kind if kind in KINDS else 'resource'} {numbers[kind]} of {label}"
        yield from reader.entries(resources, place)


class _Reader:
    """Makes entries of resources; ``names`` are of all people in their bundle."""

    def __init__(self, reading: Reading, attribution: Attribution, names: Sequence[str] = ()) -> None:
        self._reading, self._keys, self._names = reading, reading.keys, names
        self._attribution, self._views = attribution, Views(reading.vocabulary)
        self._identified: dict[Exam, None] = {}

    def entries(self, resources: Sequence[Resource], place: str) -> Iterator[Entry]:
        """Entries of a resource, and of the results that it contains."""
        for number, resource in enumerate(resources):
            if number == 0 or isinstance(resource, Observation | DiagnosticReport):
                entry = self.entry(resource, place)
                if entry is not None:
                    yield entry

    def entry(self, resource: Resource, place: str) -> Entry | None:
        """None for a resource that says nothing of use."""
        if not resource.kind:
            return Entry(place, None, faults=(_NO_TYPE,))
        try:
            if isinstance(resource, ImagingStudy):
                return self._study_entry(resource, place)
            if isinstance(resource, DiagnosticReport):
                return self._report_entry(resource, place)
            if isinstance(resource, Observation):
                return self._observation_entry(resource, place)
        except FaultError as error:
            return Entry(place, None, faults=(error.fault,))
        return None

    def _study_entry(self, study: ImagingStudy, place: str) -> Entry:
        _check_valid(study)
        about = self._attribution.of_study(study)
        statements = self._identity(about.subject, [*study.people, *identifier_values(study.identifiers)])
        if about.has_several_fetuses:
            return Entry(place, about.exam, [*statements, several_fetuses_in("ImagingStudy")], (_SEVERAL_FETUSES,))
        return Entry(place, about.exam, statements)

    def _report_entry(self, report: DiagnosticReport, place: str) -> Entry | None:
        if not (report.is_obstetric or report.studies):
            return None
        _check_valid(report)
        about = self._attribution.of_record(report)
        if not (about.is_identified or report.is_obstetric):
            raise missing_study()  # by its date alone, a report about a chest would be taken for one about a fetus
        statements = self._identity(about.subject, [*report.people, *identifier_values(report.identifiers)])
        if about.has_several_fetuses:
            return Entry(place, about.exam, [*statements, several_fetuses_in("DiagnosticReport")], (_SEVERAL_FETUSES,))
        faults: list[Fault] = []
        statements += findings_of(report, faults)
        if self._reading.prose is not None:
            statements += self._prose(report, list(texts_of(report, faults)), about.subject, faults)
        return Entry(place, about.exam, statements, faults)

    def _observation_entry(self, observation: Observation, place: str) -> Entry | None:
        parts = parts_with_facts(observation)
        has_view = is_view(observation)
        has_prose = self._reading.prose is not None and observation.is_imaging and any(observation.notes)
        if not (has_view or parts or has_prose or observation.names_fetuses):
            return None
        _check_valid(observation)
        if observation.has_unclear_focus and not observation.names_fetuses:
            raise FaultError(*_FOCUS_UNKNOWN)
        about = self._attribution.of_record(observation)
        if observation.has_unclear_focus and not about.has_several_fetuses:
            raise FaultError(*_FOCUS_UNKNOWN)
        statements: list[Statement] = []
        faults: list[Fault] = []
        if about.has_several_fetuses:
            faults.append(_SEVERAL_FETUSES)
            statements.append(several_fetuses_in("Observation"))
        else:
            statements += facts_of(parts, about.exam, about.own_day, self._keys, faults)
            statements += self._views.read(observation, faults) if has_view else []
            texts = [("Observation.note", text) for text in observation.notes]
            statements += self._prose(observation, texts, about.subject, faults)
        statements += self._identity_once(about, observation)
        return Entry(place, about.exam, statements, faults)

    def _identity_once(self, about: About, observation: Observation) -> list[Statement]:
        """An examination without an ImagingStudy gets its patient's names by its observations, but not by each."""
        if about.is_listed or about.exam in self._identified:
            return []
        if len(self._identified) >= _EXAMS_REMEMBERED:
            self._identified.clear()
        self._identified[about.exam] = None
        return self._identity(about.subject, observation.people)

    def _identity(self, subject: Subject, texts: Sequence[str]) -> list[Statement]:
        found = [Statement("identity", word, "Patient.name") for word in subject.words]
        words = set(subject.words)
        others = identity_statements(self._keys, texts, "identifiers and displays")
        return [*found, *(statement for statement in others if statement.value not in words)]

    def _prose(
        self,
        record: DiagnosticReport | Observation,
        texts: Iterable[tuple[str, str]],
        subject: Subject,
        faults: list[Fault],
    ) -> list[Statement]:
        statements: list[Statement] = []
        if self._reading.prose is None:
            return statements
        for field, written in texts:
            if text := unicodedata.normalize("NFC", written):  # as identity_statements hashes words
                names = [*self._names, *record.people, *identifier_values(record.identifiers)]
                names += self._names_in(text, subject)
                found, unclear = self._reading.prose(text, field, list(dict.fromkeys(names)))
                statements += found
                faults += unclear
        return statements

    def _names_in(self, text: str, subject: Subject) -> list[str]:
        """A bulk export's patients are known by hashes alone: their names are found again word by word."""
        hashes = set(subject.words)
        return sorted({word for word in re.findall(r"\w+", text) if self._keys.word(word) in hashes})


def _check_valid(record: ImagingStudy | DiagnosticReport | Observation) -> None:
    if not record.is_valid:
        raise FaultError("not_final", "its status is not one of a finished, valid record")
    if record.is_modified:
        raise modified()

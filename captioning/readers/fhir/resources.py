"""FHIR resources as small typed records. JSON ends here: ``parse_resource`` extracts everything the reader needs.

Resources may hold anything, so nothing is raised: a value of the wrong type is left out.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sono.captioning.readers.codes import AGES, DATES, FETUS_ID, IMAGE_VIEW, LENGTHS, NUMBER_OF_FETUSES, PRESENTATION

from .elements import (
    LOINC,
    NO_CONCEPT,
    Coding,
    Concept,
    Identifier,
    Json,
    Quantity,
    Reference,
    as_codings,
    as_concept,
    as_date,
    as_displays,
    as_identifiers,
    as_names,
    as_object,
    as_objects,
    as_past_date,
    as_quantity,
    as_reference,
    as_references,
    as_target,
    as_text,
    v2_table,
)

KINDS = ("Patient", "Encounter", "ImagingStudy", "DiagnosticReport", "Observation")
"""Types of resources that are read; a Practitioner is asked for a name alone."""

_FINAL = ("final", "amended", "corrected")  # statuses of an observation that is valid
_REPORTED = (*_FINAL, "appended")  # of a report
_STUDY_VALID = ("registered", "available", "unknown")  # of an imaging study
_OBSTETRIC_REPORT = "11525-3"  # LOINC, US Pelvis and Fetus for pregnancy
_SERVICE_SECTIONS, _OBSTETRIC_ULTRASOUND = "0074", "OUS"  # HL7 v2 table, and its code
_CODES_READ = frozenset({*LENGTHS, *AGES, *DATES, PRESENTATION, NUMBER_OF_FETUSES, FETUS_ID, IMAGE_VIEW})
_FETUS_KINDS = ("Patient", "RelatedPerson", "BodyStructure")  # what a fetus may be, as an observation's focus
_PEOPLE = ("subject", "performer", "referrer", "interpreter", "resultsInterpreter")


@dataclass(frozen=True, slots=True, repr=False)
class Person:
    """A Patient or Practitioner. ``targets``, here and below, are what the resource may be referred to by."""

    kind: str
    targets: Sequence[str]
    names: Sequence[str]
    identifiers: Sequence[Identifier]


@dataclass(frozen=True, slots=True, repr=False)
class _Record:
    """What studies, reports and observations have in common.

    Attributes:
        is_valid: its status is one of a finished record that holds.
        is_modified: it has a modifier, which may reverse its meaning.
        people: names given next to references to people.
        date: when it was; None where that is missing, partial or in the future. Of a period the start.
    """

    targets: Sequence[str]
    is_valid: bool
    is_modified: bool
    subject: Reference
    identifiers: Sequence[Identifier]
    people: Sequence[str]
    date: datetime.date | None


@dataclass(frozen=True, slots=True, repr=False)
class ImagingStudy(_Record):
    """When a study was, and what identifies it."""

    kind = "ImagingStudy"


@dataclass(frozen=True, slots=True, repr=False)
class Encounter:
    """A visit. ``date`` is its only day; None where it has several, or does not clearly say."""

    targets: Sequence[str]
    date: datetime.date | None

    kind = "Encounter"


@dataclass(frozen=True, slots=True, repr=False)
class _Result(_Record):
    """What reports and observations have in common.

    Attributes:
        has_date: it says when it was, clearly or not.
        has_issued: it says when it was published, clearly or not.
        issued: that day; it may be later than the examination's.
        studies: references to what may be an imaging study.
        encounter: the visit it belongs to.
        names_others: it refers to what it is part of, derived from or ordered by, which is no imaging study.
    """

    has_date: bool
    has_issued: bool
    issued: datetime.date | None
    studies: Sequence[Reference]
    encounter: Reference
    names_others: bool


@dataclass(frozen=True, slots=True, repr=False)
class DiagnosticReport(_Result):
    """A report: its findings, its prose, and the observations that it lists.

    Attributes:
        results: targets of the observations that it lists.
        is_obstetric: it states that it is about an ultrasound of a pregnancy.
        plain_forms: its presented forms in plain text, in Base64.
    """

    results: Sequence[str]
    is_obstetric: bool
    findings: Sequence[Sequence[Coding]]
    conclusion: str
    plain_forms: Sequence[str]

    kind = "DiagnosticReport"


@dataclass(frozen=True, slots=True, repr=False)
class Part:
    """What an observation, or one of its components, says: a code and a value.

    Attributes:
        loinc: its codes of LOINC.
        values: how many values it has.
        quantity, integer, text, date, concept: its value in the form that it has.
        is_absent: it says why its value is missing.
        fetus: what the fetus is called that it names; empty where it names none.
        counts_several: it says that there is more than one fetus, or may be.
    """

    code: Concept
    loinc: Sequence[str]
    values: int
    quantity: Quantity | None
    integer: int | None
    text: str
    date: datetime.date | None
    concept: Concept | None
    is_absent: bool
    is_modified: bool
    fetus: str
    counts_several: bool


@dataclass(frozen=True, slots=True, repr=False)
class Observation(_Result):
    """An observation, alone or with components; a panel has members.

    Attributes:
        members: targets of the observations that it lists.
        focus: what it is about besides its subject: a fetus.
        has_unclear_focus: it is about something else, or it is not clear what.
        is_imaging: by its category.
    """

    members: Sequence[str]
    focus: Sequence[str]
    has_unclear_focus: bool
    is_imaging: bool
    part: Part
    components: Sequence[Part]
    notes: Sequence[str]
    body_site: Sequence[Coding]

    kind = "Observation"

    @property
    def names_fetuses(self) -> bool:
        """It names a fetus, or says that there are several. It is read even if it says nothing else."""
        return bool(self.focus) or any(part.fetus or part.counts_several for part in (self.part, *self.components))


@dataclass(frozen=True, slots=True, repr=False)
class Other:
    """A resource that says nothing of use; ``kind`` is empty where it has none."""

    kind: str


Resource = Person | Encounter | ImagingStudy | DiagnosticReport | Observation | Other


def parse_resource(json: Json, full_url: str = "") -> Resource:
    """The record of a resource.

    Args:
        full_url: of the entry of a bundle that holds it.
    """
    kind = as_text(json.get("resourceType"))
    if kind == "Observation":
        # most of a hospital's observations are about something else, and should cost next to nothing
        return _observation(json, full_url) if _is_of_use(json) else Other(kind)
    if kind == "DiagnosticReport":
        return _report(json, full_url)
    if kind == "ImagingStudy":
        return _imaging_study(json, full_url)
    if kind == "Encounter":
        return Encounter(_own_targets(json, kind, full_url), _only_day(json))
    if kind in ("Patient", "Practitioner"):
        identifiers = as_identifiers(json.get("identifier"))
        return Person(kind, _own_targets(json, kind, full_url), as_names(json.get("name")), identifiers)
    return Other(kind)


def identifier_values(identifiers: Sequence[Identifier]) -> list[str]:
    """The identifiers themselves, without their systems."""
    return [item.value for item in identifiers if item.value]


def _imaging_study(json: Json, full_url: str) -> ImagingStudy:
    return ImagingStudy(
        targets=_own_targets(json, "ImagingStudy", full_url),
        is_valid=as_text(json.get("status")) in _STUDY_VALID,
        is_modified=_is_modified(json),
        subject=as_reference(json.get("subject"), "Patient"),
        identifiers=as_identifiers(json.get("identifier")),
        people=_people(json),
        date=as_past_date(json.get("started")),
    )


def _report(json: Json, full_url: str) -> DiagnosticReport:
    categories = [coding for item in as_objects(json.get("category")) for coding in as_codings(item)]
    return DiagnosticReport(
        targets=_own_targets(json, "DiagnosticReport", full_url),
        is_valid=as_text(json.get("status")) in _REPORTED,
        is_modified=_is_modified(json),
        subject=as_reference(json.get("subject"), "Patient"),
        identifiers=as_identifiers(json.get("identifier")),
        people=_people(json),
        **_occasion(json, ("imagingStudy", "study")),
        results=_targets(json.get("result"), "Observation"),
        is_obstetric=any(map(_is_obstetric, (*as_codings(json.get("code")), *categories))),
        findings=[as_codings(concept) for concept in as_objects(json.get("conclusionCode"))],
        conclusion=as_text(json.get("conclusion")),
        plain_forms=[
            as_text(form.get("data"))
            for form in as_objects(json.get("presentedForm"))
            if as_text(form.get("contentType")).partition(";")[0].strip() == "text/plain"
        ],
    )


def _observation(json: Json, full_url: str) -> Observation:
    focus = as_references(json.get("focus"), "ImagingStudy")
    about = [_focus(item, json) for item in as_objects(json.get("focus"))]
    categories = as_objects(json.get("category"))
    return Observation(
        targets=_own_targets(json, "Observation", full_url),
        is_valid=as_text(json.get("status")) in _FINAL,
        is_modified=_is_modified(json),
        subject=as_reference(json.get("subject"), "Patient"),
        identifiers=as_identifiers(json.get("identifier")),
        people=_people(json),
        **_occasion(json, ("derivedFrom", "partOf"), [item for item in focus if item.target or item.identifier.value]),
        members=_targets(json.get("hasMember"), "Observation"),
        focus=sorted({name for name in about if name}),
        has_unclear_focus=None in about or (bool(json.get("focus")) and not about),
        is_imaging=any(coding.code == "imaging" for item in categories for coding in as_codings(item)),
        part=_part(json),
        components=[_part(component) for component in as_objects(json.get("component"))],
        notes=[as_text(note.get("text")) for note in as_objects(json.get("note"))],
        body_site=as_codings(json.get("bodySite")),
    )


def _occasion(json: Json, names: Sequence[str], more: Sequence[Reference] = ()) -> dict[str, Any]:
    """The fields of ``_Result``, and the date.

    Args:
        names: of the elements that may refer to imaging studies.
    """
    references = [*(item for name in names for item in as_references(json.get(name), "ImagingStudy")), *more]
    orders = as_references(json.get("basedOn"), "ImagingStudy")
    numbered = [Reference("", item.identifier) for item in orders if "ACSN" in item.identifier.types]
    return {
        "date": _effective_date(json),
        "has_date": any(value and name.startswith("effective") for name, value in json.items()),
        "has_issued": bool(json.get("issued")),
        "issued": as_past_date(json.get("issued")),
        "studies": [*(item for item in references if not item.is_other), *numbered],
        "encounter": as_reference(json.get("encounter"), "Encounter"),
        "names_others": any(item.is_other for item in references) or len(orders) > len(numbered),
    }


def _focus(item: Json, observation: Json) -> str | None:
    """What an observation is about: empty for its subject or a study, a name for a fetus, None for anything else."""
    study = as_reference(item, "ImagingStudy")
    if study.target or (study.identifier.value and not study.is_other and as_text(item.get("type")) == "ImagingStudy"):
        return ""
    found = {kind: as_target(item.get("reference"), kind) for kind in _FETUS_KINDS}
    if found["Patient"] and found["Patient"] == as_target(
        as_object(observation.get("subject")).get("reference"), "Patient"
    ):
        return ""
    return next((target for target in found.values() if target), None)


def _only_day(encounter: Json) -> datetime.date | None:
    period = as_object(encounter.get("period") or encounter.get("actualPeriod"))
    start, end = as_past_date(period.get("start")), period.get("end")
    return start if not end or as_date(end) == start else None


def _is_of_use(observation: Json) -> bool:
    """Whether it may give a fact, text, a link to other observations, or name one of several fetuses."""
    if "hasMember" in observation or "note" in observation or "focus" in observation:
        return True
    parts = (observation, *as_objects(observation.get("component")))
    return any(coding.code in _CODES_READ for part in parts for coding in as_codings(part.get("code")))


def _part(json: Json) -> Part:
    code = as_concept(json.get("code")) or NO_CONCEPT
    loinc = [coding.code for coding in code.codings if coding.system == LOINC]
    values = len([name for name in json if name.startswith("value")])
    return Part(
        code=code,
        loinc=loinc,
        values=values,
        quantity=as_quantity(json["valueQuantity"]) if "valueQuantity" in json else None,
        integer=_integer(json.get("valueInteger")),
        text=as_text(json["valueString"]) if "valueString" in json else "",
        date=as_date(json["valueDateTime"]) if "valueDateTime" in json else None,
        concept=as_concept(json["valueCodeableConcept"]) if "valueCodeableConcept" in json else None,
        is_absent=bool(json.get("dataAbsentReason")),
        is_modified=bool(json.get("modifierExtension")),
        fetus=_fetus_name(json) if FETUS_ID in loinc else "",
        counts_several=NUMBER_OF_FETUSES in loinc and values > 0 and not _is_one(json),
    )


def _fetus_name(part: Json) -> str:
    number = _number(part)
    texts = [as_text(part.get("valueString")), "" if number is None else str(number)]
    concept = as_concept(part.get("valueCodeableConcept")) or NO_CONCEPT
    found = next((text for text in (*texts, *concept.words) if text), "")
    return re.sub(r"\.0*$", "", found).casefold()


def _is_one(part: Json) -> bool:
    number = _number(part)
    bounded = as_object(part.get("valueQuantity")).get("comparator")
    return (number == 1 and not isinstance(number, bool) and not bounded) or as_text(part.get("valueString")) == "1"


def _integer(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 10_000 else None


def _number(part: Json) -> object:
    return part.get("valueInteger", as_object(part.get("valueQuantity")).get("value"))


def _own_targets(json: Json, kind: str, full_url: str) -> list[str]:
    found = [as_target(text, kind) for text in (f"{kind}/{as_text(json.get('id'))}", full_url)]
    return list(dict.fromkeys(target for target in found if target))


def _targets(references: object, kind: str) -> list[str]:
    found = [as_target(item.get("reference"), kind) for item in as_objects(references)]
    return list(dict.fromkeys(target for target in found if target))


def _is_modified(json: Json) -> bool:
    """https://hl7.org/fhir/R4/extensibility.html#modifierExtension."""
    return bool(json.get("modifierExtension") or json.get("implicitRules"))


def _people(json: Json) -> list[str]:
    found = [display for name in _PEOPLE if name in json for display in as_displays(json[name])]
    authors = [as_text(note.get("authorString")) for note in as_objects(json.get("note"))]
    return [*found, *[author for author in authors if author]]


def _effective_date(json: Json) -> datetime.date | None:
    return (
        as_past_date(json.get("effectiveDateTime"))
        or as_past_date(as_object(json.get("effectivePeriod")).get("start"))
        or as_past_date(json.get("effectiveInstant"))
    )


def _is_obstetric(coding: Coding) -> bool:
    by_section = (v2_table(coding.system), coding.code) == (_SERVICE_SECTIONS, _OBSTETRIC_ULTRASOUND)
    return by_section or coding == (LOINC, _OBSTETRIC_REPORT)

"""FHIR JSON that may hold anything: what is not of the kind that belongs there reads as empty, and nothing is raised.

https://hl7.org/fhir/R4/json.html and https://hl7.org/fhir/R4/datatypes.html
"""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Mapping
from typing import Any

Json = Mapping[str, Any]

LOINC, SNOMED, UCUM = "http://loinc.org", "http://snomed.info/sct", "http://unitsofmeasure.org"
DCM = "http://dicom.nema.org/resources/ontology/DCM"

FINAL = ("final", "amended", "corrected")
"""Statuses of an observation that holds."""

REPORTED = (*FINAL, "appended")
"""Statuses of a report that holds."""

STUDY_HOLDS = ("registered", "available", "unknown")
"""Statuses of an ImagingStudy that holds."""

_V2 = re.compile(r"http://(?:terminology\.hl7\.org/CodeSystem/v2-|hl7\.org/fhir/v2/)(\d{4})")
_DATE = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2})(?:T[0-9:.]+(?:Z|[+-][0-9]{2}:[0-9]{2})?)?")


def parsed(content: bytes) -> dict[str, Any] | None:
    """None where it is no JSON object."""
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def as_object(value: object) -> Json:
    """Empty for what is no object."""
    return value if isinstance(value, dict) else {}


def as_objects(value: object) -> list[Json]:
    """Those of a list; empty for what is no list."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def as_text(value: object) -> str:
    """Without blanks at its ends; empty for what is no text, or no text that can be encoded."""
    if not isinstance(value, str):
        return ""
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            return ""
    return value.strip()


def as_date(value: object) -> datetime.date | None:
    """The date as written, whatever its time zone; None for a year or a month alone."""
    found = _DATE.fullmatch(as_text(value))
    try:
        return datetime.date.fromisoformat(found[1]) if found else None
    except ValueError:
        return None


def past_date(value: object) -> datetime.date | None:
    """None for one in the future, too; a day is left for clocks in other time zones."""
    date = as_date(value)
    return date if date and date <= datetime.date.today() + datetime.timedelta(days=1) else None


def effective_date(resource: Json) -> datetime.date | None:
    """Of an observation or report; of a period the start."""
    period = as_object(resource.get("effectivePeriod")).get("start")
    values = (resource.get("effectiveDateTime"), period, resource.get("effectiveInstant"))
    return next((date for value in values if (date := past_date(value)) is not None), None)


def has_effective(resource: Json) -> bool:
    """Whether it says when it was, be it clear or not."""
    return any(value and name.startswith("effective") for name, value in resource.items())


def codings_of(concept: object) -> list[tuple[str, str]]:
    """System and code of each coding of a CodeableConcept."""
    codings = as_objects(as_object(concept).get("coding"))
    return [(as_text(coding.get("system")), as_text(coding.get("code"))) for coding in codings]


def words_of(concept: object) -> list[str]:
    """Everything that a concept is called."""
    codings = as_objects(as_object(concept).get("coding"))
    words = [coding.get(name) for coding in codings for name in ("code", "display")]
    return [text for word in (*words, as_object(concept).get("text")) if (text := as_text(word))]


def is_typed(identifier: Json, code: str) -> bool:
    """Whether HL7 v2 table 0203 types it so."""
    return any((v2_table(system), found) == ("0203", code) for system, found in codings_of(identifier.get("type")))


def v2_table(system: str) -> str | None:
    """The number of the HL7 v2 table that a code system is, in either form of its address."""
    found = _V2.fullmatch(system)
    return found[1] if found else None


def names_of(person: Json) -> list[str]:
    """Every part of every name of a Patient or Practitioner."""
    found = []
    for name in as_objects(person.get("name")):
        given = name.get("given")
        parts = [name.get("family"), name.get("text"), *(given if isinstance(given, list) else ())]
        found += [text for part in parts if (text := as_text(part))]
    return found


def identifier_values(resource: Json) -> list[str]:
    """The identifiers themselves, without their systems."""
    return [text for item in as_objects(resource.get("identifier")) if (text := as_text(item.get("value")))]


def _is_group(reference: Json) -> bool:
    """Whether it is to an organisation: "Fetal Medicine Unit" names nobody, and would forbid "fetal"."""
    kinds = ("Organization", "CareTeam")
    target = as_text(reference.get("reference")).rsplit("/", 2)
    return as_text(reference.get("type")) in kinds or (len(target) > 1 and target[-2] in kinds)


def displays_of(resource: Json) -> list[str]:
    """The names of people that stand beside references to them."""
    names = ("subject", "performer", "referrer", "interpreter", "resultsInterpreter")
    found: list[str] = []
    for name in names:
        value = resource.get(name)
        for item in (value, *(value if isinstance(value, list) else ())):
            people = (as_object(item), as_object(as_object(item).get("actor")))
            found += [text for part in people if not _is_group(part) and (text := as_text(part.get("display")))]
    authors = [as_text(note.get("authorString")) for note in as_objects(resource.get("note"))]
    return [*found, *(author for author in authors if author)]

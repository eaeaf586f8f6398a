"""FHIR data types, read leniently: a value of the wrong type reads as empty, and nothing is raised.

https://hl7.org/fhir/R4/json.html and https://hl7.org/fhir/R4/datatypes.html
"""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

Json = Mapping[str, Any]

LOINC, SNOMED, UCUM = "http://loinc.org", "http://snomed.info/sct", "http://unitsofmeasure.org"
DCM = "http://dicom.nema.org/resources/ontology/DCM"

_V2_TABLE = re.compile(r"http://(?:terminology\.hl7\.org/CodeSystem/v2-|hl7\.org/fhir/v2/)(\d{4})")
_IDENTIFIER_TYPES = "0203"  # HL7 v2 table
_DATE = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2})(?:T[0-9:.]+(?:Z|[+-][0-9]{2}:[0-9]{2})?)?")
_TARGET = re.compile(r"(?:.*/)?([A-Za-z]+)/([A-Za-z0-9\-.]{1,64})(?:/_history/[A-Za-z0-9\-.]{1,64})?")
_UUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_GROUPS = ("Organization", "CareTeam")


class Coding(NamedTuple):
    """A code and its system."""

    system: str
    code: str


@dataclass(frozen=True, slots=True, repr=False)
class Concept:
    """A CodeableConcept. ``words`` are everything that it is called: codes, displays and its text."""

    codings: Sequence[Coding] = ()
    words: Sequence[str] = ()


@dataclass(frozen=True, slots=True, repr=False)
class Identifier:
    """An identifier; ``types`` are its codes of HL7 v2 table 0203, such as MR or ACSN."""

    system: str = ""
    value: str = ""
    use: str = ""
    types: Sequence[str] = ()


@dataclass(frozen=True, slots=True, repr=False)
class Reference:
    """A reference by ``target``, a resource's type and id (empty if it is to none), or by an identifier."""

    target: str
    identifier: Identifier


@dataclass(frozen=True, slots=True, repr=False)
class Quantity:
    """A quantity; ``value`` is None where the number is missing or not a number."""

    value: int | float | None
    unit: str
    system: str
    code: str
    has_comparator: bool


NO_CONCEPT, _NO_IDENTIFIER = Concept(), Identifier()


def parsed(content: bytes) -> dict[str, Any] | None:
    """The JSON object; None for anything else."""
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def as_object(value: object) -> Json:
    """Empty for what is not an object."""
    return value if isinstance(value, dict) else {}


def as_objects(value: object) -> list[Json]:
    """The objects in a list; empty for what is not a list."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def as_text(value: object) -> str:
    """Text without blanks at its ends; empty for what is not text, or cannot be encoded."""
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
    if value is None:
        return None
    found = _DATE.fullmatch(as_text(value))
    try:
        return datetime.date.fromisoformat(found[1]) if found else None
    except ValueError:
        return None


def as_past_date(value: object) -> datetime.date | None:
    """None for a date in the future, too; one day is allowed for clocks in other time zones."""
    date = as_date(value)
    return date if date and date <= datetime.date.today() + datetime.timedelta(days=1) else None


def as_codings(value: object) -> tuple[Coding, ...]:
    """The codings of a CodeableConcept."""
    if not isinstance(value, dict):
        return ()
    codings = as_objects(value.get("coding"))
    return tuple([Coding(as_text(coding.get("system")), as_text(coding.get("code"))) for coding in codings])


def as_concept(value: object) -> Concept | None:
    """None for what is not an object, or empty."""
    if not isinstance(value, dict) or not value:
        return None
    codings: list[Coding] = []
    words: list[str] = []
    for coding in as_objects(value.get("coding")):
        code = as_text(coding.get("code"))
        codings.append(Coding(as_text(coding.get("system")), code))
        words += (code, as_text(coding.get("display")))
    words.append(as_text(value.get("text")))
    return Concept(codings, [word for word in words if word])


def as_identifier(value: object) -> Identifier:
    """Empty for what is not an identifier."""
    if not isinstance(value, dict) or not value:
        return _NO_IDENTIFIER
    types = [code for system, code in as_codings(value.get("type")) if v2_table(system) == _IDENTIFIER_TYPES]
    return Identifier(as_text(value.get("system")), as_text(value.get("value")), as_text(value.get("use")), types)


def as_identifiers(value: object) -> tuple[Identifier, ...]:
    """The identifiers in a list."""
    return tuple([as_identifier(item) for item in as_objects(value)])


def as_reference(value: object, kind: str) -> Reference:
    """A reference to a resource of type ``kind``; the target of one to another type is empty."""
    item = as_object(value)
    return Reference(as_target(item.get("reference"), kind), as_identifier(item.get("identifier")))


def as_references(value: object, kind: str) -> tuple[Reference, ...]:
    """The references in a list."""
    return tuple([as_reference(item, kind) for item in as_objects(value)])


def as_target(value: object, kind: str) -> str:
    """``Patient/1`` of Patient/1, https://.../Patient/1 and urn:uuid:1; empty unless it is a ``kind``."""
    text = as_text(value)
    if not text:
        return ""
    found = _TARGET.fullmatch(text)
    if found and found[1] != kind:
        return ""
    identifier = found[2] if found else text.removeprefix("urn:uuid:") if text.startswith("urn:uuid:") else ""
    if not identifier:
        return ""
    # RFC 4122 lets a UUID's letters be of either case; in other ids case matters
    return f"{kind}/{identifier.lower() if _UUID.fullmatch(identifier) else identifier}"


def as_quantity(value: object) -> Quantity:
    """A quantity without a value for what is not a quantity."""
    item = as_object(value)
    number = item.get("value")
    return Quantity(
        value=number if isinstance(number, int | float) and not isinstance(number, bool) else None,
        unit=as_text(item.get("unit")),
        system=as_text(item.get("system")),
        code=as_text(item.get("code")),
        has_comparator=bool(item.get("comparator")),
    )


def as_names(value: object) -> list[str]:
    """Every part of every HumanName in a list."""
    found = []
    for name in as_objects(value):
        given = name.get("given")
        parts = [name.get("family"), name.get("text"), *(given if isinstance(given, list) else ())]
        found += [text for part in parts if (text := as_text(part))]
    return found


def as_displays(value: object) -> list[str]:
    """The names of people beside a reference to them, or beside each of a list."""
    items = as_objects(value if isinstance(value, list) else [value])
    people = [person for item in items for person in (item, item.get("actor")) if isinstance(person, dict)]
    return [text for person in people if (text := as_text(person.get("display"))) and not _is_group(person)]


def v2_table(system: str) -> str | None:
    """The number of the HL7 v2 table that a code system is, in either form of its address."""
    found = _V2_TABLE.fullmatch(system)
    return found[1] if found else None


def _is_group(reference: Json) -> bool:
    """Whether it is to an organisation: "Fetal Medicine Unit" is not a person, and would forbid "fetal"."""
    target = as_text(reference.get("reference")).rsplit("/", 2)
    return as_text(reference.get("type")) in _GROUPS or (len(target) > 1 and target[-2] in _GROUPS)

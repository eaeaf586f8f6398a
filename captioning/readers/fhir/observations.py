"""What FHIR observations and reports say: the codes that are read, and how their values become facts."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import suppress

from sono.captioning.facts.quantities import gestational_age_days, millimetres
from sono.captioning.facts.statements import Exam, Fault, FaultError, Statement, finding
from sono.captioning.readers.codes import (
    AGES,
    DATES,
    FETUS_ID,
    FETUSES,
    IMAGE_VIEW,
    LENGTHS,
    PRESENTATION,
    PRESENTATIONS,
    SIDES,
)
from sono.manifests.pseudonyms import Pseudonymizer
from sono.manifests.vocabulary import Vocabulary, normalise

from .elements import (
    DCM,
    LOINC,
    SNOMED,
    UCUM,
    Json,
    as_date,
    as_object,
    as_objects,
    as_text,
    codings_of,
    v2_table,
    words_of,
)

"""Names of a fetus that say that it is not the only one."""

_FACTS: Mapping[str, str] = {**LENGTHS, **AGES, **DATES, PRESENTATION: "presentation"}
_UNITS = ("mm", "cm", "m", "d", "wk")
_FINDING_SYSTEMS: Mapping[str, str] = {
    SNOMED: "SCT",
    LOINC: "LN",
    DCM: "DCM",
    "http://human-phenotype-ontology.org": "HP",
    "http://purl.obolibrary.org/obo/hp.fhir": "HP",
    "http://purl.obolibrary.org/obo/hp.owl": "HP",
    "http://hl7.org/fhir/sid/icd-10": "ICD10",
    "http://hl7.org/fhir/sid/icd-10-cm": "ICD10",
}
_HPO_PREFIX = re.compile(r"^HP[:_]")
_SEEN = frozenset({"structure seen", "structures seen"})
_WEEKS_AND_DAYS = re.compile(r"([0-9]{1,2})\s*(?:\+|w\s?)\s*([0-6])\s*d?", re.IGNORECASE)
_WEEKS_45, _WEEKS_42, _WEEKS_5 = 45 * 7, 42 * 7, 5 * 7


def is_obstetric(report: Json) -> bool:
    """It says itself that it is about an ultrasound of a pregnancy."""
    codings = [
        *codings_of(report.get("code")),
        *(c for item in as_objects(report.get("category")) for c in codings_of(item)),
    ]
    return any(
        (system, code) == (LOINC, "11525-3") or (v2_table(system), code) == ("0074", "OUS") for system, code in codings
    )


def parts_of(observation: Json) -> list[Json]:
    """It and its components, those that have a code whose value is read.

    An age in a measurement is the age by that alone, as in DICOM's TID 5008, and not the examination's.
    """
    components = [part for part in as_objects(observation.get("component")) if _has_code(part, _FACTS)]
    if _has_code(observation, LENGTHS):
        components = [part for part in components if not _has_code(part, AGES)]
    return [observation, *components] if _has_code(observation, _FACTS) else components


def _has_code(part: Json, known: Container[str]) -> bool:
    return any(system == LOINC and code in known for system, code in codings_of(part.get("code")))


def facts_of(
    parts: Sequence[Json], exam: Exam, own_day: int | None, keys: Pseudonymizer, faults: list[Fault]
) -> list[Statement]:
    """At most one statement of a fact: where one of several values cannot be taken, the others are in doubt too.

    Args:
        parts: ``parts_of`` an observation.
        own_day: of the observation itself, on the patient's calendar.
        faults: gets what could not be taken.

    Raises:
        FaultError: the codes of one part mean different facts.
    """
    found: dict[str, dict[float | str, Statement]] = {}
    doubtful = set()
    for part in parts:
        code, fact = _fact(part)
        try:
            value = _value(code, part, exam, own_day, keys)
            if value is not None:
                found.setdefault(fact, {}).setdefault(value, Statement(fact, value, f"Observation {code}"))
        except FaultError as error:
            faults.append(error.fault)
            doubtful.add(fact)
    if any(len(values) > 1 for values in found.values()):
        faults.append(Fault("several_values", "it gives several values of one fact"))
    return [next(iter(values.values())) for fact, values in found.items() if len(values) == 1 and fact not in doubtful]


def _fact(part: Json) -> tuple[str, str]:
    codes = [code for system, code in codings_of(part.get("code")) if system == LOINC and code in _FACTS]
    if len({_FACTS[code] for code in codes}) > 1:
        raise FaultError("code_unclear", "its codes mean different facts")
    return codes[0], _FACTS[codes[0]]


def _value(code: str, part: Json, exam: Exam, own_day: int | None, keys: Pseudonymizer) -> float | str | None:
    if part.get("modifierExtension"):
        raise modified()
    values = [name for name in part if name.startswith("value")]
    if not values:
        return None
    if len(values) > 1 or part.get("dataAbsentReason"):
        raise _malformed()
    if code in LENGTHS:
        return millimetres(LENGTHS[code], *_quantity(part))
    if code in AGES:
        if exam.study_day is not None and own_day is not None and abs(exam.study_day - own_day) > 1:
            raise FaultError("another_day", "its gestational age is of another day than the examination")
        return _age(part)
    if code in DATES:
        return _day(DATES[code], part, exam, keys)
    return _presentation(part)


def _quantity(part: Json) -> tuple[float, str]:
    """Value and UCUM unit of ``valueQuantity``."""
    quantity = as_object(part.get("valueQuantity"))
    value, unit, code = quantity.get("value"), as_text(quantity.get("unit")), as_text(quantity.get("code"))
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise _malformed()
    if quantity.get("comparator"):
        raise FaultError("comparator", "its value is a bound, not a measurement")
    if code and as_text(quantity.get("system")) != UCUM:
        raise FaultError("unit_unknown", "its unit is not coded in UCUM")
    if code and unit in _UNITS and unit != code:
        raise FaultError("unit_unknown", "its unit and the unit's code differ")
    try:
        return float(value), code or unit
    except OverflowError:
        raise _malformed() from None


def _age(part: Json) -> int:
    if "valueQuantity" in part:
        return gestational_age_days(*_quantity(part))
    found = _WEEKS_AND_DAYS.fullmatch(as_text(part.get("valueString")))
    if not found:
        raise _malformed()
    return gestational_age_days(int(found[1]) * 7 + int(found[2]), "d")


def _day(fact: str, part: Json, exam: Exam, keys: Pseudonymizer) -> int:
    date = as_date(part.get("valueDateTime"))
    if date is None:
        raise FaultError("date_malformed", "a date of the pregnancy is no full date")
    day = keys.day(exam.patient_key, date)
    if exam.study_day is not None:
        before = exam.study_day - day
        possible = 0 <= before <= _WEEKS_45 if fact == "lmp_day" else -_WEEKS_42 <= before <= _WEEKS_5
        if not possible:
            raise FaultError("date_impossible", f"its {fact.removesuffix('_day')} does not fit the examination's date")
    return day


def _presentation(part: Json) -> str:
    codes = codings_of(part.get("valueCodeableConcept"))
    found = {PRESENTATIONS[code] for system, code in codes if system == SNOMED and code in PRESENTATIONS}
    if len(found) != 1:
        raise FaultError("presentation_unknown", "its presentation has none of the codes that are known")
    return found.pop()


def view_of(resource: Json, vocabulary: Vocabulary, faults: list[Fault]) -> list[Statement]:
    """What a plane that was shown says: structures seen and the side, both for images of that plane."""
    field = f"Observation {IMAGE_VIEW}"
    concept = resource.get("valueCodeableConcept")
    if not as_object(concept):
        return []
    planes = {vocabulary.find_plane(word) for word in words_of(concept)} - {None}
    plane = planes.pop() if len(planes) == 1 else None
    if plane is None:
        faults.append(Fault("plane_unknown", "it names a plane that the vocabulary does not have"))
        return []
    sides = [codings_of(resource.get("bodySite"))]
    structures: dict[str, None] = {}
    for component in as_objects(resource.get("component")):
        value = component.get("valueCodeableConcept")
        if component.get("modifierExtension") or not as_object(value):
            faults += [modified().fault] if component.get("modifierExtension") else []
        elif {(SNOMED, "272741003"), (DCM, "111027")} & set(codings_of(component.get("code"))):
            sides.append(codings_of(value))
        elif not {normalise(word) for word in words_of(component.get("code"))} & _SEEN:
            faults.append(Fault("component_unknown", "a component of a view is not called structure seen"))
        else:
            names = {vocabulary.find_structure(word) for word in words_of(value)} - {None}
            if len(names) != 1:
                faults.append(Fault("structure_unknown", "it names a structure that the vocabulary does not have"))
            structures.update({name: None for name in names if name is not None and len(names) == 1})
    laterality = {SIDES[code] for side in sides for system, code in side if system == SNOMED and code in SIDES}
    if len(laterality) > 1:
        faults.append(Fault("laterality_unknown", "it gives several sides"))
    return [
        *(Statement("structures_seen", structure, field, plane) for structure in structures),
        *(Statement("laterality", side, field, plane) for side in laterality if len(laterality) == 1),
    ]


def findings_of(concept: Json) -> list[Statement]:
    """The codes of a conclusion that are findings of a known system.

    Raises:
        FaultError: there is none.
    """
    codes: dict[str, None] = {}
    for system, code in codings_of(concept):
        if system in _FINDING_SYSTEMS:
            name = _FINDING_SYSTEMS[system]
            with suppress(FaultError):
                codes[finding(f"{name}:{_HPO_PREFIX.sub('', code) if name == 'HP' else code}")] = None
    if not codes:
        raise FaultError("finding_malformed", "a finding has no code of a system that is known")
    return [Statement("findings", code, "DiagnosticReport.conclusionCode") for code in codes]


def plain_forms(report: Json, faults: list[Fault]) -> Iterator[str]:
    """The texts of ``presentedForm``; another form than plain text is not looked at."""
    for form in as_objects(report.get("presentedForm")):
        if as_text(form.get("contentType")).partition(";")[0].strip() == "text/plain":
            try:
                yield base64.b64decode(as_text(form.get("data")), validate=True).decode()
            except (binascii.Error, ValueError):
                faults.append(Fault("text_unreadable", "its text is no UTF-8"))


def is_several(part: Json) -> bool:
    """Whether more than one fetus may have been examined: the value of ``FETUSES`` is another than one, or unclear."""
    values = [value for name, value in part.items() if name.startswith("value")]
    if not values or not _has_code(part, (FETUSES,)):
        return False
    quantity = as_object(part.get("valueQuantity"))
    number = part.get("valueInteger", quantity.get("value"))
    is_one = number == 1 and not isinstance(number, bool) and not quantity.get("comparator")
    return not (is_one or as_text(part.get("valueString")) == "1")


def fetus_of(part: Json) -> str:
    """What the fetus is called that ``FETUS_ID`` names; empty where it names none."""
    if not _has_code(part, (FETUS_ID,)):
        return ""
    number = part.get("valueInteger", as_object(part.get("valueQuantity")).get("value"))
    texts = [as_text(part.get("valueString")), "" if number is None else str(number)]
    found = next((text for text in (*texts, *words_of(part.get("valueCodeableConcept"))) if text), "")
    return re.sub(r"\.0*$", "", found).casefold()


def modified() -> FaultError:
    """Of what has a modifier, whose meaning is not known."""
    # https://hl7.org/fhir/R4/extensibility.html#modifierExtension
    return FaultError("modifier_unknown", "it has a modifier, which may turn its meaning round")


def _malformed() -> FaultError:
    return FaultError("value_malformed", "its value is not of the kind that belongs to its code")

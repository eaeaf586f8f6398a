"""What FHIR observations say: how their codes and values become facts."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence

from sono.captioning.facts.quantities import check_age_day, check_pregnancy_day, gestational_age_days, millimetres
from sono.captioning.facts.statements import Exam, Fault, FaultError, Statement
from sono.captioning.readers.codes import (
    AGE_UNITS,
    AGES,
    DATES,
    DAYS_CODE,
    LENGTHS,
    PRESENTATION,
    PRESENTATIONS,
    WEEKS_CODE,
)
from sono.manifests.pseudonyms import Pseudonymizer

from .elements import SNOMED, UCUM
from .resources import Observation, Part

_FACTS: Mapping[str, str] = {**LENGTHS, **AGES, **DATES, PRESENTATION: "presentation"}
_UNITS = ("mm", "cm", "m", "d", "wk")
_WEEKS_AND_DAYS = re.compile(r"([0-9]{1,2})\s*(?:\+|w\s?)\s*([0-6])\s*d?", re.IGNORECASE)


def parts_with_facts(observation: Observation) -> list[Part]:
    """The observation itself and its components, those that have a code whose value is read.

    An age in a measurement is the age by that alone, as in DICOM's TID 5008, and not the examination's.
    """
    components = [part for part in observation.components if _has_code(part, _FACTS)]
    if _has_code(observation.part, LENGTHS):
        components = [part for part in components if not _has_code(part, AGES)]
    return [observation.part, *components] if _has_code(observation.part, _FACTS) else components


def facts_of(
    parts: Sequence[Part], exam: Exam, own_day: int | None, keys: Pseudonymizer, faults: list[Fault]
) -> list[Statement]:
    """At most one statement per fact: where one of several values cannot be taken, the others are in doubt too.

    Args:
        parts: ``parts_with_facts`` of an observation.
        own_day: of the observation itself, on the patient's calendar.
        faults: gets what could not be taken.

    Raises:
        FaultError: the codes of one part mean different facts.
    """
    found: dict[str, dict[float | str, Statement]] = {}
    doubtful = set()
    if (days := _weeks_and_days(parts)) is not None:
        parts = [part for part in parts if not {WEEKS_CODE, DAYS_CODE}.intersection(part.loinc)]
        found["ga_days"] = {days: Statement("ga_days", days, f"Observation {WEEKS_CODE}, {DAYS_CODE}")}
        check_age_day(own_day, exam.study_day)
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


def modified() -> FaultError:
    """What is raised for something with a modifier, whose meaning is not known."""
    return FaultError("modifier_unknown", "it has a modifier, which may turn its meaning round")


def _weeks_and_days(parts: Sequence[Part]) -> int | None:
    """The age that two parts give together, completed weeks and the days beyond them; None where they do not."""
    counts = [[_whole(part) for part in parts if part.loinc == [code]] for code in (WEEKS_CODE, DAYS_CODE)]
    (weeks, *more_weeks), (days, *more_days) = (found or [None] for found in counts)
    if more_weeks or more_days or weeks is None or days is None or not 0 <= days < 7:
        return None
    return gestational_age_days(7 * weeks + days, "d")


def _whole(part: Part) -> int | None:
    """The value, if it is a whole number in the unit of its code, and can be taken."""
    if part.is_modified or part.is_absent or part.values != 1:
        return None
    if part.quantity is None:
        return part.integer
    try:
        number, unit = _quantity(part, part.loinc[0])
    except FaultError:
        return None
    return int(number) if unit == AGE_UNITS[part.loinc[0]] and number.is_integer() else None


def _has_code(part: Part, codes: Collection[str]) -> bool:
    return any(code in codes for code in part.loinc)


def _fact(part: Part) -> tuple[str, str]:
    codes = [code for code in part.loinc if code in _FACTS]
    if len({_FACTS[code] for code in codes}) > 1:
        raise FaultError("code_unclear", "its codes mean different facts")
    return codes[0], _FACTS[codes[0]]


def _value(code: str, part: Part, exam: Exam, own_day: int | None, keys: Pseudonymizer) -> float | str | None:
    if part.is_modified:
        raise modified()
    if not part.values:
        return None
    if part.values > 1 or part.is_absent:
        raise _malformed()
    if code in LENGTHS:
        return millimetres(LENGTHS[code], *_quantity(part, code))
    if code in AGES:
        check_age_day(own_day, exam.study_day)
        return _age(part, code)
    if code in DATES:
        return _pregnancy_day(DATES[code], part, exam, keys)
    return _presentation(part)


def _quantity(part: Part, code: str) -> tuple[float, str]:
    """The value and its UCUM unit; one that gives none has that of its code."""
    quantity = part.quantity
    if quantity is None or quantity.value is None:
        raise _malformed()
    if quantity.has_comparator:
        raise FaultError("comparator", "its value is a bound, not a measurement")
    if quantity.code and quantity.system != UCUM:
        raise FaultError("unit_unknown", "its unit is not coded in UCUM")
    if quantity.code and quantity.unit in _UNITS and quantity.unit != quantity.code:
        raise FaultError("unit_unknown", "its unit and the unit's code differ")
    try:
        return float(quantity.value), quantity.code or quantity.unit or AGE_UNITS.get(code, "")
    except OverflowError:
        raise _malformed() from None


def _age(part: Part, code: str) -> int:
    if part.quantity is not None:
        return gestational_age_days(*_quantity(part, code))
    if part.integer is not None and code in AGE_UNITS:
        return gestational_age_days(part.integer, AGE_UNITS[code])
    found = _WEEKS_AND_DAYS.fullmatch(part.text)
    if not found:
        raise _malformed()
    return gestational_age_days(int(found[1]) * 7 + int(found[2]), "d")


def _pregnancy_day(fact: str, part: Part, exam: Exam, keys: Pseudonymizer) -> int:
    if part.date is None:
        raise FaultError("date_malformed", "a date of the pregnancy is no full date")
    day = keys.day(exam.calendar, part.date)
    check_pregnancy_day(fact, day, exam.study_day)
    return day


def _presentation(part: Part) -> str:
    codings = part.concept.codings if part.concept else ()
    found = {PRESENTATIONS[code] for system, code in codings if system == SNOMED and code in PRESENTATIONS}
    if len(found) != 1:
        raise FaultError("presentation_unknown", "its presentation has none of the codes that are known")
    return found.pop()


def _malformed() -> FaultError:
    return FaultError("value_malformed", "its value is not of the kind that belongs to its code")

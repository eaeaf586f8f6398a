"""Measurements, gestational ages and dates of the pregnancy in a structured report.

Of several values of one fact the one marked as selected is taken, else the mean that the report gives, else the only
one: TID 5008 row 3 derives the age from the value selected, else from the mean.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from typing import NamedTuple

from sono.captioning.facts.quantities import check_age_day, check_pregnancy_day, gestational_age_days, millimetres
from sono.captioning.facts.statements import Exam, Fault, FaultError, Statement
from sono.captioning.readers.codes import AGES, DATES, LENGTHS
from sono.manifests.pseudonyms import Pseudonymizer

from . import codes
from .content import Item
from .sections import EXAM_SECTIONS, SECTIONS, field_of, is_counted

_SELECTED, _MEAN, _SINGLE, _OTHER = range(4)  # ranks of values; a median or a maximum is none


class _Value(NamedTuple):
    """One value of a fact; None where it cannot be taken."""

    rank: int
    value: float | None
    field: str


def numbers_of(items: Sequence[Item], exam: Exam, keys: Pseudonymizer, faults: list[Fault]) -> list[Statement]:
    """One statement per fact whose value is a number.

    Args:
        faults: gets what could not be taken.
    """
    values: dict[str, list[_Value]] = {}
    for item in items:
        fact = _fact(item)
        if fact is None or not item.text:
            continue
        try:
            counted = is_counted(item, SECTIONS if fact in LENGTHS.values() else EXAM_SECTIONS)
        except FaultError as error:
            faults.append(error.fault)
            continue
        if counted:
            found = _Value(_rank(item), _value(fact, item, exam, keys, faults), field_of(item))
            values.setdefault(fact, []).append(found)
    return [statement for fact, found in values.items() for statement in _chosen(fact, found, faults)]


def _fact(item: Item) -> str | None:
    scheme, code = item.name.key
    if scheme != "LN":
        return None
    if item.kind == "NUM":
        return LENGTHS.get(code) or AGES.get(code)
    return DATES.get(code) if item.kind in ("DATE", "DATETIME") else None


def _rank(item: Item) -> int:
    if item.child(codes.SELECTION_STATUS).key in codes.SELECTED:
        return _SELECTED
    derivation = item.child(codes.DERIVATION)
    if derivation.key == codes.MEAN:
        return _MEAN
    return _SINGLE if not derivation.value or derivation.key in codes.MEASURED else _OTHER


def _value(fact: str, item: Item, exam: Exam, keys: Pseudonymizer, faults: list[Fault]) -> float | None:
    try:
        if fact in DATES.values():
            return _pregnancy_day(fact, item, exam, keys)
        return _length(fact, item) if fact in LENGTHS.values() else _age(item, exam, keys)
    except FaultError as error:
        faults.append(error.fault)
        return None


def _length(fact: str, item: Item) -> float:
    return millimetres(fact, _number(item), _unit(item))


def _age(item: Item, exam: Exam, keys: Pseudonymizer) -> float:
    number = _number(item)
    check_age_day(_day(item.observed, exam, keys) if item.observed else None, exam.study_day)
    return gestational_age_days(number, _unit(item))


def _pregnancy_day(fact: str, item: Item, exam: Exam, keys: Pseudonymizer) -> int:
    if item.date is None:
        raise FaultError("date_malformed", "a date of the pregnancy is none")
    day = _day(item.date, exam, keys)
    check_pregnancy_day(fact, day, exam.study_day)
    return day


def _number(item: Item) -> float:
    if item.number is None:
        raise FaultError("value_malformed", "a number is none, or marked as no measurement")
    return item.number


def _unit(item: Item) -> str:
    return item.unit.value if item.unit.scheme == "UCUM" else ""


def _day(date: datetime.date, exam: Exam, keys: Pseudonymizer) -> int:
    return keys.day(exam.calendar, date)


def _chosen(fact: str, values: Sequence[_Value], faults: list[Fault]) -> list[Statement]:
    rank = min(value.rank for value in values)
    best = [value for value in values if value.rank == rank]
    word = fact.removesuffix("_mm")
    if rank == _OTHER:
        faults.append(Fault("derivation_unknown", f"of {word} it gives only a median, a maximum or the like"))
    elif len({value.value for value in best}) > 1:
        faults.append(Fault("several_values", f"it gives several values of {word}, and none as the one that holds"))
    elif best[0].value is not None:
        return [Statement(fact, best[0].value, best[0].field)]
    return []

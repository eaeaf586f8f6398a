"""One examination as its records describe it, and what they say about its gestational age."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from sono.captioning.facts.quantities import GA_DAYS
from sono.captioning.facts.statements import SEVERAL_FETUSES
from sono.manifests.schemas import BIOMETRY

from .dating import PREGNANCY_DAYS, Dating, EarlyCrl, Evidence, date_examination

_AGES: Mapping[str, tuple[str, str]] = {
    "ga_days": ("explicit", "gestational age"),
    "ga_days_by_edd": ("edd", "gestational age by due date"),
    "ga_days_by_lmp": ("lmp", "gestational age by last menstrual period"),
    "ga_days_by_ultrasound": ("biometry", "gestational age by ultrasound"),
    "edd_day": ("edd", "due date"),
    "lmp_day": ("lmp", "last menstrual period"),
}
"""Facts that state an age or a day of the pregnancy: the source they belong to (``Dating.source``), and their name."""

_PREGNANCY_DAY_FACTS = ("edd_day", "lmp_day")
_LONGEST_PREGNANCY_DAYS = GA_DAYS[1]


@dataclass(frozen=True)
class RecordedFact:
    """What the records say about one fact; ``conflict``: they contradict each other."""

    number: float | None
    codes: Sequence[str]
    field: str
    place: str
    conflict: bool


@dataclass(frozen=True)
class Examination:
    """One examination: its facts by name, and those that hold for one of its planes only."""

    patient_key: str
    study_key: str
    day: int | None
    facts: Mapping[str, RecordedFact]
    planes: Mapping[str, Mapping[str, RecordedFact]]

    @property
    def has_several_fetuses(self) -> bool:
        """One of its records tells of several fetuses, or may; it is not known which one the images show."""
        return SEVERAL_FETUSES in self.facts

    def number(self, fact: str) -> float | None:
        """The fact's number; None if it is not recorded or the records contradict each other."""
        found = self.facts.get(fact)
        return None if found is None or found.conflict else found.number

    def days(self, fact: str) -> int | None:
        """``number``, rounded to days."""
        number = self.number(fact)
        return None if number is None else round(number)


def examinations(rows: Iterable[Mapping[str, Any]]) -> Iterator[Examination]:
    """The examinations of one patient from its rows of ``linkage.LINKED``, which are sorted by study."""
    for study_key, rows_of_study in groupby(rows, key=lambda row: row["study_key"]):
        by_plane = {row["plane"]: row for row in rows_of_study}
        first = next(iter(by_plane.values()))
        yield Examination(
            patient_key=first["patient_key"],
            study_key=study_key,
            day=first["study_day"],
            facts=_recorded_facts(by_plane.get(None)),
            planes={plane: _recorded_facts(row) for plane, row in by_plane.items() if plane is not None},
        )


def date_by_records(exam: Examination, exams: Sequence[Examination]) -> Dating | None:
    """The age by the examination's own record, and by what the patient's others say about the same pregnancy.

    Args:
        exams: all of the patient's, ``exam`` among them.

    Returns:
        None if nothing gives an age.
    """
    for fact, (source, name) in _AGES.items():
        if (found := exam.facts.get(fact)) is not None and found.conflict:
            return Dating(None, source, None, f"two records disagree about the {name}", found.field, False)
    days = {fact: _pregnancy_day(exam, fact, exams) for fact in _PREGNANCY_DAY_FACTS}
    if exam.number("ga_days") is None:
        for fact, day in days.items():
            if day.is_unclear:
                return Dating(None, "edd", None, f"other examinations give several {_AGES[fact][1]}", "", False)
    fields = {name: fact.field for name, fact in exam.facts.items()}
    fields |= {fact: day.field for fact, day in days.items() if day.day is not None}
    return date_examination(
        Evidence(
            ga_days=exam.days("ga_days"),
            ga_days_by_edd=exam.days("ga_days_by_edd"),
            ga_days_by_lmp=exam.days("ga_days_by_lmp"),
            ga_days_by_ultrasound=exam.days("ga_days_by_ultrasound"),
            study_day=exam.day,
            edd_day=days["edd_day"].day,
            lmp_day=days["lmp_day"].day,
            biometry={name: value for name in BIOMETRY if (value := exam.number(name)) is not None},
            early_crl=tuple(_early_crl(exam, exams)),
            fields=fields,
        )
    )


@dataclass(frozen=True)
class _PregnancyDay:
    """A due date or last menstrual period; ``is_unclear``: the patient's other examinations give several."""

    day: int | None = None
    field: str = ""
    is_unclear: bool = False


def _pregnancy_day(exam: Examination, fact: str, exams: Sequence[Examination]) -> _PregnancyDay:
    """The day by the examination's own record, else by those of other examinations in the same pregnancy."""
    own = exam.days(fact)
    if own is not None:
        return _PregnancyDay(own, exam.facts[fact].field)
    if exam.day is None:
        return _PregnancyDay()
    fields: dict[int, str] = {}
    conflict = False
    for other in exams:
        recorded = other.facts.get(fact)
        if other is exam or recorded is None or recorded.number is None:
            continue
        day = round(recorded.number)
        if _is_in_pregnancy(exam.day, fact, day):
            fields[day] = recorded.field
            conflict = conflict or recorded.conflict
    if len(fields) != 1 or conflict:
        return _PregnancyDay(is_unclear=bool(fields))
    ((day, field),) = fields.items()
    return _PregnancyDay(day, f"{field} of another examination")


def _is_in_pregnancy(exam_day: int, fact: str, day: int) -> bool:
    """Whether the examination was in the pregnancy with this due date or last menstrual period."""
    age = exam_day - day if fact == "lmp_day" else PREGNANCY_DAYS - (day - exam_day)
    return GA_DAYS[0] <= age <= GA_DAYS[1]


def _early_crl(exam: Examination, exams: Sequence[Examination]) -> Iterator[EarlyCrl]:
    """The crown-rump lengths of this and earlier examinations that may be of the same pregnancy."""
    for other in exams:
        crl_mm = other.number("crl_mm")
        if crl_mm is None:
            continue
        field = other.facts["crl_mm"].field
        if other is exam:
            yield EarlyCrl(0, crl_mm, field)
        elif other.day is not None and exam.day is not None and 0 < exam.day - other.day < _LONGEST_PREGNANCY_DAYS:
            yield EarlyCrl(exam.day - other.day, crl_mm, f"{field} of an earlier examination")


def _recorded_facts(row: Mapping[str, Any] | None) -> dict[str, RecordedFact]:
    if row is None:
        return {}
    return {
        fact["fact"]: RecordedFact(fact["number"], fact["codes"], fact["field"], fact["place"], fact["conflict"])
        for fact in row["facts"]
    }

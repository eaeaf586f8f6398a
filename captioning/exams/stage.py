"""The records stage: from settled statements to the ``records`` table, with every examination dated."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import pyarrow as pa

from sono.captioning.facts.quantities import GA_DAYS
from sono.manifests.schemas import BIOMETRY, RECORDS, TableSpec
from sono.manifests.stages import Exclusion, StageOutput

from .dating import DATING, Dating, EarlyCrl, Evidence, date_examination

STATED_AGES = ("ga_days", "ga_days_by_edd", "ga_days_by_lmp", "ga_days_by_ultrasound")
PREGNANCY_DAYS = ("edd_day", "lmp_day")
SEVERAL_VALUES = ("structures_seen", "findings", "identity")

_COLUMNS = (*BIOMETRY, "laterality", "presentation", *SEVERAL_VALUES)
_PREGNANCY_DAYS_MOST = GA_DAYS[1]


@dataclass(frozen=True)
class RecordsStage:
    """Dates every examination (``settle.SETTLED``) and writes it as a row, and one for each of its planes."""

    name: str = "records"
    version: int = 4

    @property
    def output(self) -> TableSpec:
        return RECORDS

    def config(self) -> Mapping[str, object]:
        return {}

    def __call__(self, part: pa.Table) -> StageOutput:
        rows = part.to_pylist()
        exclusions = [
            Exclusion(row["source_key"], row["reason"], row["message"]) for row in rows if row["reason"] is not None
        ]
        records: list[dict[str, object]] = []
        sound = (row for row in rows if row["reason"] is None)
        for _, mine in groupby(sound, key=lambda row: row["patient_key"]):
            exams = list(_exams(mine))
            for exam in exams:
                dating = exam.date(exams)
                records.extend(exam.records(dating))
                exclusions.extend(exam.exclusions(dating))
        return StageOutput(RECORDS.from_rows(records), exclusions)


@dataclass(frozen=True)
class _Settled:
    """What a record says of one fact."""

    number: float | None
    codes: Sequence[str]
    field: str
    place: str
    conflict: bool


@dataclass(frozen=True)
class _SettledExam:
    """One examination: its facts by name, and those of its planes."""

    patient_key: str
    study_key: str
    day: int | None
    facts: Mapping[str, _Settled]
    planes: Mapping[str, Mapping[str, _Settled]]

    def number(self, fact: str) -> float | None:
        found = self.facts.get(fact)
        return None if found is None or found.conflict else found.number

    def whole(self, fact: str) -> int | None:
        number = self.number(fact)
        return None if number is None else round(number)

    def date(self, exams: Sequence[_SettledExam]) -> Dating | None:
        """From this examination's record, and from what the patient's others say of the same pregnancy."""
        for fact in (*STATED_AGES, *PREGNANCY_DAYS):
            if (found := self.facts.get(fact)) is not None and found.conflict:
                return Dating(
                    None, _SOURCES[fact], None, f"two records disagree about the {_WORDS[fact]}", found.field, False
                )
        days = {fact: self._pregnancy_day(fact, exams) for fact in PREGNANCY_DAYS}
        unclear = [fact for fact, (day, _, clear) in days.items() if not clear and self.number("ga_days") is None]
        if unclear:
            return Dating(None, "edd", None, f"other examinations give several {_WORDS[unclear[0]]}", "", False)
        fields = {name: settled.field for name, settled in self.facts.items()}
        fields |= {fact: where for fact, (day, where, _) in days.items() if day is not None}
        return date_examination(
            Evidence(
                ga_days=self.whole("ga_days"),
                ga_days_by_edd=self.whole("ga_days_by_edd"),
                ga_days_by_lmp=self.whole("ga_days_by_lmp"),
                ga_days_by_ultrasound=self.whole("ga_days_by_ultrasound"),
                study_day=self.day,
                edd_day=days["edd_day"][0],
                lmp_day=days["lmp_day"][0],
                biometry={name: value for name in BIOMETRY if (value := self.number(name)) is not None},
                early_crl=tuple(self._early_crl(exams)),
                fields=fields,
            )
        )

    def _pregnancy_day(self, fact: str, exams: Sequence[_SettledExam]) -> tuple[int | None, str, bool]:
        """The day, its field, and whether it is clear; an examination that names none takes it from its pregnancy's."""
        own = self.whole(fact)
        if own is not None:
            return own, self.facts[fact].field, True
        if self.day is None:
            return None, "", True
        others: dict[int, str] = {}
        clear = True
        for other in exams:
            said = other.facts.get(fact)
            if other is self or said is None or said.number is None:
                continue
            day = round(said.number)
            if self._of_this_pregnancy(fact, day):
                others[day] = said.field
                clear = clear and not said.conflict
        if len(others) != 1 or not clear:
            return None, "", not others
        day, where = next(iter(others.items()))
        return day, f"{where} of another examination", True

    def _of_this_pregnancy(self, fact: str, day: int) -> bool:
        assert self.day is not None
        age = self.day - day if fact == "lmp_day" else 280 - (day - self.day)
        return GA_DAYS[0] <= age <= GA_DAYS[1]

    def _early_crl(self, exams: Sequence[_SettledExam]) -> Iterator[EarlyCrl]:
        for exam in exams:
            crl_mm = exam.number("crl_mm")
            if crl_mm is None:
                continue
            where = exam.facts["crl_mm"].field
            if exam is self:
                yield EarlyCrl(0, crl_mm, where)
            elif exam.day is not None and self.day is not None and 0 < self.day - exam.day < _PREGNANCY_DAYS_MOST:
                yield EarlyCrl(self.day - exam.day, crl_mm, f"{where} of an earlier examination")

    def records(self, dating: Dating | None) -> Iterator[dict[str, object]]:
        """The examination's row, then one for each plane that has facts of its own."""
        yield self._row(None, self.facts, dating)
        for plane, facts in self.planes.items():
            yield self._row(plane, facts, None)

    def _row(self, plane: str | None, facts: Mapping[str, _Settled], dating: Dating | None) -> dict[str, object]:
        row: dict[str, object] = {"study_key": self.study_key, "patient_key": self.patient_key, "plane": plane}
        provenance: dict[str, str] = {}
        for name, settled in facts.items():
            if settled.conflict or name not in _COLUMNS:
                continue
            codes = settled.codes
            row[name] = settled.number if name in BIOMETRY else codes if name in SEVERAL_VALUES else codes[0]
            if name != "identity":
                provenance[name] = settled.field
        if dating is not None:
            row |= {
                "ga_days": dating.ga_days,
                "ga_source": dating.source,
                "ga_formula": dating.formula,
                "ga_conflict": dating.conflict,
            }
            if dating.ga_days is not None:
                provenance["ga_days"] = dating.field
        row["provenance"] = _as_json(tuple(sorted(provenance.items())))
        return row

    def exclusions(self, dating: Dating | None) -> Iterator[Exclusion]:
        """What of the examination's facts is not taken."""
        for facts in (self.facts, *self.planes.values()):
            for name, settled in facts.items():
                if settled.conflict:
                    message = f"{settled.place} and another record of the examination give different values of {name}"
                    yield Exclusion(self.study_key, "conflict", message)
        if dating is None and any(self.number(name) is not None for name in DATING):
            message = "its measurements lie outside the ranges of the formulas that date by them, and nothing else does"
            yield Exclusion(self.study_key, "measurement_outside_range", message)
        elif dating is None:
            yield Exclusion(self.study_key, "no_gestational_age", "nothing in the records gives its gestational age")
        elif dating.conflict is not None:
            yield Exclusion(self.study_key, "gestational_age_conflict", dating.conflict)


@functools.lru_cache(maxsize=4096)
def _as_json(provenance: tuple[tuple[str, str], ...]) -> str:
    return json.dumps(dict(provenance))


_SOURCES = {
    "ga_days": "explicit",
    "ga_days_by_edd": "edd",
    "ga_days_by_lmp": "lmp",
    "ga_days_by_ultrasound": "biometry",
    "edd_day": "edd",
    "lmp_day": "lmp",
}
_WORDS = {
    "ga_days": "gestational age",
    "ga_days_by_edd": "gestational age by due date",
    "ga_days_by_lmp": "gestational age by last menstrual period",
    "ga_days_by_ultrasound": "gestational age by ultrasound",
    "edd_day": "due date",
    "lmp_day": "last menstrual period",
}


def _exams(rows: Iterable[Mapping[str, Any]]) -> Iterator[_SettledExam]:
    for study_key, mine in groupby(rows, key=lambda row: row["study_key"]):
        by_plane = {row["plane"]: row for row in mine}
        first = next(iter(by_plane.values()))
        yield _SettledExam(
            patient_key=first["patient_key"],
            study_key=study_key,
            day=first["study_day"],
            facts=_facts(by_plane.get(None)),
            planes={plane: _facts(row) for plane, row in by_plane.items() if plane is not None},
        )


def _facts(row: Mapping[str, Any] | None) -> dict[str, _Settled]:
    if row is None:
        return {}
    return {
        fact["fact"]: _Settled(fact["number"], fact["codes"], fact["field"], fact["place"], fact["conflict"])
        for fact in row["facts"]
    }

"""The records stage: from linked statements to the ``records`` table, with every examination dated."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby

import pyarrow as pa

from sono.captioning.facts.statements import SEVERAL_FETUSES
from sono.manifests.schemas import BIOMETRY, RECORDS, TableSpec
from sono.manifests.stages import Exclusion, StageOutput

from .dating import DATING, Dating
from .examination import Examination, RecordedFact, date_by_records, examinations

_SEVERAL_CODES = ("structures_seen", "findings", "identity")
_COLUMNS = (*BIOMETRY, "laterality", "presentation", *_SEVERAL_CODES)


@dataclass(frozen=True)
class RecordsStage:
    """Dates every examination of a part (``linkage.LINKED``); writes one row for it, and one for each of its planes."""

    name: str = "records"
    version: int = 6
    rows_belong_together: bool = True  # an examination is dated by all of its patient's

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
        linked = (row for row in rows if row["reason"] is None)
        for _, rows_of_patient in groupby(linked, key=lambda row: row["patient_key"]):
            exams = list(examinations(rows_of_patient))
            known = [exam for exam in exams if not exam.has_several_fetuses]
            for exam in exams:
                if exam.has_several_fetuses:
                    records.append(_row(exam, None, _identity_alone(exam), None))
                    exclusions.append(_several_fetuses(exam))
                    continue
                dating = date_by_records(exam, known)
                records.extend(_rows(exam, dating))
                exclusions.extend(_exclusions(exam, dating))
        return StageOutput(RECORDS.from_rows(records), exclusions)


def _rows(exam: Examination, dating: Dating | None) -> Iterator[dict[str, object]]:
    """The examination's row, then one for each plane that has facts of its own."""
    yield _row(exam, None, exam.facts, dating)
    for plane, facts in exam.planes.items():
        yield _row(exam, plane, facts, None)


def _row(
    exam: Examination, plane: str | None, facts: Mapping[str, RecordedFact], dating: Dating | None
) -> dict[str, object]:
    row: dict[str, object] = {"study_key": exam.study_key, "patient_key": exam.patient_key, "plane": plane}
    fields: dict[str, str] = {}
    for name, fact in facts.items():
        if fact.conflict or name not in _COLUMNS:
            continue
        row[name] = fact.number if name in BIOMETRY else fact.codes if name in _SEVERAL_CODES else fact.codes[0]
        if name != "identity":
            fields[name] = fact.field
    if dating is not None:
        row |= {
            "ga_days": dating.ga_days,
            "ga_source": dating.source,
            "ga_formula": dating.formula,
            "ga_conflict": dating.conflict,
        }
        if dating.ga_days is not None:
            fields["ga_days"] = dating.field
    row["provenance"] = _as_json(tuple(sorted(fields.items())))
    return row


def _exclusions(exam: Examination, dating: Dating | None) -> Iterator[Exclusion]:
    """The examination's facts that are not used, and why."""
    for facts in (exam.facts, *exam.planes.values()):
        for name, fact in facts.items():
            if fact.conflict:
                message = f"{fact.place} and another record of the examination give different values of {name}"
                yield Exclusion(exam.study_key, "conflict", message)
    if dating is None and any(_is_measured(exam, name) for name in DATING):
        message = "its measurements lie outside the ranges of the formulas that date by them, and nothing else does"
        yield Exclusion(exam.study_key, "measurement_outside_range", message)
    elif dating is None:
        yield Exclusion(exam.study_key, "no_gestational_age", "nothing in the records gives its gestational age")
    elif dating.conflict is not None:
        yield Exclusion(exam.study_key, "gestational_age_conflict", dating.conflict)


def _identity_alone(exam: Examination) -> Mapping[str, RecordedFact]:
    return {name: fact for name, fact in exam.facts.items() if name == "identity"}


def _several_fetuses(exam: Examination) -> Exclusion:
    place = exam.facts[SEVERAL_FETUSES].place
    message = f"{place} tells of several fetuses, and images do not say which they show"
    return Exclusion(exam.study_key, SEVERAL_FETUSES, message)


def _is_measured(exam: Examination, name: str) -> bool:
    fact = exam.facts.get(name)
    return fact is not None and not fact.conflict and fact.number is not None


@functools.lru_cache(maxsize=4096)
def _as_json(fields: tuple[tuple[str, str], ...]) -> str:
    return json.dumps(dict(fields))

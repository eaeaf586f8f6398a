"""Clinical records from tables: one row per examination, or per plane of an examination.

Cells hold identifiers and may hold names by mistake, so no cell's content leaves this module except as a pseudonym, a
number, a day on the patient's own calendar, a vocabulary id or a code. Faults name columns, lines and reasons.
"""

from __future__ import annotations

import datetime
import functools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

from sono.captioning.facts.quantities import gestational_age_days, millimetres
from sono.captioning.facts.statements import (
    LATERALITIES,
    PRESENTATIONS,
    Entry,
    Exam,
    Fault,
    FaultError,
    Reading,
    Statement,
    finding,
    identity_statements,
)
from sono.manifests.pseudonyms import PatientKeys
from sono.manifests.schemas import BIOMETRY

from .mapping import AGES, DATES, NAME, TEXT, Column
from .rows import Row

_CellReader = Callable[[Column, str, Exam, str | None], list[Statement]]

_NUMBER = re.compile(r"(\d{1,7}(?:\.\d{1,20})?)\s*([a-z]{0,2})", re.IGNORECASE)
_WEEKS_AND_DAYS = re.compile(r"(\d{1,2})\s*(?:\+|w\s?)\s*([0-6])\s*d?", re.IGNORECASE)
_LATERALITY_WORDS = {
    "right": "right",
    "left": "left",
    "bilateral": "bilateral",
    "both": "bilateral",
    "r": "right",
    "l": "left",
}
_PRESENTATION_WORDS = {"vertex": "cephalic", "head": "cephalic", **{word: word for word in PRESENTATIONS}}
_MALFORMED = Fault("row_malformed", "its cells do not fit the table's columns")
_CELLS_REMEMBERED = 10_000


class _Record(NamedTuple):
    """A row whose cells are stripped, and whom it is about."""

    cells: Sequence[str]
    exam: Exam
    plane: str | None
    names: Sequence[str]


@dataclass(frozen=True)
class TableReader:
    """Reads the rows of one table whose columns are known."""

    columns: Sequence[Column]
    reading: Reading = field(repr=False)

    def read(self, rows: Iterable[Row]) -> Iterator[Entry]:
        """Entries, one per row."""
        before: tuple[Exam, Sequence[str]] | None = None
        for row in rows:
            if row.cells is None:
                yield Entry(row.place, None, faults=(_MALFORMED,))
                continue
            faults: list[Fault] = []
            try:
                record = self._record(row.cells, faults)
            except FaultError as error:
                yield Entry(row.place, None, faults=(error.fault,))
                continue
            statements = self._facts(record, faults)
            # Neighbouring rows are often about one examination: the same names need not be repeated.
            if before != (record.exam, record.names):
                statements += identity_statements(self.reading.keys, record.names, "identifying columns")
            before = record.exam, record.names
            yield Entry(row.place, record.exam, statements, faults)

    def _record(self, cells: Sequence[str], faults: list[Fault]) -> _Record:
        values = [cell.strip() for cell in cells]
        names = [values[at] for at in self._named if values[at]]
        return _Record(values, self._exam(values, faults), self._plane(values), names)

    def _facts(self, record: _Record, faults: list[Fault]) -> list[Statement]:
        statements: list[Statement] = []
        texts: list[tuple[Column, str]] = []
        for column, value in zip(self.columns, record.cells, strict=True):
            if value and column.holds in self._readers:
                try:
                    statements += self._readers[column.holds](column, value, record.exam, record.plane)
                except FaultError as error:
                    faults.append(error.fault)
            elif value and column.holds == TEXT:
                texts.append((column, value))
        if self.reading.prose is not None:
            for column, text in texts:
                found, unclear = self.reading.prose(text, _field(column), record.names)
                statements += found
                faults += unclear
        return statements

    def _cell(self, holds: str, values: Sequence[str]) -> str:
        at = self._at.get(holds)
        return "" if at is None else values[at]

    @cached_property
    def _at(self) -> dict[str, int]:
        return {column.holds: index for index, column in enumerate(self.columns)}

    @cached_property
    def _named(self) -> Sequence[int]:
        named = ("patient_id", "study_id", "accession", NAME)
        return [at for at, column in enumerate(self.columns) if column.holds in named]

    def _exam(self, values: Sequence[str], faults: list[Fault]) -> Exam:
        keys = self.reading.keys
        patient_id = self._cell("patient_id", values)
        if not patient_id:
            raise FaultError("patient_missing", "it names no patient")
        patient = self._patient_keys(patient_id, self._cell("issuer", values), self._cell("center", values))
        study_id, accession, day = self._cell("study_id", values), self._cell("accession", values), None
        unknown = False
        if text := self._cell("exam_date", values):
            try:
                day = keys.day(patient.number, _past(_date(self.columns[self._at["exam_date"]], text)))
            except FaultError as error:
                if not (study_id or accession):
                    raise  # without it nothing tells which examination the row is about
                faults.append(error.fault)
                # A day that is not understood is not one that was never given: no other rule may take its place.
                unknown = not study_id
        return Exam(
            patient,
            self._study_key(study_id) if study_id else None,
            keys.accession(accession) if accession else None,
            day,
            unknown,
        )

    @cached_property
    def _patient_keys(self) -> Callable[[str, str, str], PatientKeys]:
        keys = self.reading.keys

        def patient_keys(patient_id: str, issuer: str, center: str) -> PatientKeys:
            return keys.patient_keys(patient_id, issuer=issuer, center=center)

        return functools.lru_cache(maxsize=64)(patient_keys)  # neighbouring rows are often about one

    @cached_property
    def _study_key(self) -> Callable[[str], str]:
        return functools.lru_cache(maxsize=64)(self.reading.keys.study)

    @cached_property
    def _find_plane(self) -> Callable[[str], str | None]:
        return functools.lru_cache(maxsize=1024)(self.reading.vocabulary.find_plane)

    def _plane(self, values: Sequence[str]) -> str | None:
        text = self._cell("plane", values)
        if not text:
            return None
        column = self.columns[self._at["plane"]]
        plane = self._find_plane(column.codes.get(text, text))
        if plane is None:
            raise FaultError("plane_unknown", "it names a plane that neither the vocabulary nor the mapping has")
        return plane

    @cached_property
    def _readers(self) -> Mapping[str, _CellReader]:
        return {
            **dict.fromkeys(AGES, _age),
            **dict.fromkeys(DATES, self._pregnancy_date),
            **dict.fromkeys(BIOMETRY, _length),
            "laterality": _laterality,
            "presentation": _presentation,
            "structures_seen": self._structures,
            "findings": _findings,
        }

    def _pregnancy_date(self, column: Column, value: str, exam: Exam, plane: str | None) -> list[Statement]:
        day = self.reading.keys.day(exam.calendar, _date(column, value))
        if exam.study_day is not None and not -45 * 7 < day - exam.study_day < 45 * 7:
            raise FaultError("date_impossible", f"its {column.holds} lies too far from the examination")
        if column.holds == "lmp" and exam.study_day is not None and day > exam.study_day:
            raise FaultError("date_impossible", "its lmp lies behind the examination")
        return [Statement(DATES[column.holds], day, _field(column))]

    def _structures(self, column: Column, value: str, exam: Exam, plane: str | None) -> list[Statement]:
        found = self._seen.get(value)
        if found is None:
            vocabulary = self.reading.vocabulary
            ids = {vocabulary.find_structure(column.codes.get(name, name)) for name in _listed(value)}
            if None in ids:
                raise FaultError("structure_unknown", "it names a structure that the vocabulary does not have")
            found = [structure for structure in vocabulary.structures if structure in ids]
            if len(self._seen) < _CELLS_REMEMBERED:
                self._seen[value] = found
        return [Statement("structures_seen", structure, _field(column), plane) for structure in found]

    @cached_property
    def _seen(self) -> dict[str, list[str]]:
        """By cell: the same cells come again and again."""
        return {}


def _field(column: Column) -> str:
    return f"column {column.name}"


def _age(column: Column, value: str, exam: Exam, plane: str | None) -> list[Statement]:
    """Days, decimal weeks (21.5), or weeks and days (21+3, 21w3d)."""
    fact, unit = AGES[column.holds]
    both = _WEEKS_AND_DAYS.fullmatch(value)
    if both:
        days = gestational_age_days(int(both[1]) * 7 + int(both[2]), "d")
    else:
        number, written = _number(column, value)
        days = gestational_age_days(number, written or column.unit or unit)
        if (written or column.unit or unit) == "d" and not number.is_integer():
            raise FaultError("number_impossible", f"its {column.holds} is no whole number")
    return [Statement(fact, days, _field(column))]


def _length(column: Column, value: str, exam: Exam, plane: str | None) -> list[Statement]:
    number, written = _number(column, value)
    return [Statement(column.holds, millimetres(column.holds, number, written or column.unit or "mm"), _field(column))]


def _number(column: Column, value: str) -> tuple[float, str]:
    """The number, and the unit that follows it in the cell."""
    found = _NUMBER.fullmatch(value if column.decimal == "." else value.replace(".", " ").replace(column.decimal, "."))
    if not found:
        raise FaultError("number_impossible", f"its {column.holds} is no number")
    return float(found[1]), found[2].lower()


def _date(column: Column, value: str) -> datetime.date:
    try:
        if column.date_format is None:
            return datetime.date.fromisoformat(value[:10])
        return datetime.datetime.strptime(value, column.date_format).date()
    except ValueError:
        expected = column.date_format or "2024-05-31"
        raise FaultError("date_malformed", f"its {column.holds} is not written like {expected}") from None


def _past(date: datetime.date) -> datetime.date:
    if date > datetime.date.today() + datetime.timedelta(days=1):  # a day for clocks in other time zones
        raise FaultError("date_impossible", "its exam_date lies in the future")
    return date


def _laterality(column: Column, value: str, exam: Exam, plane: str | None) -> list[Statement]:
    word = _LATERALITY_WORDS.get(column.codes.get(value, value).lower())
    if word not in LATERALITIES:
        raise FaultError("laterality_unknown", f"its laterality is none of {', '.join(LATERALITIES)}")
    return [Statement("laterality", word, _field(column), plane)]


def _presentation(column: Column, value: str, exam: Exam, plane: str | None) -> list[Statement]:
    word = _PRESENTATION_WORDS.get(column.codes.get(value, value).lower())
    if word is None:
        raise FaultError("presentation_unknown", f"its presentation is none of {', '.join(PRESENTATIONS)}")
    return [Statement("presentation", word, _field(column))]


def _findings(column: Column, value: str, exam: Exam, plane: str | None) -> list[Statement]:
    return [
        Statement("findings", code, _field(column))
        for code in sorted({finding(column.codes.get(item, item)) for item in _listed(value)})
    ]


def _listed(value: str) -> list[str]:
    return [item.strip() for item in value.split(";") if item.strip()]

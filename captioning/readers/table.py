"""Clinical records from tables: CSV, JSON lines and Parquet, one row an examination, or one plane of an examination.

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
from sono.manifests.pseudonyms import Pseudonymizer
from sono.manifests.schemas import BIOMETRY

from .mapping import AGES, DATES, NAME, TEXT, Column

_CellReader = Callable[[Column, str, Exam, str | None], list[Statement]]

_NUMBER = re.compile(r"(\d{1,7}(?:\.\d{1,20})?)\s*([a-z]{0,2})", re.IGNORECASE)
_WEEKS_AND_DAYS = re.compile(r"(\d{1,2})\s*(?:\+|w\s?)\s*([0-6])\s*d?", re.IGNORECASE)
_SAME_WORDS = {
    "right": "right",
    "left": "left",
    "bilateral": "bilateral",
    "both": "bilateral",
    "r": "right",
    "l": "left",
}
_PRESENTATION_WORDS = {"vertex": "cephalic", "head": "cephalic", **{word: word for word in PRESENTATIONS}}
_MALFORMED = Fault("row_malformed", "its cells do not fit the table's columns")


@dataclass(frozen=True)
class TableReader:
    """Reads the rows of one table whose columns are known."""

    columns: Sequence[Column]
    reading: Reading = field(repr=False)

    def read(self, rows: Iterable[tuple[str, Sequence[str] | None]]) -> Iterator[Entry]:
        """Entries, one a row.

        Args:
            rows: the place of a row, and its cells as text, as many as columns; None where their number is wrong.
        """
        said: tuple[Exam, Sequence[str]] | None = None
        for place, cells in rows:
            entry, names = self._entry(place, cells, said)
            if entry.exam is not None:
                said = entry.exam, names
            yield entry

    def _entry(
        self, place: str, cells: Sequence[str] | None, said: tuple[Exam, Sequence[str]] | None
    ) -> tuple[Entry, Sequence[str]]:
        """The entry, and the names in the row; ``said`` are those of the row before."""
        if cells is None:
            return Entry(place, None, faults=(_MALFORMED,)), ()
        values = [cell.strip() for cell in cells]
        faults: list[Fault] = []
        try:
            exam = self._exam(values, faults)
            plane = self._plane(values)
        except FaultError as error:
            return Entry(place, None, faults=(error.fault,)), ()
        statements: list[Statement] = []
        for column, value in zip(self.columns, values, strict=True):
            if value and column.holds in self._readers:
                try:
                    statements.extend(self._readers[column.holds](column, value, exam, plane))
                except FaultError as error:
                    faults.append(error.fault)
        statements.extend(self._prose(values, faults))
        # Neighbouring rows are often about one examination: the same names need not be said again.
        names = self._names(values)
        if said != (exam, names):
            statements.extend(identity_statements(self.reading.keys, names, "identifying columns"))
        return Entry(place, exam, statements, faults), names

    def _cell(self, holds: str, values: Sequence[str]) -> str:
        at = self._at.get(holds)
        return "" if at is None else values[at]

    @cached_property
    def _at(self) -> dict[str, int]:
        return {column.holds: index for index, column in enumerate(self.columns)}

    def _exam(self, values: Sequence[str], faults: list[Fault]) -> Exam:
        keys = self.reading.keys
        patient_id = self._cell("patient_id", values)
        if not patient_id:
            raise FaultError("patient_missing", "it names no patient")
        patient_key = self._patient_key(patient_id)
        study_id, accession, day = self._cell("study_id", values), self._cell("accession", values), None
        if text := self._cell("exam_date", values):
            try:
                day = keys.day(patient_key, _past(_date(self.columns[self._at["exam_date"]], text)))
            except FaultError as error:
                if not (study_id or accession):
                    raise  # without it nothing tells which examination the row is about
                faults.append(error.fault)
        return Exam(
            patient_key,
            self._study_key(study_id) if study_id else None,
            keys.accession(accession) if accession else None,
            day,
        )

    @cached_property
    def _patient_key(self) -> Callable[[str], str]:
        return functools.lru_cache(maxsize=64)(self.reading.keys.patient)  # neighbouring rows are often about one

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

    def _names(self, values: Sequence[str]) -> list[str]:
        return [values[at] for at in self._named if values[at]]

    @cached_property
    def _named(self) -> Sequence[int]:
        named = ("patient_id", "study_id", "accession", NAME)
        return [at for at, column in enumerate(self.columns) if column.holds in named]

    def _prose(self, values: Sequence[str], faults: list[Fault]) -> list[Statement]:
        statements: list[Statement] = []
        if self.reading.prose is not None:
            for column, value in zip(self.columns, values, strict=True):
                if value and column.holds == TEXT:
                    found, faulty = self.reading.prose(value, _field(column), self._names(values))
                    statements.extend(found)
                    faults.extend(faulty)
        return statements

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
        keys: Pseudonymizer = self.reading.keys
        day = keys.day(exam.patient_key, _date(column, value))
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
            if len(self._seen) < 10_000:
                self._seen[value] = found
        return [Statement("structures_seen", structure, _field(column), plane) for structure in found]

    @cached_property
    def _seen(self) -> dict[str, list[str]]:
        """The same cells come again and again."""
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
    """The number, and the unit that stands behind it in the cell."""
    found = _NUMBER.fullmatch(value)
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
    word = _SAME_WORDS.get(column.codes.get(value, value).lower())
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

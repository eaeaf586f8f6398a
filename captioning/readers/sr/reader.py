"""Clinical records as DICOM structured reports: TID 5000 "OB-GYN Ultrasound Procedure Report" (PS3.16) and others.

The title does not matter, because the codes of fetal measurements say themselves what they are. Where an item stands
does: a gestational age in a Biometry Group (TID 5008) is the age by that measurement alone, and a finding under History
is of another day. So items count only in sections that are named here, and not with a modifier that is not known.

CompletionFlag PARTIAL is no reason to refuse a report: it says how much is in it of what might be (PS3.3 C.17.2). One
whose PreliminaryFlag is PRELIMINARY is refused. That another report replaces this one cannot be seen here; where the
two differ, they contradict each other as any two records do.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from sono.captioning.facts.quantities import gestational_age_days, millimetres
from sono.captioning.facts.statements import (
    Entry,
    Exam,
    Fault,
    FaultError,
    Reading,
    Statement,
    finding,
    identity_statements,
)
from sono.captioning.readers.fhir.reader import AGES, DATES, FETUS_ID, FETUSES, IMAGE_VIEW, LENGTHS, SECOND_FETUS, SIDES
from sono.manifests.vocabulary import normalise

from .content import SUBJECT_IDS, TOO_DEEP, Document, Item, read

if TYPE_CHECKING:
    pass

"""What is read, whatever its title."""

# Sections by what may be taken from them; DCM codes. The two of TID 1500 are there for writers that use it.
_EXAM_SECTIONS = frozenset({"121111", "121118", "125008", "125015"})  # Summary, Patient, Fetus Summary, Characteristics
_MEASUREMENT_SECTIONS = frozenset({"125002", "125003", "125004", "125005", "125007", "125009", "125016", "126010"})
_FINDING_SECTIONS = frozenset({"121070", "121072", "121076", "121111", "125008", "125015"})  # not what is the mother's
_ADDENDUM = "121078"
_EARLIER = frozenset({"121060", "121068"})  # History, Previous Findings
_SECTIONS = _EXAM_SECTIONS | _MEASUREMENT_SECTIONS | _FINDING_SECTIONS | {_ADDENDUM}
_PROSE = frozenset(
    {"121071", "121073", "121077", "121106", "121111"}
)  # Finding, Impression, Conclusion, Comment, Summary

_FINDING, _DERIVATION, _SELECTION_STATUS = ("DCM", "121071"), ("DCM", "121401"), ("DCM", "121404")
_LATERALITY = frozenset({("SCT", "272741003"), ("DCM", "111027")})
_MODIFIERS = _LATERALITY | {
    _DERIVATION,
    ("SCT", "363698007"),
    ("SCT", "370129005"),
    ("DCM", "121049"),
    ("DCM", "121046"),
}
"""What may qualify a section or an item: Derivation, Finding Site, Measurement Method, and the language's."""

_CHOSEN = frozenset({"121410", "121411", "121412"})  # CID 224 Selection Method
_MEAN = ("SCT", "373098007")
_MEASURED = frozenset(
    {"258104002", "258090004", "414135002", "258083009"}
)  # CID 3627 Measured, Calculated, Estimated...
_SELECTED_VALUE, _MEAN_VALUE, _SINGLE_VALUE, _OTHER_VALUE = range(4)
"""Ranks among the values of one kind: TID 5008 row 3 derives the age from the one selected, else from the mean."""

_FETUS_IDS = frozenset({("LN", FETUS_ID), ("DCM", "121037")})
_SUBJECT_CLASS, _FETUS = ("DCM", "121024"), ("DCM", "121026")
_SEEN = frozenset({"structure seen", "structures seen"})

# Of every scheme, what its codes look like: a name in the place of a code goes no further.
_FINDINGS: Mapping[str, tuple[str, re.Pattern[str]]] = {
    "SCT": ("SCT", re.compile(r"()([0-9]{6,18})")),
    "LN": ("LN", re.compile(r"()([0-9]{1,7}-[0-9])")),
    "DCM": ("DCM", re.compile(r"()([0-9]{5,6})")),
    "HP": ("HP", re.compile(r"(HP[:_])?([0-9]{7})")),
    "HPO": ("HP", re.compile(r"(HP[:_])?([0-9]{7})")),
    "I10": ("ICD10", re.compile(r"()([A-Z][0-9][0-9A-Z](?:\.[0-9A-Z]{1,4})?)")),
    "I10C": ("ICD10", re.compile(r"()([A-Z][0-9][0-9A-Z](?:\.[0-9A-Z]{1,4})?)")),
    "I11": ("ICD11", re.compile(r"()([1-9A-HJ-NP-Z][A-HJ-NP-Z][0-9][0-9A-HJ-NP-Z](?:\.[0-9A-HJ-NP-Z]{1,2})?)")),
}

_NUMBER = re.compile(r"[+-]?[0-9]{1,9}(?:\.[0-9]*)?(?:[eE][+-]?[0-9]{1,2})?")
_WEEKS_45, _WEEKS_42, _WEEKS_5 = 45 * 7, 42 * 7, 5 * 7

_PATIENT_MISSING = Fault("patient_missing", "it names no patient")
_PRELIMINARY = Fault("not_final", "it is marked as preliminary")
_SEVERAL_FETUSES = Fault("several_fetuses", "more than one fetus was examined, and images do not say which they show")
_FETUSES_UNCLEAR = Fault("fetuses_unclear", "how many fetuses were examined is not clear")


def read_document(content: bytes, place: str, reading: Reading) -> Entry:
    """The entry of one file. What is wrong with it becomes faults, never an exception.

    Of several values of one measurement the one marked as selected is taken, else the mean that the report gives, else
    the only one. Where there are more fetuses than one, nothing but identity is.
    """
    try:
        document = read(content)
    except FaultError as error:
        return Entry(place, None, faults=(error.fault,))
    if not document.patient_id:
        return Entry(place, None, faults=(_PATIENT_MISSING,))
    return _Reader(document, reading).entry(place)


# --------------------------------------------------------------------------------------------- statements of a document


class _Value(NamedTuple):
    """One value of a fact; None where it cannot be taken."""

    rank: int
    value: float | None
    field: str


class _Reader:
    """Makes the entry of one document."""

    def __init__(self, document: Document, reading: Reading) -> None:
        self._document, self._reading, self._keys = document, reading, reading.keys
        self._faults: list[Fault] = []
        self._exam = self._read_exam()

    def entry(self, place: str) -> Entry:
        document = self._document
        statements = identity_statements(self._keys, document.names, "SR header")
        refused = TOO_DEEP if document.too_deep else _PRELIMINARY if document.preliminary else _fetuses(document.items)
        if refused is not None:
            self._faults.append(refused)
        else:
            statements += self._numbers()
            for item in document.items:
                statements += self._coded(item)
            statements += self._prose()
        return Entry(place, self._exam, statements, list(dict.fromkeys(self._faults)))

    def _read_exam(self) -> Exam:
        document, keys = self._document, self._keys
        patient_key = keys.patient(document.patient_id)
        day = None
        if text := next((text for text in document.dates if text), ""):
            date = _date(text)
            if date is None:
                self._fault("date_malformed", "its date is none")
            elif date > datetime.date.today() + datetime.timedelta(days=1):  # clocks in other time zones
                self._fault("date_impossible", "its date lies in the future")
            else:
                day = keys.day(patient_key, date)
        study_key = keys.study(document.study_uid) if document.study_uid else None
        return Exam(patient_key, study_key, keys.accession(document.accession) if document.accession else None, day)

    def _numbers(self) -> list[Statement]:
        values: dict[str, list[_Value]] = {}
        for item in self._document.items:
            fact = _fact(item)
            sections = _SECTIONS if fact in LENGTHS.values() else _EXAM_SECTIONS
            if fact is not None and item.text and self._is_counted(item, sections):
                values.setdefault(fact, []).append(_Value(_rank(item), self._value(fact, item), _field(item)))
        return [statement for fact, found in values.items() for statement in self._chosen(fact, found)]

    def _chosen(self, fact: str, found: Sequence[_Value]) -> list[Statement]:
        rank = min(value.rank for value in found)
        best = [value for value in found if value.rank == rank]
        word = fact.removesuffix("_mm")
        if rank == _OTHER_VALUE:
            self._fault("derivation_unknown", f"of {word} it gives only a median, a maximum or the like")
        elif len({value.value for value in best}) > 1:
            self._fault("several_values", f"it gives several values of {word}, and none as the one that holds")
        elif best[0].value is not None:
            return [Statement(fact, best[0].value, best[0].field)]
        return []

    def _value(self, fact: str, item: Item) -> float | None:
        try:
            return self._number(fact, item)
        except FaultError as error:
            self._faults.append(error.fault)
            return None

    def _number(self, fact: str, item: Item) -> float:
        if fact in DATES.values():
            return self._pregnancy_day(fact, item)
        if item.qualified or not _NUMBER.fullmatch(item.text):
            raise FaultError("value_malformed", "a number is none, or marked as no measurement")
        unit = item.unit.value if item.unit.scheme == "UCUM" else ""
        if fact in LENGTHS.values():
            return millimetres(fact, float(item.text), unit)
        observed = _date(item.observed[:8])
        if observed and self._exam.study_day is not None and abs(self._day(observed) - self._exam.study_day) > 1:
            raise FaultError("another_day", "its gestational age is of another day than the examination")
        return gestational_age_days(float(item.text), unit)

    def _pregnancy_day(self, fact: str, item: Item) -> int:
        date = _date(item.text[:8])
        if date is None:
            raise FaultError("date_malformed", "a date of the pregnancy is none")
        day = self._day(date)
        if self._exam.study_day is not None:
            before = self._exam.study_day - day
            possible = 0 <= before <= _WEEKS_45 if fact == "lmp_day" else -_WEEKS_42 <= before <= _WEEKS_5
            if not possible:
                raise FaultError(
                    "date_impossible", f"its {fact.removesuffix('_day')} does not fit the examination's date"
                )
        return day

    def _day(self, date: datetime.date) -> int:
        return self._keys.day(self._exam.patient_key, date)

    def _coded(self, item: Item) -> list[Statement]:
        try:
            if item.kind == "CODE" and item.name.key == ("DCM", IMAGE_VIEW):
                earlier = any(_section(above) in _EARLIER for above in item.sections)
                return [] if earlier else self._view(item)
            if item.kind == "CODE" and item.name.key == _FINDING and self._is_counted(item, _FINDING_SECTIONS):
                return [Statement("findings", _finding(item), _field(item))]
        except FaultError as error:
            self._faults.append(error.fault)
        return []

    def _view(self, item: Item) -> list[Statement]:
        planes = {self._reading.vocabulary.find_plane(word) for word in _words(item)} - {None}
        plane = planes.pop() if len(planes) == 1 else None
        if plane is None:
            raise FaultError("plane_unknown", "it names a plane that the vocabulary does not have")
        _check_modifiers(item)
        structures: dict[str, None] = {}
        sides: set[str | None] = set()
        for child in item.children:
            if child.name.key in _LATERALITY:
                sides.add(SIDES.get(child.value.value) if child.value.scheme == "SCT" else None)
            elif child.kind == "CODE" and child.relationship in ("CONTAINS", "HAS PROPERTIES"):
                structures.update(dict.fromkeys(self._structure(child)))
        side = next(iter(sides)) if len(sides) == 1 else None
        if sides and side is None:
            self._fault("laterality_unknown", "it gives no side that is known, or several")
        return [
            *(Statement("structures_seen", name, _field(item), plane) for name in structures),
            *([Statement("laterality", side, _field(item), plane)] if side else []),
        ]

    def _structure(self, item: Item) -> list[str]:
        """The structure that a property of a view says was seen, if it does."""
        if normalise(item.name.meaning) not in _SEEN or item.children:
            self._fault("component_unknown", "a property of a view is not called structure seen, or is qualified")
            return []
        found = {self._reading.vocabulary.find_structure(word) for word in _words(item)} - {None}
        if len(found) != 1:
            self._fault("structure_unknown", "it names a structure that the vocabulary does not have")
            return []
        return [name for name in found if name]

    def _prose(self) -> list[Statement]:
        statements: list[Statement] = []
        prose = self._reading.prose
        for item in self._document.items if prose else ():
            scheme, code = item.name.key
            known = all(above.kind == "CONTAINER" and _section(above) in _SECTIONS for above in item.sections)
            if prose and item.kind == "TEXT" and scheme == "DCM" and code in _PROSE and item.text and known:
                found, faults = prose(item.text, _field(item), self._document.names)
                statements += found
                self._faults += faults
        return statements

    def _is_counted(self, item: Item, sections: frozenset[str]) -> bool:
        try:
            return _counts(item, sections)
        except FaultError as error:
            self._faults.append(error.fault)
            return False

    def _fault(self, reason: str, text: str) -> None:
        self._faults.append(Fault(reason, text))


def _fetuses(items: Sequence[Item]) -> Fault | None:
    """Why nothing may be attributed: there are several fetuses, or may be (TID 1008; PS3.17 I.3)."""
    named: dict[tuple[str, str], set[str]] = {}
    for item in items:
        if item.name.key == ("LN", FETUSES) and item.kind == "NUM" and (item.text or item.qualified):
            count = float(item.text) if _NUMBER.fullmatch(item.text) and not item.qualified else 0
            if count != 1:
                return _SEVERAL_FETUSES if count > 1 else _FETUSES_UNCLEAR
        elif item.text and _names_fetus(item):
            named.setdefault(item.name.key, set()).add(re.sub(r"\.0*$", "", item.text).casefold())
    summaries = sum(item.kind == "CONTAINER" and _section(item) == "125008" for item in items)
    several = any(len(texts) > 1 or any(SECOND_FETUS.fullmatch(text) for text in texts) for texts in named.values())
    return _SEVERAL_FETUSES if several or (summaries > 1 and not named) else None


def _names_fetus(item: Item) -> bool:
    if item.name.key in _FETUS_IDS:
        return True
    if item.name.key not in SUBJECT_IDS or item.parent is None:
        return False
    # what the report as a whole is about is the mother, unless it says otherwise (TID 1006)
    stated = item.parent.child(_SUBJECT_CLASS)
    return stated.key == _FETUS or (not stated.value and item.parent.parent is not None)


def _fact(item: Item) -> str | None:
    scheme, code = item.name.key
    if scheme != "LN":
        return None
    if item.kind == "NUM":
        return LENGTHS.get(code) or AGES.get(code)
    return DATES.get(code) if item.kind in ("DATE", "DATETIME") else None


def _counts(item: Item, sections: frozenset[str]) -> bool:
    """Whether it stands in nothing but these sections.

    Raises:
        FaultError: it stands in a section that is not known, or is qualified by something that is not known.
    """
    if any(above.kind != "CONTAINER" for above in item.sections):
        return False  # what another item was inferred from, or a property of it
    codes = {_section(above) for above in item.sections}
    if not codes <= _SECTIONS:
        raise FaultError("section_unknown", "a measurement, age, date or finding stands in a section that is not read")
    for qualified in (*item.sections, item):
        _check_modifiers(qualified)
    return codes <= sections


def _check_modifiers(item: Item) -> None:
    allowed = _MODIFIERS if item.kind != "CODE" else _MODIFIERS - {_DERIVATION}
    relationships = ("HAS CONCEPT MOD", "HAS PROPERTIES") if item.name.key == _FINDING else ("HAS CONCEPT MOD",)
    for child in item.children:
        if child.relationship in relationships and child.name.key not in allowed:
            raise FaultError("modifier_unknown", "it has a modifier, which may turn its meaning round")


def _words(item: Item) -> tuple[str, str]:
    return item.value.value, item.value.meaning


def _section(item: Item) -> str:
    return item.name.value if item.name.scheme == "DCM" else ""


def _rank(item: Item) -> int:
    if item.child(_SELECTION_STATUS).key in {("DCM", code) for code in _CHOSEN}:
        return _SELECTED_VALUE
    derivation = item.child(_DERIVATION)
    if derivation.key == _MEAN:
        return _MEAN_VALUE
    measured = not derivation.value or (derivation.scheme == "SCT" and derivation.value in _MEASURED)
    return _SINGLE_VALUE if measured else _OTHER_VALUE


def _field(item: Item) -> str:
    """The path of codes; of sections only those that are known, because any other is the writer's own text."""
    codes = [code for above in item.sections if (code := _section(above)) in _SECTIONS]
    return "SR " + "/".join((*codes, item.name.value))


def _finding(item: Item) -> str:
    scheme, pattern = _FINDINGS.get(item.value.scheme, ("", None))
    found = pattern.fullmatch(item.value.value) if pattern else None
    if not found:
        raise FaultError("finding_malformed", "a finding has no code of a system that is known")
    return finding(f"{scheme}:{found[2]}")


def _date(text: str) -> datetime.date | None:
    """``YYYYMMDD`` (PS3.5 6.2)."""
    if not re.fullmatch(r"[0-9]{8}", text):
        return None
    try:
        return datetime.date(int(text[:4]), int(text[4:6]), int(text[6:]))
    except ValueError:
        return None


# ------------------------------------------------------------------------------------------------- from bytes to items

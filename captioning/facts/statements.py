"""What clinical records say, before anything is compared: the types that every reader of records returns.

A reader (``readers.table``, ``readers.fhir``, ``readers.sr``) turns a file into ``Entry`` objects. Names, identifiers
and dates end there: an entry holds pseudonyms, days on the patient's own calendar, numbers, vocabulary ids and codes.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from sono.manifests.pseudonyms import PatientKeys, Pseudonymizer
from sono.manifests.schemas import BIOMETRY
from sono.manifests.vocabulary import Vocabulary

NUMBERS = (
    "ga_days",  # the age that the record itself gives as the one that holds
    "ga_days_by_edd",
    "ga_days_by_lmp",
    "ga_days_by_ultrasound",  # composite or average of an earlier or the present ultrasound, as the scanner computed it
    "edd_day",  # days on the patient's own calendar
    "lmp_day",
    *BIOMETRY,
)
"""Facts whose value is a number; ages in days, measurements in mm."""

SEVERAL_FETUSES = "several_fetuses"
"""A record tells of several fetuses. Its examination gives no facts then: nobody knows which fetus an image shows."""

CODES = ("structures_seen", "findings", "laterality", "presentation", "identity", SEVERAL_FETUSES)
"""Facts whose value is a code: vocabulary ids, SYSTEM:CODE, one of ``LATERALITIES`` or ``PRESENTATIONS``, a keyed hash,
or "yes"."""

FACTS = (*NUMBERS, *CODES)
LATERALITIES = ("left", "right", "bilateral")
PRESENTATIONS = ("cephalic", "breech", "transverse", "oblique")

CODED, BY_RULE, BY_MODEL = 0, 1, 2
"""Ranks of a statement: where sources differ in rank, the lowest counts."""

# What each system's codes look like: a patient's name or number in the place of a code goes no further.
_FINDINGS: Mapping[str, re.Pattern[str]] = {
    "DCM": re.compile(r"[0-9]{5,6}"),
    "HP": re.compile(r"[0-9]{7}"),
    "ICD10": re.compile(r"[A-Z][0-9][0-9A-Z](?:\.[0-9A-Z]{1,4})?"),  # the letters are ICD-10-CM's: O35.AXX0
    "ICD11": re.compile(r"[1-9A-HJ-NP-Z][A-HJ-NP-Z][0-9][0-9A-HJ-NP-Z](?:\.[0-9A-HJ-NP-Z]{1,2})?"),
    "LN": re.compile(r"[0-9]{1,7}-[0-9]"),
    "MONDO": re.compile(r"[0-9]{7}"),
    "OMIM": re.compile(r"[0-9]{6}"),
    "ORPHA": re.compile(r"[0-9]{1,6}"),
    "SCT": re.compile(r"[0-9]{6,18}"),
}

_SEVERAL = re.compile(r"ICD10:O3[01](?:\..*)?|SCT:(?:16356006|65147003|64254006|60810003)")
"""Multiple gestation and its complications; multiple, twin, triplet and quadruplet pregnancy."""

_WORDS = re.compile(r"\w+")
_COMPOUND = re.compile(r"[^\W_]+(?:['’‐‑–-][^\W_]+)+")
_PARTICLES = (  # of names, and of what a ward's list calls a newborn: words that captions cannot do without
    "a al an and baby bin boy da das de del della den der des di do dos du e el girl i ibn il in la las le les lo los "
    "mother of van von y zu zum zur"
)


class Statement(NamedTuple):
    """One fact as a source says it.

    Attributes:
        fact: one of ``FACTS``.
        value: a number for ``NUMBERS``, else a code.
        field: where in the source it was found, in words of ours or codes, never a value: ``column hc_mm``.
        plane: the id of a plane, if it holds for images of that plane only.
        rank: ``CODED``, ``BY_RULE`` or ``BY_MODEL``.
    """

    fact: str
    value: float | str
    field: str
    plane: str | None = None
    rank: int = CODED


@dataclass(frozen=True)
class Fault:
    """Why something is not taken. ``text`` continues "line 7 of records file 1: " and never quotes the source."""

    reason: str
    text: str


class FaultError(Exception):
    """Raised inside readers for a value that cannot be taken."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(reason)
        self.fault = Fault(reason, text)


@dataclass(frozen=True)
class Exam:
    """Whom and which examination an entry is about, in pseudonyms; ``study_day`` on the patient's own calendar.

    ``study_unknown``: it names an examination in a way that leads nowhere, so that only its day can find it.
    """

    patient: PatientKeys
    study_key: str | None = None
    accession_key: str | None = None
    study_day: int | None = None
    study_unknown: bool = False

    @property
    def calendar(self) -> str:
        """Of the patient's days, for ``Pseudonymizer.day``."""
        return self.patient.number


@dataclass(frozen=True)
class Entry:
    """What one line, resource or document says.

    Attributes:
        place: names it for people and in messages: ``line 7 of records file 1``. Never a name or an identifier.
        exam: None where the entry does not say whom it is about; then it has a fault and no statements.
        faults: what could not be taken.
    """

    place: str
    exam: Exam | None
    statements: Sequence[Statement] = ()
    faults: Sequence[Fault] = ()


class Prose(Protocol):
    """Reads facts out of free text."""

    def __call__(self, text: str, field: str, names: Sequence[str]) -> tuple[list[Statement], list[Fault]]:
        """Statements of rank ``BY_RULE`` or ``BY_MODEL``, whose fields begin with ``field``.

        Args:
            text: the report, as written; nothing but its facts may leave.
            field: where the text was found: ``column report``.
            names: names and identifiers of the patient and of people in the record, as the text may have them.
        """
        ...


@dataclass(frozen=True)
class Reading:
    """What every reader needs. ``prose`` None: free text is ignored.

    ``patient_system`` names the FHIR identifier system whose values are the PatientID of the images, where a patient
    has several identifiers.
    """

    keys: Pseudonymizer = field(repr=False)
    vocabulary: Vocabulary
    prose: Prose | None = None
    patient_system: str | None = None


def finding(code: str) -> str:
    """The code, if it is of a known system and has the form of that system's codes: ``HP:0001561``.

    Raises:
        FaultError: it is not; free text is refused, because it may name somebody.
    """
    system, _, rest = code.partition(":")
    if system not in _FINDINGS or not _FINDINGS[system].fullmatch(rest):
        raise FaultError("finding_malformed", "a finding is no code of a known system, written SYSTEM:CODE")
    return code


def several_fetuses_in(field: str) -> Statement:
    """That ``field`` of a record tells of more than one fetus, or may."""
    return Statement(SEVERAL_FETUSES, "yes", field)


def with_several_fetuses(statements: Sequence[Statement]) -> Sequence[Statement]:
    """The statements, and that there are several fetuses where a finding is the code of a pregnancy of twins."""
    codes = (each for each in statements if each.fact == "findings" and _SEVERAL.fullmatch(str(each.value)))
    return [*statements, *(several_fetuses_in(each.field) for each in codes)]


def identity_statements(keys: Pseudonymizer, texts: Iterable[str], field: str) -> list[Statement]:
    """Keyed hashes of names and identifiers, complete and word by word, which the exam's captions must not contain.

    Words are hashed in the spellings that a caption may have: with and without accents, compounds (O'Brien) in one and
    in parts. Single letters are left out, because initials would forbid every text. So are numbers: a caption with a
    number that is no fact of its own is refused anyway. A particle (de la Cruz) counts only if it is alone.
    """
    words = {word for text in texts for word in _name_words(text)}
    return [Statement("identity", keys.word(word), field) for word in sorted(words)]


def _name_words(text: str) -> set[str]:
    folded = unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold())
    forms = {folded}
    if not folded.isascii():
        decomposed = unicodedata.normalize("NFKD", folded)
        forms.add("".join(letter for letter in decomposed if not unicodedata.combining(letter)))
    found = {word for form in forms for word in _spellings(form) if len(word) > 1 and _has_letter(word)}
    particles = found.intersection(_PARTICLES.split())
    return found - particles if any(word.isalpha() for word in found - particles) else found


def _spellings(text: str) -> Iterator[str]:
    yield text.strip()
    words = _WORDS.findall(text)
    yield from words
    for word in words:
        yield from re.split(r"[\d_]+", word)
        yield from word.split("_")
    yield from (re.sub(r"[\W_]", "", word) for word in _COMPOUND.findall(text))
    if not text.isascii():
        # To a pattern, vowel signs are not letters: words of such scripts would fall into single letters.
        yield from "".join(letter if unicodedata.category(letter)[0] in "LM" else " " for letter in text).split()
        if len(words) > 1 and all(len(word) == 1 for word in words):
            yield "".join(words)  # family and given name of one character each


def _has_letter(word: str) -> bool:
    return any(letter.isalpha() for letter in word)

"""Facts from English report prose by rules, which would rather find nothing than something wrong.

A clause gives a fact only if the rules know every other word in it to be harmless beside such a fact. What is denied,
doubted, remembered or planned takes other words, and so gives nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from sono.captioning.facts.quantities import millimetres
from sono.captioning.facts.statements import BY_RULE, Fault, FaultError, Statement, several_fetuses_in
from sono.manifests.vocabulary import Vocabulary

from .clauses import (
    AGE,
    OWN_AGE,
    Clause,
    Sentence,
    Sentences,
    Span,
    ages_in,
    blanked,
    lists_abnormalities,
    normalised,
    several_fetuses,
    several_in,
    words_of,
)

FINDINGS: Mapping[str, str] = {  # DICOM PS3.16 CID 12249, Fetal Summary Findings
    r"ventricular septal defects?|vsds?": "SCT:30288003",  # Ventricular septal defect
    r"hypoplastic left heart syndrome|hlhs": "SCT:62067003",  # Hypoplastic left heart syndrome
    r"(?:fetal )?scalp o?edema|o?edema of the (?:fetal )?scalp": "SCT:443168008",  # Edema of fetal scalp
}
"""Phrases that mean exactly one code."""

_MEASUREMENTS = {
    "bpd_mm": r"bpd|biparietal diameter",
    "hc_mm": r"hc|head circumference",
    "ac_mm": r"ac|abdominal circumference",
    "fl_mm": r"fl|femur length|femoral length",
    "crl_mm": r"crl|crown[ -]rump length",
    "nt_mm": r"nt|nuchal translucency(?: thickness)?",
    "tcd_mm": r"tcd|(?:trans(?:verse )?)?cerebellar diameter",
    "hl_mm": r"hl|humerus length|humeral length",
}
_PRESENTATIONS = {
    "cephalic": r"cephalic|vertex|head[ -]down",
    "breech": r"breech",
    "transverse": r"transverse lie|lie(?: is| was)?:? transverse|presentation(?: is| was)?:? transverse",
    "oblique": r"oblique lie|lie(?: is| was)?:? oblique",
}
_RULES = {"ga_days": "gestational_age"}
_FIRST_TRIMESTER = ("crl_mm", "nt_mm")
_LAST_CRL_DAY = 14 * 7 + 6  # a later text that gives one remembers it

_NUMBER = r"[0-9]{1,3}(?:[.,][0-9]{1,2})?"
_SIZED = rf"\s*(?:(?:is|was|of|measures|measured|measuring|=|:|-)\s*)*(?P<number>{_NUMBER})\s*(?P<unit>mm|cm)\b"


_PREDICATES = words_of(
    "seen visualised visualized visible demonstrated identified imaged shown present intact normal normally "
    "unremarkable"
)
_HARMLESS = _PREDICATES | words_of(
    "the a an fetal foetal fetus live living viable singleton both each all four chamber chambers 4 and of "
    "on in at with for is are was were be been has have appear appears appeared well clearly adequately also "
    "appearance appearances view views image images anatomy structures left right bilateral bilaterally side "
    "sides scan today this now examination within limits cardiac intracranial brain face facial size shape "
    "position situated there we as follows following gestation findings impression conclusion detailed confirms "
    "mm cm atria ventricles aorta outflow tract tracts three vessel vessels alignment diaphragm wall cord "
    "insertion abdominal"
)
_BESIDE_FINDING = _HARMLESS | words_of(
    "small tiny large moderate mild marked diffuse generalised generalized muscular perimembranous membranous "
    "apical noted found confirmed detected diagnosed diagnosis measuring"
)
_ASSERTING = re.compile(
    r"\bthere (?:is|are)\b|\b(?:seen|visualised|visualized|demonstrated|identified|shown|present|noted|found|confirmed|"
    r"detected|diagnosed)\b|^\W*(?:diagnosis|impression|conclusion|findings)\s*:"
)
_VERB = re.compile(r"\b(?:is|are|was|were|seen|noted|identified|demonstrated|present|confirmed)\b")
_BESIDE_PRESENTATION = _HARMLESS | words_of(
    "single presentation presenting part to lie longitudinal extended flexed frank complete footling intrauterine "
    "pregnancy alive active currently current anterior posterior placenta back spine"
)
_BESIDE_MEASUREMENT = _BESIDE_PRESENTATION | words_of(
    "biometry measurements measurement measures measured measuring centile percentile th st nd rd which growth ga "
    "ega age"
)

SEVERAL_FETUSES = Fault("text_ambiguous", "its text speaks of several fetuses")


@dataclass(frozen=True)
class RuleBasedProse:
    """Reads facts out of English prose by rules (``statements.Prose``)."""

    vocabulary: Vocabulary

    def __call__(self, text: str, field: str, names: Sequence[str]) -> tuple[list[Statement], list[Fault]]:
        """Statements of rank ``BY_RULE``; a text that contradicts itself has a fault instead."""
        spans: list[Span] = []
        denied: set[tuple[str, float | str]] = set()
        faults: list[Fault] = []
        plain = _without(normalised(text), names)
        if several_fetuses(plain):
            return self.several(plain, field), [SEVERAL_FETUSES]
        for sentence in self._sentences(plain):
            spans.extend(sentence.ages)
            if not (sentence.blocked or sentence.dated):
                spans.extend(self._asserted(sentence, faults))
                denied.update(self._denied(sentence))
        statements, ambiguous = agreed(
            spans, denied, lambda fact: f"{field}, text rule {_RULES.get(fact, fact)}", BY_RULE
        )
        return statements, [*faults, *ambiguous]

    def several(self, text: str, field: str) -> list[Statement]:
        """The statement that the normalised ``text`` tells of several fetuses, if it does so without doubt."""
        tells = any(several_in(sentence) for sentence in self._sentences(text))
        return [several_fetuses_in(f"{field}, text rule fetuses")] if tells else []

    def mentions(self, text: str, fact: str) -> list[Span]:
        """Every place in the normalised ``text`` that names a value of ``fact``, asserted or not."""
        if fact == "ga_days":
            return ages_in(text)
        if fact == "structures_seen":
            return [Span(m.start(), m.end(), fact, self._structure(m[0])) for m in self._structures.finditer(text)]
        if fact == "presentation":
            return _phrases(_PRESENTATIONS.items(), fact, text)
        if fact == "findings":
            return _phrases(((code, phrase) for phrase, code in FINDINGS.items()), fact, text)
        return [span for span in _lengths(text, []) if span.fact == fact]

    def doubted(self, text: str, span: Span) -> bool:
        """Whether the normalised ``text`` denies, doubts, remembers or plans what is at ``span``."""
        for sentence in self._sentences(text):
            if _overlap(span, sentence) and (
                sentence.blocked
                or (sentence.dated and span.fact != "ga_days")
                or (span.fact == "ga_days" and _is_of_a_length(span, sentence))
                or any(
                    _overlap(span, clause)
                    and (clause.doubted or (span.fact == "findings" and lists_abnormalities(group[:number], clause)))
                    for group in sentence.clauses
                    for number, clause in enumerate(group)
                )
            ):
                return True
        return several_fetuses(text)

    def upholds(self, text: str, names: Sequence[str], claim: Span) -> bool:
        """Whether the record's ``text`` names the claim's value without doubt somewhere, and denies it nowhere."""
        plain = _without(normalised(text), names)
        present = (sentence for sentence in self._sentences(plain) if not (sentence.blocked or sentence.dated))
        if any((claim.fact, claim.value) in self._denied(sentence) for sentence in present):
            return False
        named = (span for span in self.mentions(plain, claim.fact) if span.value == claim.value)
        return any(not self.doubted(plain, span) for span in named)

    @cached_property
    def _structures(self) -> re.Pattern[str]:
        names = {
            name for entry in self.vocabulary.structures.values() for name in (entry.name.lower(), *entry.synonyms)
        }
        patterns = [r"[\s-]+".join(re.escape(word) for word in re.split(r"[\s-]+", name.lower())) for name in names]
        return re.compile(rf"(?<![\w-])(?:{'|'.join(sorted(patterns, key=len, reverse=True))})(?![\w-])")

    @cached_property
    def _terms(self) -> re.Pattern[str]:
        phrases = [*_MEASUREMENTS.values(), *_PRESENTATIONS.values(), *FINDINGS, "ga|ega|gestational age|gestation"]
        return re.compile(rf"{self._structures.pattern}|\b(?:{'|'.join(phrases)}|presentation|lie)\b")

    @cached_property
    def _sentences(self) -> Sentences:
        beside = "|".join((*_MEASUREMENTS.values(), *_PRESENTATIONS.values()))
        return Sentences(self._terms, re.compile(rf"\b(?:{beside})\b"))

    def _structure(self, name: str) -> str:
        found = self.vocabulary.find_structure(name)
        assert found is not None  # the pattern is made of the vocabulary's names
        return found

    def _asserted(self, sentence: Sentence, faults: list[Fault]) -> Iterator[Span]:
        for group in sentence.clauses:
            yield from self._seen(group)
            for number, clause in enumerate(group):
                if not clause.doubted:
                    # "A, B and C not seen" denies A as well
                    alone = _VERB.search(clause.text) or not any(later.doubted for later in group[number + 1 :])
                    if alone and not lists_abnormalities(group[:number], clause):
                        yield from self._beside(clause, "findings", _BESIDE_FINDING)
                    yield from self._beside(clause, "presentation", _BESIDE_PRESENTATION)
                    if self._harmless(clause.text, _BESIDE_MEASUREMENT, "|".join(_MEASUREMENTS.values())):
                        yield from _lengths(clause.text, faults)

    def _beside(self, clause: Clause, fact: str, beside: frozenset[str]) -> Iterator[Span]:
        found = self.mentions(clause.text, fact)
        phrases = FINDINGS if fact == "findings" else _PRESENTATIONS.values()
        if fact == "findings" and not _ASSERTING.search(clause.text):
            return
        if self._harmless(clause.text, beside, "|".join(phrases)):
            yield from found

    def _seen(self, clauses: Sequence[Clause]) -> Iterator[Span]:
        """Structures of "A, B and C were seen" and of "normal A, B and C"."""
        waiting: list[Span] = []
        leading = False
        for clause in clauses:
            if clause.doubted or not self._harmless(clause.text, _HARMLESS, ""):
                waiting, leading = [], False
                continue
            found = self.mentions(clause.text, "structures_seen")
            if len(found) > 1 and clause.text[found[0].end :].lstrip().startswith(":"):
                found = found[1:]  # a heading
            verbs = [m.start() for m in re.finditer(r"[a-z]+", clause.text) if m[0] in _PREDICATES]
            if found and verbs and verbs[-1] > found[-1].start:
                yield from (*waiting, *found)
                waiting, leading = [], False
            elif verbs and (not found or verbs[0] < found[0].start):
                yield from found if re.search(r"\band\b|&", clause.text) else waiting if not found else ()
                waiting, leading = found, True
            else:
                waiting.extend(found)
        if leading:
            yield from waiting

    def _denied(self, sentence: Sentence) -> Iterator[tuple[str, float | str]]:
        for group in sentence.clauses:
            for clause in group:
                if clause.doubted:
                    facts = ("structures_seen", "findings") if "abnormalit" not in clause.text else ("findings",)
                    yield from ((span.fact, span.value) for fact in facts for span in self.mentions(clause.text, fact))

    def _harmless(self, text: str, allowed: frozenset[str], phrases: str) -> bool:
        """Whether ``text`` is nothing but allowed words, structures, ``phrases`` and lengths."""
        rest = re.sub(rf"\b(?:{phrases})\b", " ", text) if phrases else text
        rest = re.sub(rf"\b{_NUMBER}\s*(?:mm|cm|st|nd|rd|th)\b|\bat present\b", " ", self._structures.sub(" ", rest))
        return set(re.findall(r"[^\s,:()&/.=-]+", rest)) <= allowed


def _overlap(span: Span, part: Sentence | Clause) -> bool:
    return part.start < span.end and span.start < part.start + len(part.text)


def _is_of_a_length(span: Span, sentence: Sentence) -> bool:
    """Whether the age is the one that a length would have: "BPD 52 mm, GA 21w6d"."""
    at = span.start - sentence.start
    return any(own.start() <= at < own.end() for own in OWN_AGE.finditer(sentence.text))


def agreed(
    spans: Iterable[Span], denied: Collection[tuple[str, float | str]], source: Callable[[str], str], rank: int
) -> tuple[list[Statement], list[Fault]]:
    """One statement per fact; several values where there can be one, or a value that is also denied, are a fault."""
    values: dict[str, list[float | str]] = {}
    for span in spans:
        if span.value not in values.setdefault(span.fact, []):
            values[span.fact].append(span.value)
    ages = [int(age) for age in values.get("ga_days", [])]
    # "21 weeks" beside "21+3 weeks" is the same age, in completed weeks
    values["ga_days"] = [age for age in ages if not (age % 7 == 0 and any(0 < other - age < 7 for other in ages))]
    if any(age > _LAST_CRL_DAY for age in ages):
        values = {fact: found for fact, found in values.items() if fact not in _FIRST_TRIMESTER}
    statements: list[Statement] = []
    faults: list[Fault] = []
    for fact, found in values.items():
        several = fact in ("structures_seen", "findings")
        kept = [value for value in found if (fact, value) not in denied]
        if len(kept) < len(found) or (len(kept) > 1 and not several):
            faults.append(Fault("text_ambiguous", f"its text contradicts itself in {fact}"))
        if several or len(kept) == 1:
            statements.extend(Statement(fact, value, source(fact), rank=rank) for value in kept)
    return statements, faults


def numbers(text: str) -> list[tuple[int, int]]:
    """Where the ages and lengths in the normalised ``text`` are."""
    ages = [(match.start(), match.end()) for match in AGE.finditer(text)]
    lengths = re.finditer(rf"(?<![\w.,/+-]){_NUMBER}\s*(?:mm|cm)\b", text)
    return [*ages, *((match.start(), match.end()) for match in lengths)]


def _without(text: str, names: Sequence[str]) -> str:
    """The text with names covered: Mr. Head was seen, his head was not."""
    for part in {part for name in names for part in re.findall(r"\w+", normalised(name)) if len(part) > 1}:
        text = blanked(text, re.compile(rf"\b{re.escape(part)}\b"), "#")
    return text


def _phrases(phrases: Iterable[tuple[str, str]], fact: str, text: str) -> list[Span]:
    return [
        Span(match.start(), match.end(), fact, value)
        for value, phrase in phrases
        for match in re.finditer(rf"(?<![\w-])(?:{phrase})(?![\w-])", text)
    ]


def _lengths(text: str, faults: list[Fault]) -> list[Span]:
    found = []
    for fact, names in _MEASUREMENTS.items():
        for match in re.finditer(rf"(?<![\w/-])(?:{names}){_SIZED}(?!\s*[0-9])", text):
            try:
                value = millimetres(fact, float(match["number"].replace(",", ".")), match["unit"])
            except FaultError as error:
                faults.append(error.fault)
                continue
            found.append(Span(match.start(), match.end(), fact, value))
    return found

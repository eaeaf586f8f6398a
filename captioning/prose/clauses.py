"""Sentences and clauses of report prose, and which of them are denied, doubted, recalled, planned or about another day.

Every text here is normalised, and parts of it are blanked rather than cut, so that positions stay valid.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from sono.captioning.facts.quantities import gestational_age_days
from sono.captioning.facts.statements import FaultError


def words_of(text: str) -> frozenset[str]:
    """The words of a list written as text."""
    return frozenset(text.split())


_WEEKS = r"(?P<weeks>[1-9]|[1-4][0-9])"
_WEEK = r"(?:weeks?|wks?|w)"
AGE = re.compile(
    r"(?<![\w.,/+<>~±≤≥⁄-])"
    rf"{_WEEKS}(?:\s*{_WEEK}\s*(?:and\b|[,+&])?\s*(?P<d1>[0-6])\s*(?:days?|d)\b"
    rf"|\s*{_WEEK}\s*\+\s*(?P<d2>[0-6])\b(?:\s*{_WEEK}\b)?"
    rf"|\s*\+\s*(?P<d3>[0-6])(?![0-9])(?:\s*{_WEEK}\b)?"
    rf"|\s+(?P<d4>[0-6])/7(?:\s*{_WEEK}\b)?"
    rf"|[\s-]*{_WEEK}\b(?!\s*(?:and|[,+&-])?\s*[0-9]+\s*(?:days?|d\b|/7|{_WEEK}\b)))"
    r"(?![.,/+-]?[0-9])"
)
_ANY_AGE = re.compile(rf"[0-9]\s*-?\s*{_WEEK}\b|[0-9]\s*{_WEEK}[0-9]|[0-9]\s*\+\s*[0-9]|[0-9]/7|\bweeks?\b")
_RANGE_BEFORE = re.compile(r"[0-9]\s*(?:weeks?|wks?|w)?\s*(?:-|to|or|and|/)\s*$")
_RANGE_AFTER = re.compile(r"\s*(?:-|to|or|/)\s*[0-9]")

_DATE = re.compile(
    r"\b[0-9]{1,4}\s?[./-]\s?[0-9]{1,2}\s?[./-]\s?[0-9]{2,4}\b|\b(?:19|20)[0-9]{2}\b(?!\s*(?:g|gr|grams?|ml)\b)|\b[0-9]{1,2}/[0-9]{2}\b(?!\s*mm)"
    r"|\b[0-9]{1,2}(?:st|nd|rd|th)?[ -]*(?:of )?(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*\b"
    r"|\b(?:jan|feb|mar|apr|jun|jul|aug|sept?|oct|nov|dec)(?:uary|ruary|ch|il|e|y|ust|tember|ober|ember)?\b"
)
_DUE = re.compile(rf"\(?\b(?:edd|edc|lmp)\b[ :=]*(?:is |was )?(?:{_DATE.pattern})\)?")
OWN_AGE = re.compile(
    rf"(?<=mm|cm)[\s,=(]*(?:corresponding to|corresponds to|equivalent to|e?ga)?[ :=]*{AGE.pattern}\s*\)?"
)
_MOTHERS_SIDE = re.compile(r"\bmaternal (?:left|right)(?: side)?\b")

_AGE_WORDS = words_of("ga ega gestation gestational age pregnant")
_SUBJECTS = words_of("fetus foetus pregnancy she patient today now currently presently iup is singleton")
_BEFORE_AGE = (
    _AGE_WORDS
    | _SUBJECTS
    | words_of(
        "a an the this of at in on current present estimated clinical single live living viable alive intrauterine "
        "fetal was impression conclusion findings cephalic vertex breech presentation"
    )
)
_SCAN = words_of("scan ultrasound examination exam study")
_TITLE = _SCAN | words_of("obstetric fetal routine detailed anomaly growth second third trimester report at of the a")
_AFTER_AGE = _AGE_WORDS | words_of(
    "of today now currently pregnancy fetus foetus at the time this scan examination and in with is"
)

_REMEMBERED = re.compile(
    r"\b(?:previous(?:ly)?|prev|prior|past|last|earlier|ago|history|hx|h/o|family|sibling|sister|brother|parent|partner|child|"
    r"son|daughter|mother|maternal|father|paternal|her|pregnancies|booking|initial|first|dating|formerly|when|since|until|"
    r"uterus|uterine|ovar\w+|adnexa\w*|cervi\w+|myometri\w+|endometri\w+|fibroids?|"
    r"follow\w*|repeat|return|review|next|later|plan\w*|recommend\w*|advise\w*|refer\w*|arrange\w*|will|would|should|if|"
    r"unless|whether|risk|screen\w*|deliver\w*|born|birth|expected|edd|edc|lmp|due|correspond\w*|equivalent|equals|"
    r"compatible|like|dates|aua|average|ultrasound age|by|neither|nor|"
    r"declined|pending|outside|elsewhere|compar\w*|arrival|reported|letter|template|error|ticked)\b"
)
_DENIED = re.compile(
    r"\b(?:no|not|non|nil|never|none|without|absent|absence|agenesis|aplasia|missing|un(?:able|seen|visuali[sz]ed)|cannot|"
    r"can't|couldn't|wasn't|weren't|isn't|aren't|didn't|fail\w*|lack\w*|negative|neg|"
    r"free|exclud\w*|ruled? out|r/o|resolved|"
    r"closed|repaired|suboptimal\w*|limited|poor\w*|incomplete\w*|partial\w*|inadequate\w*|insufficient\w*|obscured|"
    r"difficult\w*|nonvisuali[sz]\w*|hardly|barely)\b"
)
_UNSURE = re.compile(
    r"\?|\bimpression of\b"
    r"|\b(?:possibl\w*|poss|probabl\w*|prob|suspect\w*|susp|suspicio\w*|suggest\w*|likely|unlikely|may|might|could|quer\w*|"
    r"versus|vs|differential|equivocal|uncertain\w*|unclear|unsure|doubt\w*|apparent\w*|presum\w*|questionabl\w*|concern\w*|"
    r"either|or|approx\w*|about|around|variable|unstable|artefact|artifact)\b|[~≈\[\]#/]\s*not\b|[~≈\[\]#]|\bnb\s*[:-]"
)
_SEVERAL = re.compile(
    r"\b(?:twins?|triplets?|quad(?:ruplet)?s?|quintuplets?|(?:di|mono|tri)chorionic|(?:dc|mc)[dmt]a|tcta|fo?etuses|fo?eti|"
    r"(?:fo?etus|baby) (?:no\.? ?)?(?:[a-e1-5]|i+|one|two|three)|(?:first|second|third) fo?etus|"
    r"(?:other|both|each|two|three) (?:fo?etus|baby|babies)|"
    r"multiple (?:pregnanc\w+|gestations?)|multi-?fo?etal)\b"
)
_ONLY = re.compile(
    r"\bnumber of fo?etuses\s*(?:is|[:=])?\s*(?:1|one)\b|\b(?:fo?etus|baby) (?:no\.? ?)?(?:a|1|i|one)\b|\btwin peak\b"
)
"""What is said of an only fetus in the words of several."""

_OTHERS = re.compile(
    r"\b(?:previous(?:ly)?|prev|prior|past|last|earlier|ago|history|hx|h/o|family|sibling|sister|brother|mother|father|"
    r"herself|himself|partner|pregnancies|booking|risk|vanish\w*|(?:19|20)[0-9]{2})\b"
)
"""Of another pregnancy, or of other people."""

_BREAK = re.compile(
    r";|\b(?:but|however|although|though|whereas|while|yet|except|apart from|aside from|other than|nevertheless)\b"
)
_COMMA = re.compile(r",(?![0-9]{1,2}\s*(?:mm|cm)\b)")
_FRESH = re.compile(
    r"\s*(?:and )?(?:the|there|both|a)\b.*\b(?:is|are|was|were|appears?|has been|have been)\b", re.DOTALL
)
_FINITE = re.compile(r"\b(?:is|are|was|were|appears?|could|has|have)\b")
_NOTHING_ELSE = re.compile(
    r"\W*(?:and |with )?(?:no|without) (?:evidence of |obvious |gross |structural |fetal |major )*"
    r"(?:abnormalit(?:y|ies)|anomal(?:y|ies)|ventriculomegaly|hydrops|effusions?|hydronephrosis|ascites|markers?|dilatation)"
    r"(?: (?:is |was |were )?(?:seen|detected|noted|identified))?\W*"
)
_QUESTION = re.compile(r"\W*(?:is|are|was|were|has|have|do|does|did|can)\b")
_RETRACTED = re.compile(
    r"\b(?:artefact|artifact|(?:in)?correct\w*|wrong\w*|mistake\w*|disregard\w*|error|amend\w*|addendum|retract\w*|ignore)\b"
)
_BACKWARD = re.compile(r"\W*(?:this|it|they|these|that|which|not|but|however|although|both|none|neither)\b")
_LABEL = re.compile(r"\W*(?P<label>[a-z][a-z0-9 /&()-]{0,40}?)\s*:(?P<rest>.*)", re.DOTALL)
_OPENING = words_of(
    "findings fetal foetal anatomy biometry measurements report impression conclusion diagnosis summary result "
    "results brain cardiac face examination today's today comment comments chest"
)
_STICKY = re.compile(r"\b(?:history|hx|past|previous|prior|family|plan|recommend\w*|clinical|not|old)\b")
_ABBREVIATED = words_of(
    "prev poss prob susp approx evid fam hx est neg no dr mr mrs ms st vs cf abn query ref pt pts eg e.g i.e ie "
    "r/o h/o inc incl limit ltd suboptim vis"
)


class Span(NamedTuple):
    """A place in the text, with the fact and the value that it states."""

    start: int
    end: int
    fact: str
    value: float | str


class Clause(NamedTuple):
    """A part of a sentence, and whether it denies or doubts what it names."""

    start: int
    text: str  # as long as in the report, with ages and dates of no interest blanked
    doubted: bool


class Sentence(NamedTuple):
    """A sentence, or a line of its own, and how much of it is about the present examination."""

    start: int
    text: str
    blocked: bool  # remembered, planned, of another person or of another day
    dated: bool  # by an age that need not be the present one
    clauses: Sequence[Sequence[Clause]]  # split at "but", then at commas
    ages: Sequence[Span]


@dataclass(frozen=True)
class Sentences:
    """Splits a text into sentences, and judges each by its surroundings: headings, and doubts in the next sentence.

    Attributes:
        terms: anything that can be part of a fact; a part without any belongs to its neighbour.
        others: what begins another fact after an age.
    """

    terms: re.Pattern[str]
    others: re.Pattern[str]

    def __call__(self, text: str) -> Iterator[Sentence]:
        """The sentences of the normalised ``text``."""
        pieces = list(_pieces(text))
        blocked, sticky = False, False
        for number, (start, piece, paragraph) in enumerate(pieces):
            label = _LABEL.match(piece)
            if _heading(piece) or _opens(piece):
                blocked = sticky = not _opens(piece)
            elif label and not (sticky and self.terms.search(label["label"])):
                opening = set(re.findall(r"[a-z']+", label["label"])) <= _OPENING
                known = opening or self.terms.search(label["label"]) is not None
                blocked = not known or _STICKY.search(label["label"]) is not None
                sticky = blocked and (not label["rest"].strip() or _STICKY.search(label["label"]) is not None)
            elif paragraph and not sticky:
                blocked = False
            following = pieces[number + 1][1] if number + 1 < len(pieces) else ""
            doubtful = _BACKWARD.match(following) and (_DENIED.search(following) or _UNSURE.search(following))
            taken_back = not self.terms.search(following) and bool(doubtful or _RETRACTED.search(following))
            yield self._sentence(start, piece, blocked or taken_back, first=number == 0)

    def _sentence(self, start: int, text: str, blocked: bool, *, first: bool) -> Sentence:
        clean = blanked(blanked(blanked(text, _DUE), OWN_AGE), _MOTHERS_SIDE)
        remembered = blocked or _REMEMBERED.search(clean) is not None or _DATE.search(clean) is not None
        remembered = remembered or _QUESTION.match(clean) is not None or _RETRACTED.search(clean) is not None
        ages = [] if remembered else _present_ages(clean, self.others, first=first)
        for span in ages:
            clean = _blank(clean, span.start, span.end)
        shifted = [Span(span.start + start, span.end + start, span.fact, span.value) for span in ages]
        dated = _ANY_AGE.search(clean) is not None
        return Sentence(start, text, remembered, dated, self._clauses(clean, start), shifted)

    def _clauses(self, text: str, start: int) -> list[list[Clause]]:
        groups = self._merged(_split(text, _BREAK))
        return [
            [
                Clause(start + first + offset, part, doubted)
                for offset, part, doubted in self._carried(self._merged(_split(group, _COMMA)))
            ]
            for first, group in groups
        ]

    def _merged(self, parts: Iterable[tuple[int, str]]) -> list[tuple[int, str]]:
        """Join a part that denies or doubts without naming anything to the part before: "seen but not well"."""
        merged: list[tuple[int, str]] = []
        for offset, part in parts:
            adrift = not self.terms.search(part) and (_DENIED.search(part) or _UNSURE.search(part))
            if merged and adrift and not _no_abnormality(part):
                first, before = merged.pop()
                merged.append((first, before.ljust(offset - first) + part))
            else:
                merged.append((offset, part))
        return merged

    def _carried(self, parts: Iterable[tuple[int, str]]) -> Iterator[tuple[int, str, bool]]:
        """Each part, and whether it is doubted: "no A, B or C" denies all three, until a new clause begins."""
        carried, complete = False, False
        for offset, part in parts:
            own = bool(_DENIED.search(part) or _UNSURE.search(part)) and not _no_abnormality(part)
            fresh = complete and _FRESH.match(part) is not None
            carried = own or (carried and not fresh)
            complete = _FINITE.search(part) is not None
            yield offset, part, carried


def normalised(text: str) -> str:
    """Lower case, with plain spaces, hyphens and apostrophes; as long as ``text``."""
    plain = text.translate(str.maketrans("\u00a0\u2009\u202f\t\r‐‑‒–—−’‘", "     ------''"))
    return "".join(letter.lower() if len(letter.lower()) == 1 else letter for letter in plain)


def lists_abnormalities(before: Sequence[Clause], clause: Clause) -> bool:
    """Whether an abnormality in the clause is denied by the one before: "no hydrops, scalp edema seen"."""
    return any(_no_abnormality(each.text) for each in before) and not _FRESH.match(clause.text)


def several_fetuses(text: str) -> bool:
    """Whether the normalised ``text`` mentions several fetuses: then no fact says which one it is about."""
    return _SEVERAL.search(text) is not None


def several_in(sentence: Sentence) -> bool:
    """Whether a sentence says so of the present examination: neither of an only fetus, nor denied, doubted or recalled.

    A text that mentions twins gives no facts in any case; this one also speaks for the other records.
    """
    if _OTHERS.search(sentence.text):
        return False
    clauses = (clause for group in sentence.clauses for clause in group if not clause.doubted)
    return any(_SEVERAL.search(_ONLY.sub(" ", clause.text)) for clause in clauses)


def ages_in(text: str) -> list[Span]:
    """Every age in the normalised ``text``, in days, whoever and whenever it is about. A range is not an age."""
    found = []
    for match in AGE.finditer(text):
        if not (
            _RANGE_BEFORE.search(text[max(0, match.start() - 20) : match.start()])
            or _RANGE_AFTER.match(text[match.end() :])
        ):
            days = next((int(match[name]) for name in ("d1", "d2", "d3", "d4") if match[name]), 0)
            found.append(Span(match.start(), match.end(), "ga_days", int(match["weeks"]) * 7 + days))
    return found


def blanked(text: str, pattern: re.Pattern[str], filler: str = " ") -> str:
    """The text, as long as before, with ``filler`` for every character that the pattern matches."""
    return pattern.sub(lambda match: filler * len(match[0]), text)


def _pieces(text: str) -> Iterator[tuple[int, str, bool]]:
    """Sentences and lines of their own: start, text, whether a paragraph begins. Wrapped lines are joined."""
    start, paragraph = 0, True
    for end in [*_ends(text), len(text)]:
        piece = text[start:end]
        if piece.strip():
            yield start, piece, paragraph
            paragraph = False
        if re.compile(r"\s*\n\s*\n").match(text, end) or re.search(r"\n\s*\n\s*$", piece):
            paragraph = True
        start = end


def _ends(text: str) -> Iterator[int]:
    for found in re.finditer(r"[.!](?=\s|$)|\n", text):
        before, after = text[max(0, found.start() - 200) : found.start()], text[found.end() : found.end() + 200]
        if found[0] == "\n":
            line, following = before.rpartition("\n")[2].strip(), after.partition("\n")[0].strip()
            alone = not line or not following or re.search(r"[.:;!]$|\b(?:mm|cm|weeks?|days?|[0-9][wd])$", line)
            if alone or re.match(r"[-*•]|[a-z][a-z /&()-]{0,30}:", following) or _heading(line) or _opens(line):
                yield found.end()
        elif re.split(r"[\s(]", before)[-1] not in _ABBREVIATED:
            yield found.end()


def _heading(line: str) -> bool:
    """A line such as CLINICAL HISTORY."""
    words = line.split()
    return len(words) <= 4 and not re.search(r"[0-9.:;]", line) and _STICKY.search(line) is not None


def _opens(line: str) -> bool:
    """A line such as FINDINGS."""
    words = re.findall(r"[^\s:]+", line)
    return bool(words) and set(words) <= _OPENING


def _present_ages(text: str, others: re.Pattern[str], *, first: bool) -> list[Span]:
    """The ages that a sentence says the pregnancy has now."""
    if _DENIED.search(text) or _UNSURE.search(text):
        return []
    found = []
    for span in ages_in(text):
        before = re.findall(r"[^\s,:()=.-]+", text[: span.start])
        after = re.findall(r"[^\s:()=.-]+", re.split(r"[,;(]", text[span.end :])[0])
        known = set(before) <= _BEFORE_AGE or ({"this", "today"} & set(before) and set(before) <= _BEFORE_AGE | _TITLE)
        tail = others.split(" ".join(after))[0].split()
        subject = _AGE_WORDS & set(before) or _SUBJECTS & {*before, *tail} or (not before and _AGE_WORDS & set(tail))
        titled = (
            first
            and before
            and set(before) <= _TITLE
            and not after
            and re.search(r"[+d/]", text[span.start : span.end])
        )
        if (known and subject and set(tail) <= _AFTER_AGE) or titled:
            try:
                gestational_age_days(float(span.value), "d")
            except FaultError:
                continue
            found.append(span)
    return found


def _blank(text: str, start: int, end: int, filler: str = " ") -> str:
    return text[:start] + filler * (end - start) + text[end:]


def _split(text: str, mark: re.Pattern[str]) -> Iterator[tuple[int, str]]:
    start = 0
    for found in mark.finditer(text):
        yield start, text[start : found.start()]
        start = found.end()
    yield start, text[start:]


def _no_abnormality(text: str) -> bool:
    return _NOTHING_ELSE.fullmatch(text) is not None

"""De-identifies report prose: allow-listed words, ages and lengths stay, tags replace the rest.

The words are those of ``report_words.txt`` and of the vocabulary's names. Such a word is removed too if it is part of a
known name, or follows a title or is beside a caret.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from importlib import resources

from sono.manifests.vocabulary import Vocabulary

from .clauses import normalised
from .rules import RuleBasedProse, numbers

_DAY_PATTERN = r"[0-9]{1,4}\s?[./-]\s?[0-9]{1,2}\s?[./-]\s?[0-9]{2,4}|[0-9]{1,2}[./][0-9]{2,4}(?!\s*(?:mm|cm|weeks?))"
_MONTH = (
    r"(?:jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?|oct(?:ober)?"
    r"|nov(?:ember)?|dec(?:ember)?)\b"
)
_MORE_NAMES = r"(?:[ \t]+[A-Z][\w.'’-]*){0,3}"
_NAME = rf"[A-Z][\w.'’-]*{_MORE_NAMES}"
_PRIVATE = {  # in the order in which they are looked for
    "[EMAIL]": re.compile(r"\S{1,80}@\S{1,80}"),
    "[URL]": re.compile(r"\b(?:https?://|www\.)\S+", re.I),
    "[DATE]": re.compile(
        rf"\b(?:of|in|since|until|before|after|early|mid|late|last|next)[ -]+{_MONTH}(?:[\s,./-]*[0-9]{{1,4}}\b)?"
        rf"|\b{_MONTH}[\s,./-]*[0-9]{{4}}\b|\b(?:{_DAY_PATTERN})\b|\b[0-9]{{1,2}}(?:st|nd|rd|th)?[\s./-]*(?:of\s+)?{_MONTH}(?:[\s,./-]*[0-9]{{1,4}}\b)?"
        rf"|\b{_MONTH}[\s.]*[0-9]{{1,2}}(?:st|nd|rd|th)?\b[\s,]*(?:[0-9]{{4}}\b)?|\b[0-9]{{1,2}}:[0-9]{{2}}(?::[0-9]{{2}})?\b",
        re.I,
    ),
    "[PHONE]": re.compile(r"(?<![0-9()])\+?\(?[0-9][0-9()]*(?:[ ./-]+\(?[0-9]{2,}\)?){2,}(?!\s*(?:mm|cm))|\+[0-9]{6,}"),
    "[ID]": re.compile(r"\b[\w-]{0,60}[0-9]{4,}[\w-]{0,60}|[0-9]{4,}"),
    "[NAME]": re.compile(
        rf"\b(?i:dr|mrs)\b(?:[.:]\s*|\s+)(?:(?i:dr|med|phd)\b\.?\s*)*[^\W\d_][\w.'’-]*{_MORE_NAMES}"
        rf"|\b(?i:mr|ms|miss|prof|professor|doctor|sir|nurse|sister|midwife|sonographer|technician|radiologist)\b"
        rf"(?:[.:]\s*|[ \t]*-[ \t]*|[ \t]+){_NAME}"
        rf"|\b(?i:mr|ms|prof)\s+{_NAME}"
        rf"|\b(?i:by|signed|author|reporter|operator|patient|name|mother|mum|pt)\s*:\s*{_NAME}"
        rf"|\b(?i:signed|reported|dictated|performed|scanned|examined|seen|verified|checked)\s+(?i:by)\s+{_NAME}"
        r"|[^\s,;:]{0,80}\^[^\s,;:]{0,80}"
    ),
}
_TOKEN = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)?|[0-9]+(?:[.,][0-9]+)*|\s|.", re.DOTALL)
_PUNCTUATION = frozenset(".,;:()/+-=%<>?!~")


def deidentify(text: str, names: Sequence[str], vocabulary: Vocabulary) -> str:
    """The text in lower case with nothing in it but allow-listed words, ages and lengths; tags replace the rest.

    Args:
        names: names and identifiers, replaced as a whole and in parts, whatever their case and diacritics.
    """
    decisions = _Decisions(len(text))
    folded, plain = _folded(text), normalised(text)
    for name in names:
        parts = re.findall(r"[^\W_]+", _folded(name))
        tag = "[ID]" if any(letter.isdigit() for letter in name) else "[NAME]"
        wholes = [r"[\W_]*".join(map(re.escape, parts))] if len("".join(parts)) > 2 else []
        single = [re.escape(part) for part in parts if len(part) > (2 if part.isdigit() else 1)]
        for pattern in (*wholes, *single):
            decisions.take(re.finditer(rf"(?<![^\W_]){pattern}(?![^\W_])", folded), tag)
    for tag, private in _PRIVATE.items():
        if tag == "[PHONE]":
            decisions.keep(numbers(plain), plain)
        decisions.take(private.finditer(text), tag)
    named = RuleBasedProse(vocabulary).mentions(plain, "structures_seen")
    decisions.keep(
        [(each.start, each.end) for each in named if re.search("[0-9]", plain[each.start : each.end])], plain
    )
    words, lower_only = _allowed_words(vocabulary)
    written: list[str] = []
    position = 0
    for start, end, instead in [*decisions.in_order(), (len(text), len(text), "")]:
        written.extend(_allowed(token[0], words, lower_only) for token in _TOKEN.finditer(text, position, start))
        written.append(instead)
        position = end
    return re.sub(r"[^\S\n]+", " ", "".join(written)).strip()


class _Decisions:
    """Places of a text that have been decided on; the first decision counts."""

    def __init__(self, length: int) -> None:
        self._places: list[tuple[int, int, str]] = []
        self._decided = bytearray(length)

    def take(self, matches: Iterator[re.Match[str]], tag: str) -> None:
        for match in matches:
            self._add(match.start(), match.end(), tag)

    def keep(self, spans: Sequence[tuple[int, int]], text: str) -> None:
        for start, end in spans:
            self._add(start, end, text[start:end])

    def in_order(self) -> list[tuple[int, int, str]]:
        return sorted(self._places)

    def _add(self, start: int, end: int, instead: str) -> None:
        if start < end and not any(self._decided[start:end]):
            self._places.append((start, end, instead))
            self._decided[start:end] = b"\1" * (end - start)


def _allowed(token: str, words: frozenset[str], lower_only: frozenset[str]) -> str:
    if token.isspace():
        return "\n" if token == "\n" else " "
    if token[0].isalpha():
        plain = normalised(token)
        return plain if plain in words or (plain in lower_only and token.islower()) else "[WORD]"
    if token[0].isdigit():
        return "[NUMBER]"
    return token if token in _PUNCTUATION else " "


def _allowed_words(vocabulary: Vocabulary) -> tuple[frozenset[str], frozenset[str]]:
    """Words that may leave, and those that may leave only in lower case, because they are people's names too."""
    text = resources.files(__package__).joinpath("report_words.txt").read_text(encoding="ascii")
    listed = [word for line in text.splitlines() if not line.startswith("#") for word in line.split()]
    structures = [name for entry in vocabulary.structures.values() for name in (entry.name, *entry.synonyms)]
    planes = [name for entry in vocabulary.planes.values() for name in (entry.name, *entry.synonyms)]
    named = " ".join([*structures, *planes]).lower()
    lower_only = frozenset(word[:-1] for word in listed if word.endswith("*"))
    words = frozenset(word for word in listed if not word.endswith("*")) | frozenset(re.findall(r"[a-z]{2,}", named))
    return words - lower_only, lower_only


def _folded(text: str) -> str:
    """Lower case without diacritics; as long as ``text``."""
    letters = (unicodedata.normalize("NFKD", letter)[0] for letter in text)
    return normalised("".join(letters))

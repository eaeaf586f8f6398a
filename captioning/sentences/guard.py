"""The last checks before a sentence is stored: which words and numbers it may contain, and whom it must not name.

Both fail closed: a sentence passes because everything in it is known, not because nothing in it looks wrong.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field

from sono.manifests.pseudonyms import Pseudonymizer

MAX_CHARACTERS = 2_000
"""No sentence is longer; a model sees a tenth of it."""

_CACHED_TEXTS = 100_000
_PUNCTUATION = frozenset(" ,.;:!?()'’\"“”„«»-–—/&%+±،؛，。、；：（）「」・·\u00a0\u202f\u3000")
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_WORD = re.compile(r"[^\W\d_]+")
_ADDRESS = re.compile(r"\w\.\w")
_IDENTITY_WORDS = (re.compile(r"\w+"), re.compile(r"[^\W_]+"), _WORD)
_COMPOUND = re.compile(r"[^\W_]+(?:['’‐‑–-][^\W_]+)+")  # O'Brien, Smith-Jones: in a header often one word
_LONGEST_UNSPACED_NAME = 24
_LONGEST_UNSPACED_PART = 6  # where it may lie across spaces and marks
_TRANSLITERATED = (  # what a header in ASCII makes of letters that have no accent to be taken off, or an umlaut
    str.maketrans({"ø": "o", "ł": "l", "đ": "d", "ð": "d", "ı": "i", "æ": "ae", "œ": "oe", "þ": "th"}),
    str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "ø": "oe", "å": "aa", "æ": "ae"}),
)

_MONTHS = (  # they make dates of what stands beside them
    "january february march april may june july august september october november december "
    "jan feb mar apr jun jul aug sep sept oct nov dec "
    "januar jänner februar märz mai juni juli oktober dezember "
    "janvier février mars avril juin juillet août septembre octobre novembre décembre "
    "enero febrero marzo abril mayo junio julio agosto septiembre octubre noviembre diciembre "
    "gennaio febbraio aprile maggio giugno luglio settembre ottobre dicembre "
    "janeiro fevereiro março maio junho julho setembro outubro novembro dezembro "
    "januari februari maart mei augustus"
)
_NOT_IN_WORDING = frozenset((*_MONTHS.split(), "http", "https", "www"))


class RefusedError(Exception):
    """A sentence that must not be stored.

    Attributes:
        reason: a short code.
        text: fixed words of ours that continue "the sentence ".
        line: of the template, if known.
    """

    def __init__(self, reason: str, text: str, line: int | None = None) -> None:
        super().__init__(reason, text, line)
        self.reason, self.text, self.line = reason, text, line

    def __str__(self) -> str:
        return f"the sentence {self.text}"


@dataclass(frozen=True)
class Wording:
    """The words (case-folded) and the other characters that a template's sentences are made of."""

    words: frozenset[str]
    marks: frozenset[str]


def wording(texts: Iterable[str]) -> Wording:
    """The wording of a template: its own text and the names that it can be given."""
    joined = " ".join(texts)
    return Wording(_words(joined), frozenset(_WORD.sub("", joined)) | {" "})


def wording_fault(text: str) -> str | None:
    """Why ``text`` can be neither a template's own text nor a name; continues "it "."""
    if any(unicodedata.category(character).startswith("N") for character in text):
        return "contains a number, but every number must be a fact's; write it as a word"
    if _words(unicodedata.normalize("NFC", text)) & _NOT_IN_WORDING:
        return "contains the name of a month or part of an address"
    if _ADDRESS.search(text):
        return "contains a full stop without a space after it, as addresses do"
    if not all(unicodedata.category(character)[0] in "LM" or character in _PUNCTUATION for character in text):
        return "contains a character that is neither a letter nor common punctuation"
    return None


def check_sentence(text: str, allowed: Wording, values: Collection[int | float]) -> None:
    """Let a sentence pass whose words are ``allowed`` and whose numbers are ``values``, as they are or rounded.

    Raises:
        RefusedError: it is empty, has several lines or control characters, is too long, or holds anything else.
    """
    if not text:
        raise RefusedError("sentence_empty", "is empty")
    if len(text) > MAX_CHARACTERS:
        raise RefusedError("sentence_too_large", f"has more than {MAX_CHARACTERS:,} characters")
    if len(text.splitlines()) > 1:
        raise RefusedError("sentence_lines", "has several lines")
    if not text.isprintable() and any(unicodedata.category(character).startswith("C") for character in text):
        raise RefusedError("sentence_control", "contains a control character")
    if not all(any(_states(number, value) for value in values) for number in _NUMBER.findall(text)):
        raise RefusedError("sentence_number", "contains a number that is none of its facts, or is rounded wrongly")
    rest = _NUMBER.sub(" ", text)
    if not _words(rest) <= allowed.words:
        raise RefusedError("sentence_word", "contains a word that is neither the template's nor a name of the pack")
    if not allowed.marks.issuperset(_WORD.sub("", rest)):
        raise RefusedError("sentence_mark", "contains a mark that is neither the template's nor in a name of the pack")


def has_form(text: str) -> bool:
    """Whether a stored text has the form of a sentence that passed: a line of words and numbers, no date, no address.

    Its words and numbers were checked when it was written; what allowed them is not stored.
    """
    words = _NUMBER.sub(" ", text)
    numbers = [
        float(number.replace(",", ".")) for number in _NUMBER.findall(text) if re.fullmatch(r"\d+([.,]\d+)?", number)
    ]
    try:
        check_sentence(text, wording([words]), numbers)
    except RefusedError:
        return False
    return wording_fault(words) is None


@dataclass(frozen=True)
class IdentityGuard:
    """Finds names and identifiers in texts, by the keyed hashes of ``statements.identity_statements``."""

    keys: Pseudonymizer = field(repr=False)

    def says(self, text: str, identity: Collection[str]) -> bool:
        """Whether the text, or a word of it with a letter and two characters, has one of the hashes ``identity``."""
        return bool(identity) and not self.hashes(text).isdisjoint(identity)

    def __reduce__(self) -> tuple[object, ...]:  # the caches stay here
        return IdentityGuard, (self.keys,)

    @functools.cached_property
    def hashes(self) -> Callable[[str], frozenset[str]]:
        """The keyed hashes of everything in a text that could be a name or an identifier."""
        word_hash = functools.lru_cache(_CACHED_TEXTS)(self.keys.word)

        @functools.lru_cache(_CACHED_TEXTS)
        def hashes(text: str) -> frozenset[str]:
            return frozenset(word_hash(word) for word in _identity_words(text))

        return hashes


def _words(text: str) -> frozenset[str]:
    return frozenset(_WORD.findall(text.casefold()))


def _states(number: str, value: int | float) -> bool:
    """Whether ``number``, with a point or a comma, is ``value`` as it is or rounded to its 0 to 2 decimals."""
    if not number.isascii() or re.fullmatch(r"(0|[1-9]\d*)([.,]\d+)?", number) is None:
        return False
    stated = float(number.replace(",", "."))
    decimals = len(re.split("[.,]", number)[1]) if not number.isdigit() else 0
    # both neighbours of a half pass, since rounding differs between a float and what it shows
    return stated == value or (decimals <= 2 and abs(stated - value) <= 0.5 * 10**-decimals + 1e-9)


def _identity_words(text: str) -> set[str]:
    """Everything of the text that a name or identifier in a record may have been hashed as."""
    if text.isascii():  # millions of captions are
        found = _spellings(text.casefold())
    else:
        found = set()
        for form in _forms(text):
            for word in _spellings(form):
                found.update(_parts(word, _LONGEST_UNSPACED_PART) if _unspaced(word) else ())
                found.add(word)
            for run in _runs(form):
                found.update(_parts(run, _LONGEST_UNSPACED_NAME) if _unspaced(run) else ())
    return {word for word in found if len(word) > 1 and any(character.isalpha() for character in word)}


def _spellings(text: str) -> set[str]:
    words = (word for pattern in _IDENTITY_WORDS for word in pattern.findall(text))
    return {text.strip(), *words, *(re.sub(r"[\W_]", "", word) for word in _COMPOUND.findall(text))}


def _forms(text: str) -> set[str]:
    """As ``statements.identity_statements`` writes it, also with plain letters for wide, accented and other ones."""
    folded = unicodedata.normalize("NFC", text).casefold()
    others = (unicodedata.normalize("NFKD", each) for each in (folded, *map(folded.translate, _TRANSLITERATED)))
    plain = ("".join(letter for letter in each if not unicodedata.combining(letter)) for each in others)
    return {*plain, *(unicodedata.normalize(form, folded) for form in ("NFC", "NFKC"))}


def _runs(text: str) -> list[str]:
    """Letters and what is written above, below and between them, as long as nothing else parts them."""
    return "".join(letter if unicodedata.category(letter)[0] in "LM" else " " for letter in text).split()


def _unspaced(word: str) -> bool:
    """Whether its script has no case: most such scripts put no space around names (Chinese), or prefixes (Arabic)."""
    return any(unicodedata.category(character) == "Lo" for character in word)


def _parts(word: str, longest: int) -> Iterator[str]:
    for start in range(len(word)):
        for end in range(start + 2, min(start + longest, len(word)) + 1):
            yield word[start:end]

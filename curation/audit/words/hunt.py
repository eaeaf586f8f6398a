"""Looks for what a source says in all that a workspace says, by the rules of MIDI-B: word by word, as substrings."""

from __future__ import annotations

import datetime
import functools
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .allowed_words import normalized, words_of
from .dates import date_forms

_SUBSTRING_LETTERS = 4  # shorter words are only compared with entire ones: they are in too many others
_SHORTEST = 2
_NUMBER_DIGITS = 5  # shorter numbers are in every table
_REMEMBERED = 100_000
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")

TOO_SHORT, ALLOWED_WORD = "too_short", "allowed_word"
"""Why nothing of a value can be judged."""


@dataclass(frozen=True)
class Hunted:
    """Where a value was found. ``empty``: why nothing of it could be judged, None if something was."""

    places: frozenset[str]
    empty: str | None = None


class Hunter:
    """The workspace's unexplained words, ready to be searched."""

    def __init__(
        self, pieces: Mapping[str, Sequence[str]], cells: Mapping[str, Sequence[str]], allowed: frozenset[str]
    ) -> None:
        self._pieces, self._cells, self._allowed = pieces, cells, allowed
        self._text = "\n".join(pieces)
        self._words: dict[str, set[str]] = {}
        for piece, places in pieces.items():
            for word in words_of(piece):
                self._words.setdefault(word, set()).update(places)
        self.find = functools.lru_cache(_REMEMBERED)(self._find)

    def _find(self, value: str) -> Hunted:
        """Where any word of a value is; the value itself if it is a cell of its own."""
        text = normalized(value).strip()
        tokens = [token for token in tokens_of(text) if token not in self._allowed]
        judged = [token for token in tokens if can_be_judged(token)]
        found = [place for token in judged for place in self._places(token)]
        if text not in self._allowed:
            found += self._cells.get(text, ())
        if judged or found:
            return Hunted(frozenset(found))
        return Hunted(frozenset(), TOO_SHORT if tokens else ALLOWED_WORD)

    def find_uid(self, uid: str) -> frozenset[str]:
        """Where a UID, or a name that is all one, is."""
        text = uid.strip().casefold()
        return frozenset(self._containing(text)) if text in self._text else frozenset()

    def find_date(self, date: datetime.date) -> frozenset[str]:
        """Where a date is, in any of the usual notations."""
        found = (place for form in date_forms(date) for place in self._numbers(form))
        return frozenset(found)

    def _places(self, token: str) -> Iterator[str]:
        if token.isdigit():
            yield from self._numbers(token)
        elif len(token) < _SUBSTRING_LETTERS:
            yield from self._words.get(token, self._pieces.get(token, ()))
        elif token in self._text:
            yield from self._containing(token)

    def _numbers(self, digits: str) -> Iterator[str]:
        """Digits that do not go on to either side: part of a longer number is another number."""
        if digits in self._text:
            whole = re.compile(rf"(?<!\d){re.escape(digits)}(?!\d)")
            for piece, places in self._pieces.items():
                if whole.search(piece):
                    yield from places

    def _containing(self, text: str) -> Iterator[str]:
        for piece, places in self._pieces.items():
            if text in piece:
                yield from places


@functools.lru_cache(2)
def load_hunter(path: Path, allowed: frozenset[str]) -> Hunter:
    """The hunter over the words that ``WorkspaceWords.save`` wrote; once per process."""
    pieces, cells = json.loads(path.read_text(encoding="utf-8", errors="surrogatepass"))
    return Hunter(pieces, cells, allowed)


def tokens_of(text: str) -> list[str]:
    """Words and numbers, and whatever has digits and no space: patients' numbers, names of files."""
    uuids = _UUID.findall(text)  # whose parts are in every digest
    rest = _UUID.sub(" ", text)
    pieces = [piece for piece in rest.split() if any(map(str.isdigit, piece)) and not piece.isdigit()]
    return [*dict.fromkeys([*words_of(rest), *pieces, *uuids])]


def can_be_judged(token: str) -> bool:
    return len(token) >= (_NUMBER_DIGITS if token.isdigit() else _SHORTEST)

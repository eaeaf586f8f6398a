"""What can be read in a stored image, and whether a source says it about somebody."""

from __future__ import annotations

import datetime
import difflib
import functools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version

import numpy as np

from sono.curation.audit.sources.header_values import HeaderValues
from sono.curation.audit.words.allowed_words import normalized, words_of
from sono.curation.audit.words.dates import date_forms, readable_dates
from sono.curation.audit.words.hunt import can_be_judged, tokens_of
from sono.curation.cleaning.overlays.find import boxes_of, find_overlays
from sono.curation.cleaning.overlays.networks import networks_sha256
from sono.curation.cleaning.overlays.text_readers import read_again, search
from sono.curation.images.pixels import Pixels

from .cleaned import Box

FEWEST_LETTERS = 3
"""Letters and digits of what counts as text: fewer are read into any texture."""

_ALIKE = 0.8  # a reader takes one letter in five for another
_MISREAD_LETTERS = 5  # shorter words are alike by chance
_SUBSTRING_LETTERS = 4  # shorter words are parts of others
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")


@dataclass(frozen=True)
class Identity:
    """What a source says, ready to be recognized in readings.

    Attributes:
        words: every word and number of the header, the path and the metadata that the program itself does not use.
        dates: without separators, as scanners write them.
    """

    words: frozenset[str]
    dates: frozenset[str]


def identity_of(values: HeaderValues, allowed: frozenset[str]) -> Identity:
    words = (token for _, text in values.texts for token in tokens_of(normalized(text)) if token not in allowed)
    dates = (form for date in values.dates for form in _written(date))
    return Identity(frozenset(filter(can_be_judged, words)), frozenset(dates))


@dataclass(frozen=True)
class Text:
    """What an image says: what two readers make of it, and whether the detector sees text, readable or not."""

    readings: Sequence[str]
    seen: bool

    @property
    def nothing(self) -> bool:
        return not self.readings and not self.seen

    @property
    def readable(self) -> bool:
        """Beyond single letters."""
        return any(sum(map(str.isalnum, reading)) >= FEWEST_LETTERS for reading in self.readings)


def read_text(pixels: Pixels, boxes: Sequence[Box]) -> Text:
    """Read an image. One reader looks at all of it, the other where text was painted over and where some may be.

    Half a second and more. Call ``cleaning.required.require_readers`` first, once.
    """
    overlays = find_overlays(pixels, np.ones(pixels.shape[:2], np.bool_))
    doubtful = (*boxes, *boxes_of(overlays.possible_text))
    found = [reading.text for reading in (*search(pixels), *read_again(pixels, doubtful))]
    readings = [text for text in found if any(map(str.isalnum, text))]
    return Text(readings, bool(np.any(overlays.text)))


@functools.cache
def reader_versions() -> tuple[str, ...]:
    """Of everything that ``read_text`` uses: others may read what these do not."""
    return *(f"{package} {version(package)}" for package in ("rapidocr", "tesserocr")), networks_sha256()


def identifies(readings: Iterable[str], identity: Identity) -> bool:
    """Whether a word, number or date of the source is in what was read, or any date.

    Spaces and separators count for nothing, and of longer words a few letters may be others: readers misread.
    """
    return any(_identifies(normalized(reading), identity) for reading in readings)


def _identifies(text: str, identity: Identity) -> bool:
    if any(readable_dates(["".join(text.split())])):
        return True
    words, run = words_of(text), _run(text)
    if any(date in run for date in identity.dates):
        return True
    return any(_is_in(_run(word), words, run) for word in identity.words)


def _is_in(said: str, words: Sequence[str], run: str) -> bool:
    if len(said) < _SUBSTRING_LETTERS:
        return said in words
    if said in run:
        return True
    if len(said) < _MISREAD_LETTERS or said.isdigit():
        return False
    places = range(max(len(run) - len(said), 0) + 1)
    return any(_are_alike(said, run[place : place + len(said)]) for place in places)


def _are_alike(said: str, read: str) -> bool:
    return difflib.SequenceMatcher(None, said, read, autojunk=False).ratio() >= _ALIKE


def _run(text: str) -> str:
    return "".join(filter(str.isalnum, text))


def _written(date: datetime.date) -> Iterator[str]:
    """As ``date_forms``, and with years of two digits and names of months; without separators."""
    yield from {_run(form) for form in date_forms(date)}
    for year in (f"{date:%Y}", f"{date:%y}"):
        month = _MONTHS[date.month - 1]
        yield from (f"{date:%d}{month}{year}", f"{month}{date:%d}{year}")
    yield from (f"{date:%d%m%y}", f"{date:%m%d%y}", f"{date:%y%m%d}")

"""How people and programs write dates."""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterable, Iterator

_DATE = re.compile(
    r"(?<!\d)(?:(?:19|20)\d\d([-./])(?:0?[1-9]|1[0-2])\1(?:[0-2]?[1-9]|[123]0|31)"
    r"|(?:[0-2]?[1-9]|[123]0|31)([-./])(?:[0-2]?[1-9]|[123]0|31)\2(?:19|20)\d\d)(?!\d)"
)


def date_forms(date: datetime.date) -> Iterator[str]:
    """A date as people and programs write it."""
    year, month, day = f"{date:%Y}", f"{date:%m}", f"{date:%d}"
    yield f"{year}{month}{day}"
    for separator in "-./":
        yield separator.join((year, month, day))
        yield separator.join((day, month, year))
        yield separator.join((month, day, year))


def readable_dates(pieces: Iterable[str]) -> Iterator[str]:
    """Pieces of text in which a date of the last or this century is written with separators."""
    for piece in pieces:
        if _DATE.search(piece):
            yield piece

"""Tables as delimited text: which encoding and delimiter a file has, and its lines, none of them endless."""

from __future__ import annotations

import codecs
import csv
import io
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TextIO

DELIMITERS = (",", ";", "\t")
LINE_MOST = 2**18
"""Characters of a line; a longer one is not a table's, and is not read into memory."""

_FIRST_BYTES = 16  # of a header, which has Latin letters; what comes after it may have others


@dataclass(frozen=True)
class TextFormat:
    """How a file's bytes become cells; ``decimal_comma`` tells whether a cell can hold ``0,5`` without quotes."""

    encoding: str  # as Python names it; a byte order mark is dropped
    delimiter: str

    @property
    def decimal_comma(self) -> bool:
        return self.delimiter != ","


class LongLineError(ValueError):
    """A line is longer than ``LINE_MOST``."""


def text_format(path: Path) -> TextFormat:
    """The format of a file, from its first line.

    Raises:
        OSError: the file cannot be opened or read.
        UnicodeDecodeError: the line is neither UTF-8 nor UTF-16.
        LongLineError: there is no line end within ``LINE_MOST``.
    """
    return opened_format(lambda: path.open("rb"))


def opened_format(open_bytes: Callable[[], AbstractContextManager[IO[bytes]]]) -> TextFormat:
    """The same of anything that can be opened twice, such as a member of a compressed file."""
    with open_bytes() as file:
        encoding = text_encoding(file.read(_FIRST_BYTES))
    with open_bytes() as file, io.TextIOWrapper(file, encoding=encoding, newline="") as text:
        return TextFormat(encoding, _delimiter(next(bounded_lines(text), "")))


def text_encoding(first: bytes) -> str:
    """UTF-16 by its byte order mark, or by the zeros that it puts beside each Latin letter; else UTF-8."""
    first = first[:_FIRST_BYTES]
    if first.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    low, high = first[0::2], first[1::2]
    if high and not any(high) and all(low):
        return "utf-16-le"
    if high and not any(low) and all(high):
        return "utf-16-be"
    return "utf-8-sig"


def bounded_lines(file: TextIO) -> Iterator[str]:
    """The lines of an open file with their ends.

    Raises:
        LongLineError: a line is longer than ``LINE_MOST``.
    """
    while line := file.readline(LINE_MOST + 1):
        if len(line) > LINE_MOST:
            raise LongLineError
        yield line


def _delimiter(header: str) -> str:
    """The delimiter that cuts the line into the most cells; a comma if none does."""
    cells = {}
    for delimiter in DELIMITERS:
        cells[delimiter] = len(next(csv.reader([header], delimiter=delimiter, skipinitialspace=True), []))
    return max(DELIMITERS, key=lambda delimiter: cells[delimiter])

"""Reads the items of arrays in a JSON file of any size, one after another, and says where in the file each is.

Not ``ijson``: its parser holds a string of any length, and does not tell positions, without which every worker would
have to read the whole file. Here no more than ``ITEM_MOST`` bytes are in memory.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

from sono.curation.masks.reasons import excluded

ITEM_MOST = 64 * 2**20
"""Bytes of one item, or of one member between the arrays."""

_CHUNK = 2**20
_REST_OF_A_NUMBER = 4  # 1.5e+10 that is cut after the sign is a number before the e
_DECODER = json.JSONDecoder()
_SPACE = re.compile(r"[ \t\r\n]*")


class Item(NamedTuple):
    """An item of the array ``array``, and where its bytes are."""

    array: str
    value: Any
    offset: int
    length: int


def read_items(path: Path, arrays: Collection[str]) -> Iterator[Item]:
    """The items of these members of the file's top-level object; its other members are read past.

    Raises:
        ExcludedError: the file is not such an object, is truncated, or has an item of more than ``ITEM_MOST`` bytes.
    """
    try:
        with path.open("rb") as file:
            yield from _Reader(file).items(arrays)
    except OSError:
        raise excluded("unreadable") from None


def item_at(path: Path, offset: int, length: int) -> Any:
    """The item that ``read_items`` found there."""
    try:
        with path.open("rb") as file:
            file.seek(offset)
            return json.loads(file.read(length))
    except OSError:
        raise excluded("unreadable") from None
    except (ValueError, RecursionError):
        raise excluded("malformed_mask") from None


class _Reader:
    """A window on the file. Bytes are decoded as Latin-1, so that positions are the file's own."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._text = ""
        self._at = 0  # in the text
        self._offset = 0  # of the text in the file
        self._ended = False

    def items(self, arrays: Collection[str]) -> Iterator[Item]:
        if self._peek() == "\xef":  # a byte order mark
            self._at += 3
        self._expect("{")
        while self._peek() != "}":
            name, _, _ = self._value()
            self._expect(":")
            if name in arrays and self._peek() == "[":
                yield from self._array(str(name))
            elif self._peek() == "[":
                for _ in self._array(""):
                    pass
            else:
                self._value()
            self._comma("}")
        self._at += 1
        if self._peek(at_end=True):
            raise excluded("not_this_format")

    def _array(self, name: str) -> Iterator[Item]:
        self._expect("[")
        while self._peek() != "]":
            value, offset, length = self._value()
            yield Item(name, value, offset, length)
            self._comma("]")
        self._at += 1

    def _peek(self, *, at_end: bool = False) -> str:
        """The next character that is not white space, which becomes the current one; empty at the end of the file."""
        while True:
            match = _SPACE.match(self._text, self._at)
            assert match
            self._at = match.end()
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._read_more():
                if at_end:
                    return ""
                raise excluded("not_this_format")

    def _expect(self, character: str) -> None:
        if self._peek() != character:
            raise excluded("not_this_format")
        self._at += 1

    def _comma(self, end: str) -> None:
        if self._peek() == ",":
            self._at += 1
            if self._peek() == end:
                raise excluded("not_this_format")
        elif self._peek() != end:
            raise excluded("not_this_format")

    def _value(self) -> tuple[Any, int, int]:
        """The next value, where it begins in the file, and its length in bytes."""
        self._peek()
        while True:
            try:
                value, end = _DECODER.raw_decode(self._text, self._at)
            except (ValueError, RecursionError):
                if not self._read_more(doubling=True):
                    raise excluded("not_this_format") from None
                continue
            if len(self._text) - end < _REST_OF_A_NUMBER and not self._ended:
                self._read_more()
                continue
            found = self._text[self._at : end]
            offset = self._offset + self._at
            self._at = end
            return value if found.isascii() else _utf8(found), offset, len(found)

    def _read_more(self, *, doubling: bool = False) -> bool:
        """Drop what was read, and read on; False at the end of the file."""
        self._text, self._offset, self._at = self._text[self._at :], self._offset + self._at, 0
        if len(self._text) > ITEM_MOST:
            raise excluded("item_too_large")
        chunk = self._file.read(max(_CHUNK, len(self._text)) if doubling else _CHUNK)
        self._text += chunk.decode("latin-1")
        self._ended = not chunk
        return bool(chunk)


def _utf8(found: str) -> Any:
    try:
        return json.loads(found.encode("latin-1"))
    except ValueError:
        raise excluded("not_this_format") from None

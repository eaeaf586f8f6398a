"""Words that may stand in a workspace whoever was examined: those that this program itself can write."""

from __future__ import annotations

import ast
import functools
import re
import unicodedata
from collections.abc import Iterable, Iterator
from importlib import resources
from importlib.resources.abc import Traversable

from .dates import readable_dates

_FOLDERS = ("manifests", "curation", "captioning")
_SILENT = {"phantom", "demo", "prose", "engines", "__pycache__"}  # rooms whose words end up in no table and on no page
_DATA = (".toml", ".html", ".css", ".jinja")

_PIECES = re.compile(r"[^\s\"'`{}\[\],:;()<>=|&#!?*\x00-\x1f\ufffd]+")
_WORDS = re.compile(r"[^\W\d_]+|\d+")


def normalized(text: str) -> str:
    """Without case and accents: archives write one name in several ways."""
    decomposed = unicodedata.normalize("NFKD", text.casefold())
    return "".join(character for character in decomposed if not unicodedata.combining(character))


def words_of(text: str) -> list[str]:
    """Runs of letters and runs of digits of normalized text."""
    return _WORDS.findall(text)


def pieces_of(text: str) -> list[str]:
    """What spaces, quotes and brackets separate, without a sentence's full stop."""
    return [piece for found in _PIECES.findall(text) if (piece := found.strip(".-/\\"))]


def allowed_words(texts: Iterable[str]) -> frozenset[str]:
    """The program's own words, and those of ``texts``: names of centers, and templates that the hospital wrote."""
    return _program_words() | {word for text in texts for word in _explained(text)}


@functools.cache
def _program_words() -> frozenset[str]:
    """Of every string in the program's code but its documentation, and of its packaged data.

    The vocabulary, the list of scanners, templates of captions and pages are among them.
    """
    files = (file for folder in _FOLDERS for file in _files(resources.files(f"sono.{folder}")))
    texts = (text for file in files for text in _texts(file))
    return frozenset(word for text in texts for word in _explained(text))


def _explained(text: str) -> Iterator[str]:
    """Words of at least two letters, and pieces such as E10: a single letter may stand before somebody's number."""
    for piece in pieces_of(normalized(text)):
        words = words_of(piece)
        yield from (word for word in words if len(word) > 1 and not word.isdigit())
        if len(words) > 1 and not any(readable_dates([piece])):  # an example in a message may be somebody's date
            yield piece


def _files(folder: Traversable) -> Iterator[Traversable]:
    for entry in folder.iterdir():
        if entry.is_dir() and entry.name not in _SILENT:
            yield from _files(entry)
        elif entry.name.endswith((".py", *_DATA)):
            yield entry


def _texts(file: Traversable) -> Iterator[str]:
    content = file.read_text(encoding="utf-8")
    if not file.name.endswith(".py"):
        yield content
        return
    tree = ast.parse(content)
    documentation = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documentation:
            yield node.value
        elif isinstance(node, ast.arg | ast.keyword) and node.arg:
            yield node.arg  # a field's name becomes a key of JSON
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield node.target.id

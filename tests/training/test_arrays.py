"""The legend for the shapes in the names of arrays."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import sono.training.arrays as legend

TRAINING = Path(__file__).resolve().parents[2] / "training"
SUFFIX = re.compile(r"_*[a-z]\w*?_([0-9]*[A-Z][A-Z0-9]*)")


def names(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.Attribute):
            yield node.attr


def test_the_legend_lists_every_letter_of_every_shape_suffix() -> None:
    letters = set(re.findall(r"^    ([A-Z])   \w", legend.__doc__ or "", re.MULTILINE))
    suffixes = {
        found[1]: (name, path.name)
        for path in TRAINING.rglob("*.py")
        for name in names(path)
        if (found := SUFFIX.fullmatch(name))
    }
    assert {"B4HW", "UL", "N", "CU"} <= set(suffixes)
    unlisted = {where for suffix, where in suffixes.items() if set(re.sub("[0-9]", "", suffix)) - letters}
    assert not unlisted

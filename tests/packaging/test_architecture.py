"""ARCHITECTURE.md shows the code as it is: its tree, and the files it tells people to look for."""

from __future__ import annotations

import ast
import re

import pytest

from tests.packaging.tree import BEGIN, END, PAGE, ROOMS, ROOT, page, tree

PYTHON = [path for folder in ROOMS for path in sorted((ROOT / folder).rglob("*.py")) if path.name != "__init__.py"]


def test_the_tree_is_up_to_date() -> None:
    assert BEGIN in PAGE.read_text(encoding="utf-8")
    assert page() == PAGE.read_text(encoding="utf-8"), "run: python tests/packaging/tree.py"


def test_the_tree_lists_every_file_once() -> None:
    listed = [line.split()[0] for line in tree() if not line.endswith("/")]
    assert sorted(listed) == sorted(path.name for path in PYTHON)


@pytest.mark.parametrize("path", PYTHON, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_file_says_in_its_first_line_what_it_is_for(path: object) -> None:
    assert isinstance(path, type(ROOT))
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    assert docstring is not None
    assert len(docstring.partition("\n")[0]) <= 120


def test_every_path_named_on_the_page_exists() -> None:
    text = PAGE.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    prose = before + rest.partition(END)[2]
    named = re.findall(r"`((?:manifests|captioning|curation|training|tests|examples|docs)/[\w./-]*)`", prose)
    assert len(named) > 20
    missing = [name for name in named if not (ROOT / name).exists()]
    assert missing == []

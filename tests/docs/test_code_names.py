"""Files and names of the code that the documentation mentions exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("manifests", "captioning", "curation", "training", "tests", "benchmarks", "tools", "examples", "notebooks")
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
RESERVED = {"curation/qc/metrics/"}
"""Rooms that are announced as not written yet. Once there is one, the page must say how to use it."""


def code_spans(page: Path) -> list[str]:
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    return re.findall(r"`([^`\n]+)`", text)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_named_in_the_documentation_exist(page: Path) -> None:
    paths = {span for span in code_spans(page) if re.fullmatch(rf"({'|'.join(FOLDERS)})/[\w/.-]*", span)}
    real = {path for path in paths if not re.search(r"[A-Z]{4}", path)} - RESERVED  # FORMAT and NAME are placeholders
    assert sorted(path for path in real if not (ROOT / path).exists()) == []


def test_rooms_announced_as_not_written_yet_are_not_there() -> None:
    assert [room for room in RESERVED if (ROOT / room).exists()] == []


def test_names_in_the_guide_for_extending_are_names_of_the_code() -> None:
    known: set[str] = set()
    for folder in FOLDERS[:5]:
        for path in (ROOT / folder).rglob("*.py"):
            known |= {path.name, *re.findall(r"\w+", path.read_text(encoding="utf-8"))}
    names = {
        part
        for span in code_spans(ROOT / "docs" / "extending.md")
        if re.fullmatch(r"\w[\w.]*(\(.*\))?", span) and "/" not in span
        for part in ([span] if span.endswith(".py") else span.partition("(")[0].split("."))
    }
    assert len(names) > 40
    assert sorted(name for name in names - known if name not in {"toml", "sono", "pack"}) == []

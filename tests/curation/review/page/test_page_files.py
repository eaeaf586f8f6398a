"""The page's files: nothing inline, nothing from elsewhere, nothing missing, and keys as documented."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from tests.conftest import ROOT

from .conftest import PAGE

INDEX = (PAGE / "index.html").read_text()
SCRIPTS = {path.relative_to(PAGE).as_posix(): path.read_text() for path in PAGE.rglob("*.js")}


def test_the_page_has_no_inline_script_style_or_handler() -> None:
    assert not re.findall(r"<script(?![^>]*\bsrc=)", INDEX)
    assert not re.findall(r"<style|\sstyle=|\son\w+=|javascript:", INDEX)


def test_nothing_comes_from_another_place() -> None:
    styles = (PAGE / "style.css").read_text()
    for name, content in {"index.html": INDEX, "style.css": styles, **SCRIPTS}.items():
        assert not re.findall(r"(?:https?:)?//(?!www\.w3\.org/)\w+\.\w+", content), name


def test_every_module_is_named_by_the_page_so_that_all_load_at_once() -> None:
    named = set(re.findall(r'static/([\w/]+\.js)"', INDEX))
    assert named == set(SCRIPTS) - {"rle_worker.js"}


def test_every_element_that_a_module_asks_for_is_in_the_page() -> None:
    made = set(re.findall(r'\bid: "([\w-]+)"', "".join(SCRIPTS.values())))
    there = set(re.findall(r'\bid="([\w-]+)"', INDEX)) | made
    for name, content in SCRIPTS.items():
        assert set(re.findall(r'byId\("([\w-]+)"\)', content)) <= there, name


def test_every_text_that_a_module_shows_is_written(modules: Any) -> None:
    written = modules.evaluate('async () => Object.keys((await import("/static/strings.js")).text)')
    used = set(re.findall(r"\btext\.(\w+)", "".join(content for name, content in SCRIPTS.items())))
    assert used <= set(written)
    assert set(written) <= used


def test_no_two_actions_have_one_key_and_each_is_done(modules: Any) -> None:
    entries = modules.evaluate('async () => (await import("/static/keys.js")).KEYS.flatMap(({ does }) => does)')
    keys = [key for entry in entries for key in entry.get("keys", [])]
    assert len(keys) == len(set(keys))
    actions = SCRIPTS["actions.js"]
    for entry in entries:
        if entry.get("keys") and "." not in entry["id"]:
            assert f"\n  {entry['id']}(" in actions, entry["id"]


def test_the_documented_keys_are_those_of_the_page(modules: Any) -> None:
    rows = modules.evaluate(
        """async () => {
          const { KEYS, shownKeys } = await import("/static/keys.js");
          const keys = (entry) => shownKeys(entry).map((key) => "`" + key + "`").join(" ");
          const row = (entry) => `| ${keys(entry)} | ${entry.text} |`;
          return KEYS.flatMap(({ group, does }) => [`| **${group}** | |`, ...does.map(row)]);
        }"""
    )
    document = Path(ROOT / "docs" / "review.md").read_text()
    documented = document.split("<!-- keys -->\n")[1].split("<!-- end of keys -->")[0]
    assert documented.strip().splitlines()[2:] == rows

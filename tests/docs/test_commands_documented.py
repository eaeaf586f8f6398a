"""docs/commands.md has a section for every command, with its arguments and all its options, and no others."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import typer

from sono.curation.cli import app as curate
from sono.training.cli import app as train

PROGRAMS = {"sono-curate": typer.main.get_command(curate), "sono-train": typer.main.get_command(train)}
PAGE = (Path(__file__).parents[2] / "docs" / "commands.md").read_text(encoding="utf-8")
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]*")


def walk(command: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Every command below ``command`` that can be run, with its full name: ``sono-curate masks import``."""
    children: Mapping[str, Any] | None = getattr(command, "commands", None)
    if children is None:
        yield name, command
        return
    for child, inner in children.items():
        yield from walk(inner, f"{name} {child}")


COMMANDS = dict(pair for program, command in PROGRAMS.items() for pair in walk(command, program))
SECTIONS: dict[str, str] = dict(
    re.findall(r"^#{2,3} (.+?)\n(.*?)(?=^#{2,3} |\Z)", PAGE, flags=re.DOTALL | re.MULTILINE)
)


def long_options(command: Any) -> set[str]:
    spelled = {text for parameter in command.params for text in (*parameter.opts, *parameter.secondary_opts)}
    return {text for text in spelled if text.startswith("--")} - {"--help"}


def test_every_command_has_a_section_and_every_section_a_command() -> None:
    documented = {heading for heading in SECTIONS if " " in heading and heading.split()[0] in PROGRAMS}
    assert documented == set(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_the_section_lists_exactly_the_options_that_the_command_has(name: str) -> None:
    rows = [line for line in SECTIONS[name].splitlines() if line.startswith("| `")]
    documented = {option for row in rows for option in OPTION.findall(row.replace(r"\|", " ").split(" | ")[0])}
    assert documented == long_options(COMMANDS[name])


@pytest.mark.parametrize("name", COMMANDS)
def test_the_usage_line_has_the_arguments_in_order(name: str) -> None:
    usage = next(line.strip() for line in SECTIONS[name].splitlines() if line.startswith("    "))
    arguments = [parameter for parameter in COMMANDS[name].params if parameter.param_type_name == "argument"]
    expected = [str(parameter.metavar or parameter.name.upper()) for parameter in arguments]
    assert usage.startswith(name)
    assert re.findall(r"[A-Z_]+", usage.removeprefix(name).partition("--")[0]) == expected


@pytest.mark.parametrize("name", COMMANDS)
def test_the_usage_line_shows_required_options(name: str) -> None:
    usage = next(line.strip() for line in SECTIONS[name].splitlines() if line.startswith("    "))
    required = {
        max(parameter.opts, key=len)
        for parameter in COMMANDS[name].params
        if parameter.param_type_name == "option" and parameter.required
    }
    assert required <= set(OPTION.findall(usage))


@pytest.mark.parametrize("program", PROGRAMS)
def test_the_programs_own_options_are_documented(program: str) -> None:
    assert long_options(PROGRAMS[program]) <= set(OPTION.findall(SECTIONS["What all commands share"]))


def test_no_page_mentions_a_command_that_does_not_exist() -> None:
    """In code, after the name of a program comes one of its commands."""
    root = Path(__file__).parents[2]
    pages = [root / "README.md", root / "CONTRIBUTING.md", *sorted((root / "docs").glob("*.md"))]
    known = {program: set(command.commands) for program, command in PROGRAMS.items()}
    unknown = [
        (page.name, program, word)
        for page in pages
        for program, word in re.findall(r"(sono-curate|sono-train) ([a-z][a-z-]+)", _code(page.read_text("utf-8")))
        if word not in known[program]
    ]
    assert unknown == []


def _code(text: str) -> str:
    """Fenced and indented blocks and code spans, one per line."""
    fenced = re.findall(r"^```.*?^```", text, flags=re.DOTALL | re.MULTILINE)
    rest = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    indented = re.findall(r"^ {4}.*$", rest, flags=re.MULTILINE)
    return "\n".join([*fenced, *indented, *re.findall(r"`([^`]+)`", rest)])

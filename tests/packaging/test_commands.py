"""Every command explains itself, with an example."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from sono.curation.cli import app as curate
from sono.training.cli import app as train

PROGRAMS = {"sono-curate": curate, "sono-train": train}


def leaves(command: Any, name: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    children = getattr(command, "commands", None)
    if children is None:
        yield name
        return
    for child, inner in children.items():
        yield from leaves(inner, (*name, child))


COMMANDS = [(program, *path) for program, app in PROGRAMS.items() for path in leaves(typer.main.get_command(app))]


def run(*arguments: str, cwd: Path) -> str:
    program = Path(sys.executable).with_name(arguments[0])
    done = subprocess.run(
        [str(program), *arguments[1:]], capture_output=True, text=True, timeout=60, check=False, cwd=cwd
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_the_commands_are_found() -> None:
    assert {("sono-curate", "ingest"), ("sono-curate", "masks", "import"), ("sono-train", "pretrain")} <= set(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help_has_an_example_of_this_very_command(command: tuple[str, ...], tmp_path: Path) -> None:
    said = " ".join(run(*command, "--help", cwd=tmp_path).replace("│", " ").split())
    assert "Example" in said
    assert " ".join(command) in said.partition("Example")[2]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("program", PROGRAMS)
def test_the_programs_help_lists_its_commands(program: str, tmp_path: Path) -> None:
    said = run(program, "--help", cwd=tmp_path)
    assert all(command[1] in said.split() for command in COMMANDS if command[0] == program)

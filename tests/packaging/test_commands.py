"""Every command explains itself, with an example."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

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


def help_of(program: str, *command: str) -> str:
    """The help page as one line of words; in this process, because a process for every command takes long."""
    done = CliRunner().invoke(PROGRAMS[program], [*command, "--help"], prog_name=program)
    assert (done.exit_code, done.stderr) == (0, "")
    return " ".join(done.stdout.replace("│", " ").split())


def test_the_commands_are_found() -> None:
    assert {("sono-curate", "ingest"), ("sono-curate", "masks", "import"), ("sono-train", "pretrain")} <= set(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help_has_an_example_of_the_command(command: tuple[str, ...]) -> None:
    assert " ".join(command) in help_of(*command).partition("Example")[2]


@pytest.mark.parametrize("program", PROGRAMS)
def test_the_installed_program_lists_its_commands_and_writes_no_file(program: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [str(Path(sys.executable).with_name(program)), "--help"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=tmp_path,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert {command[1] for command in COMMANDS if command[0] == program} <= set(done.stdout.split())
    assert list(tmp_path.iterdir()) == []

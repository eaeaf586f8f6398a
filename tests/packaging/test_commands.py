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
def test_help_has_an_example_of_the_command(
    command: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    program, *path = command
    result = CliRunner().invoke(PROGRAMS[program], [*path, "--help"], prog_name=program)
    assert (result.exit_code, result.stderr) == (0, "")
    help_text = " ".join(result.stdout.replace("│", " ").split())
    assert "Example" in help_text
    assert " ".join(command) in help_text.partition("Example")[2]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("program", PROGRAMS)
def test_the_programs_help_lists_its_commands(program: str, tmp_path: Path) -> None:
    words = run(program, "--help", cwd=tmp_path).split()
    assert all(command[1] in words for command in COMMANDS if command[0] == program)

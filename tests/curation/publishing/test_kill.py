"""A publish that is killed at any moment and run again: the same revision, and main is never half of it."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.curation.publishing.conftest import Ready
from tests.hub.fixtures import Hub

pytestmark = pytest.mark.slow

KILLS = 20
Run = Callable[[str, int | None], int]


class Killer:
    """Kills a process at the ``countdown``-th moment of its requests that change something, or prepare a change."""

    def __init__(self, pid: int, countdown: int) -> None:
        self.pid, self.countdown = pid, countdown

    def __call__(self, method: str, moment: str) -> None:
        if method in ("GET", "HEAD"):
            return
        self.countdown -= 1
        if self.countdown == 0:
            os.kill(self.pid, signal.SIGKILL)


@pytest.fixture
def run(hub: Hub, ready: Ready, tmp_path: Path) -> Iterator[Run]:
    """Publishes in a process of its own, which is killed at a moment if one is given; returns how it ended."""
    program = subprocess.Popen(
        [sys.executable, Path(__file__).with_name("fork_program.py"), min((ready.folder / "data").iterdir())],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": f"{ROOT / 'typings'}:{ROOT}"},
        cwd=tmp_path,
    )
    assert program.stdin
    assert program.stdout

    def run(repo: str, moment: int | None) -> int:
        assert program.stdin
        assert program.stdout
        line = ["publish", str(ready.folder), repo, "--workspace", str(ready.workspace.path), "--tag", "v1"]
        hub.state.watch = lambda method, moment: None
        program.stdin.write(json.dumps(line) + "\n")
        program.stdin.flush()
        pid = int(program.stdout.readline())
        if moment is not None:
            hub.state.watch = Killer(pid, moment)
        return int(program.stdout.readline())

    with program:
        yield run
        program.stdin.close()


def test_killed_at_random_moments_and_run_again(hub: Hub, ready: Ready, run: Run) -> None:
    assert run("hospital/whole", None) == 0
    whole = hub.files("hospital/whole", "v1")
    moments = random.Random(16)
    killed = finished = 0
    steps: set[int] = set()
    while killed < KILLS:
        repo = f"hospital/killed{finished}"
        while (ended := run(repo, moments.randint(1, 24))) == -signal.SIGKILL:
            killed += 1
            steps.add(len(hub.state.moves))
        assert ended == 0
        finished += 1
        refs = hub.state.repository("dataset", repo).refs
        assert set(refs) == {"refs/heads/main", "refs/tags/v1"}
        assert refs["refs/heads/main"] == refs["refs/tags/v1"]
        assert hub.files(repo) == whole
        mains = [
            set(move.files or ()) for move in hub.state.moves if (move.repo, move.ref) == (repo, "refs/heads/main")
        ]
        assert mains == [{".gitattributes"}, {".gitattributes", *whole}]
    assert len(steps) > 5  # between many changes of refs, not always before the first

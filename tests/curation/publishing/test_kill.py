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


class Moments:
    """Counts the moments of requests that change something, or prepare a change; kills a process at one of them."""

    def __init__(self, pid: int = 0, last: int | None = None) -> None:
        self.pid, self.last, self.count = pid, last, 0

    def __call__(self, method: str, moment: str) -> None:
        if method in ("GET", "HEAD"):
            return
        self.count += 1
        if self.count == self.last:
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
        hub.state.watch = Moments()
        program.stdin.write(json.dumps(line) + "\n")
        program.stdin.flush()
        pid = int(program.stdout.readline())
        if moment is not None:
            hub.state.watch = Moments(pid, moment)
        return int(program.stdout.readline())

    with program:
        yield run
        program.stdin.close()


def test_killed_at_random_moments_and_run_again(hub: Hub, ready: Ready, run: Run) -> None:
    assert run("hospital/whole", None) == 0
    whole = hub.files("hospital/whole", "v1")
    undisturbed = hub.state.watch
    assert isinstance(undisturbed, Moments)
    chance = random.Random(16)
    killed = finished = 0
    quarters: set[int] = set()
    while killed < KILLS or len(quarters) < 4:
        repo = f"hospital/killed{finished}"
        # The first run of a repository dies in another quarter of it each time, those that go on with it soon after
        # they began: runs differ in the order of their requests, so chance alone might spare a part of them.
        quarter = finished * 3 % 4
        moment = 1 + int(undisturbed.count * (quarter + chance.random()) / 4)
        while (ended := run(repo, moment)) == -signal.SIGKILL:
            killed += 1
            quarters.add(quarter)
            moment = chance.randint(1, 24)
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

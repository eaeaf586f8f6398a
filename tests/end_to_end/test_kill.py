"""An interrupted ingest, run again, gives the tables of an undisturbed run."""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from .conftest import Command, environment

KILLS = 3
WRITTEN = re.compile(rb'<time class="written">[^<]*</time>')
ENDS_S = 60  # for processes that end at once on a machine that is not busy


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images for ten parts."""
    folder = tmp_path_factory.mktemp("scans")
    noise = np.random.default_rng(0).rayleigh(45, (120, 160)).clip(0, 255)
    speckle = cv2.GaussianBlur(noise.astype(np.uint8), (0, 0), 1.2)
    for number in range(800):
        assert cv2.imwrite(str(folder / f"{number:03}.png"), np.roll(speckle, 97 * number))
    return folder


def ingest(workspace: Path, scans: Path) -> list[str]:
    words = ["sono-curate", "ingest", str(workspace), str(scans), "--patient-regex", r"^(\d\d)", "--cropped"]
    return [*words, "--workers", "2"]


def start(*words: str) -> subprocess.Popen[str]:
    """The command in a process group of its own."""
    return subprocess.Popen(
        words,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def init(command: Command, workspace: Path) -> Path:
    """With a key that is the same in every run, since the key decides where parts are cut."""
    command("sono-curate", "init", workspace)
    (workspace / "secret.key").write_text("5e" * 32)
    return workspace


def contents(workspace: Path) -> dict[str, bytes]:
    """Of every file; of pages without the minute in which they were written."""
    return {
        path.relative_to(workspace).as_posix(): WRITTEN.sub(b"", path.read_bytes())
        for path in sorted(workspace.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }


def parts(workspace: Path) -> int:
    return len(list(workspace.glob("frames/part-*")))


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + ENDS_S
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.005)


def ends(group: int) -> bool:
    """Whether all processes of a group have ended, or end soon."""
    deadline = time.monotonic() + ENDS_S
    while time.monotonic() < deadline:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.005)
    return False


def test_sigkill_at_random_moments_changes_nothing(scans: Path, tmp_path: Path, command: Command) -> None:
    undisturbed = init(command, tmp_path / "undisturbed")
    killed = shutil.copytree(undisturbed, tmp_path / "killed")
    started = time.monotonic()
    command(*ingest(undisturbed, scans))
    seconds_per_part = (time.monotonic() - started) / parts(undisturbed)
    assert parts(undisturbed) > 2 * KILLS, "draw more images"

    moments = random.Random(4)
    for _ in range(KILLS):  # each run completes a part or two and is killed in the middle of the next
        before = parts(killed)
        process = start(*ingest(killed, scans))
        wait_until(lambda before=before, process=process: parts(killed) > before or process.poll() is not None)
        time.sleep(seconds_per_part * moments.uniform(0, 0.3))
        process.kill()
        process.communicate()
        assert ends(process.pid), "workers outlived their parent"
        assert process.returncode == -signal.SIGKILL, "it ended before it could be killed"
    assert parts(killed) < parts(undisturbed)

    command(*ingest(killed, scans))
    assert contents(killed) == contents(undisturbed)


def test_ctrl_c_says_how_to_resume(scans: Path, tmp_path: Path, command: Command) -> None:
    workspace = init(command, tmp_path / "archive")
    process = start(*ingest(workspace, scans))
    wait_until(lambda: parts(workspace) > 0)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=ENDS_S)
    assert process.returncode == 130
    assert "interrupted; run the same command again" in errors
    assert "Traceback" not in errors
    assert not list(workspace.glob("*/.tmp-*"))
    interrupted = parts(workspace)
    command(*ingest(workspace, scans))
    assert parts(workspace) > interrupted

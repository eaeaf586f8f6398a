"""Ingest, killed at random moments and run again, gives the tables of an undisturbed run."""

from __future__ import annotations

import os
import random
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

INGEST = ("sono-curate", "ingest", "{workspace}", "scans", "--patient-regex", r"^(\d\d)", "--workers", "2")


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    folder = tmp_path / "scans"
    folder.mkdir()
    speckle = np.random.default_rng(0).integers(0, 256, (600, 800), dtype=np.uint8)
    for number in range(400):
        assert cv2.imwrite(str(folder / f"{number:03}.png"), np.roll(speckle, 97 * number))
    return folder


def init(command: Command, workspace: Path) -> None:
    """With a key that is the same in every run, since the key decides where parts are cut."""
    command("sono-curate", "init", workspace)
    (workspace / "secret.key").write_text("5e" * 32)


def tables(workspace: Path) -> dict[str, bytes]:
    return {
        path.relative_to(workspace).as_posix(): path.read_bytes()
        for path in sorted(workspace.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }


def start(tmp_path: Path, workspace: str) -> subprocess.Popen[bytes]:
    words = [word.format(workspace=workspace) for word in INGEST]
    return subprocess.Popen(
        words,
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def ends(group: int) -> bool:
    """Whether all processes of a group have ended, given ten seconds."""
    for _ in range(200):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    return False


def kill_often(
    tmp_path: Path, workspace: str, undisturbed_s: float, stop: Callable[[subprocess.Popen[bytes]], None]
) -> int:
    moments = random.Random(4)
    kills = 0
    for _ in range(30):
        process = start(tmp_path, workspace)
        try:
            process.wait(timeout=undisturbed_s * moments.uniform(0.35, 0.9))
        except subprocess.TimeoutExpired:
            stop(process)
            process.wait()
            assert ends(process.pid), "workers outlived their parent"
            kills += 1
        else:
            assert process.returncode == 0
            return kills
    raise AssertionError("thirty runs did not come to an end")


def test_sigkill_at_random_moments_changes_nothing(scans: Path, tmp_path: Path, command: Command) -> None:
    init(command, tmp_path / "undisturbed")
    shutil.copytree(tmp_path / "undisturbed", tmp_path / "killed")
    started = time.monotonic()
    command(*(word.format(workspace="undisturbed") for word in INGEST))
    undisturbed_s = time.monotonic() - started
    kills = kill_often(tmp_path, "killed", undisturbed_s, lambda process: process.kill())
    assert kills >= 2
    assert tables(tmp_path / "killed") == tables(tmp_path / "undisturbed")
    assert len(tables(tmp_path / "killed")) > 4


def test_ctrl_c_says_how_to_go_on(scans: Path, tmp_path: Path, command: Command) -> None:
    init(command, tmp_path / "archive")
    words = [word.format(workspace="archive") for word in INGEST]
    process = subprocess.Popen(
        words, cwd=tmp_path, env=environment(), stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    deadline = time.monotonic() + 60
    while not list((tmp_path / "archive").glob("frames/part-*")) and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    _, printed = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted; run the same command again" in printed
    assert "Traceback" not in printed
    assert not list((tmp_path / "archive").glob("*/.tmp-*"))
    command(*words)
    assert len(list((tmp_path / "archive").glob("frames/part-*"))) > 2

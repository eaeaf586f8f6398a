"""A run that is killed repeatedly ends with the weights, optimizer and log of one that was not."""

from __future__ import annotations

import csv
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from sono.training import recipes
from sono.training.pretraining import checkpoints
from sono.training.pretraining.run import pretrain
from sono.training.pretraining.step_log import TIMINGS

pytestmark = pytest.mark.slow

STEPS = 12
SETTINGS = (
    f"train.steps={STEPS}",
    "train.warmup_steps=2",
    "train.batch_size=8",
    "train.threads=1",  # two would wait for each other when other processes compete for the processor
    "checkpoint.every=1",
    "log.every=1",
)
COMMAND = ["--recipe", "tiny", "--resume", *(part for setting in SETTINGS for part in ("--set", setting))]


def start(dataset: Path, run: Path, workers: int = 0) -> subprocess.Popen[str]:
    code = "from sono.training.cli import main; main()"
    arguments = [sys.executable, "-c", code, "pretrain", str(dataset), str(run), *COMMAND]
    arguments += ["--set", f"data.workers={workers}"]
    return subprocess.Popen(
        arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def finish(dataset: Path, run: Path) -> None:
    process = start(dataset, run)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors


def steps_logged(run: Path) -> int:
    try:
        return (run / "log.csv").read_text().count("\n") - 1
    except FileNotFoundError:
        return -1


def wait_until(process: subprocess.Popen[str], holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while process.poll() is None and not holds():
        assert time.monotonic() < deadline
        time.sleep(0.0005)


@pytest.fixture(scope="module")
def undisturbed(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "undisturbed"
    pretrain([str(shapes)], run, recipes.override(recipes.tiny(), SETTINGS), notice=lambda _: None)
    return run


def newest(run: Path) -> checkpoints.Checkpoint:
    found = checkpoints.latest(run, pytest.fail)
    assert found is not None
    return found


def log(run: Path) -> list[dict[str, str]]:
    with (run / "log.csv").open() as file:
        return [{**line, **dict.fromkeys(TIMINGS, "")} for line in csv.DictReader(file)]


def assert_same_end(run: Path, other: Path) -> None:
    """Weights, optimizer, settings and log are equal, except for columns of time and memory."""
    one, two = newest(run), newest(other)
    assert {**one.meta, "sha256": ""} == {**two.meta, "sha256": ""}
    tensors, others = one.read(""), two.read("")
    assert tensors.keys() == others.keys()
    assert any(name.startswith("optimizer.") for name in tensors)
    for name, tensor in tensors.items():
        assert torch.equal(tensor, others[name]), name
    assert log(run) == log(other)


def test_a_run_killed_at_random_moments_and_during_saves_ends_the_same(
    undisturbed: Path, shapes: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    moments = random.Random(20)
    during_saves = 0
    for kill in range(3):
        process = start(shapes, run)
        before = max(0, steps_logged(run))
        target = before + moments.randint(1, 2)
        wait_until(process, lambda target=target: steps_logged(run) >= target)
        if kill % 2:  # while a checkpoint is being written
            wait_until(process, lambda: any((run / "checkpoints").glob(".tmp-*")))
        else:
            time.sleep(moments.uniform(0, 0.3))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL, "it ended before it could be killed"
        during_saves += any((run / "checkpoints").glob(".tmp-*"))
    assert during_saves > 0
    assert newest(run).meta["step"] < STEPS
    finish(shapes, run)
    assert not list((run / "checkpoints").glob(".tmp-*"))
    assert_same_end(run, undisturbed)


@pytest.mark.parametrize(("number", "workers"), [(signal.SIGTERM, 2), (signal.SIGINT, 0)])
def test_a_signal_saves_a_checkpoint_and_says_how_to_continue(
    number: signal.Signals, workers: int, undisturbed: Path, shapes: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    process = start(shapes, run, workers)
    wait_until(process, lambda: steps_logged(run) >= 2)
    os.killpg(process.pid, number)  # as a terminal and a scheduler do: the loading processes get it, too
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert f"stopped by {number.name} after step" in output
    assert "Traceback" not in errors
    step = newest(run).meta["step"]
    assert 2 <= step < STEPS
    assert steps_logged(run) == step
    if workers:
        finish(shapes, run)
        assert_same_end(run, undisturbed)

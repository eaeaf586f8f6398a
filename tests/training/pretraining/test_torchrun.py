"""Two ranks under torchrun: killed, stopped, or at fault; and resumed by another number of ranks."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from sono.training import recipes
from sono.training.data.dataset import open_split, read_description
from sono.training.data.mixture import mix
from sono.training.pretraining import checkpoints
from sono.training.pretraining.run import pretrain
from sono.training.pretraining.step_log import TIMINGS

pytestmark = pytest.mark.slow

STEPS = 8
SETTINGS = [
    f"train.steps={STEPS}", "train.warmup_steps=2", "train.batch_size=8", "train.threads=1", "train.accumulate=2",
    "checkpoint.every=2", "log.every=1", "data.cache=none", "loss.kind=sigmoid",
]  # fmt: skip


def options(dataset: Path, run: Path, *settings: str) -> list[object]:
    pairs = [part for setting in (*SETTINGS, *settings) for part in ("--set", setting)]
    return ["pretrain", dataset, run, "--recipe", "tiny", "--resume", *pairs]


def wait_for_steps(ranks: Any, run: Path, count: int) -> None:
    deadline = time.monotonic() + 90
    while len(lines(run)) < count:
        assert time.monotonic() < deadline
        assert ranks.alive(), ranks.output()
        time.sleep(0.002)


def lines(run: Path) -> list[dict[str, str]]:
    if not (run / "log.csv").exists():
        return []
    with (run / "log.csv").open() as file:
        return [{**line, **dict.fromkeys(TIMINGS, "")} for line in csv.DictReader(file)]


def newest(run: Path) -> checkpoints.Checkpoint:
    found = checkpoints.latest(run, lambda _: None)
    assert found is not None
    return found


def test_killed_and_stopped_ranks_end_as_if_undisturbed_and_a_single_rank_can_resume(
    shapes: Path, tmp_path: Path, start_ranks: Callable
) -> None:
    def start(run: Path) -> Any:
        return start_ranks(2, "sono-train", *options(shapes, run, "train.strategy=fsdp"))

    whole, run = tmp_path / "whole", tmp_path / "run"
    ranks = start(whole)
    assert ranks.end() == [0, 0], ranks.output()
    assert ranks.output("out").count("trained 8 steps") == 1  # only one of them reports
    assert len(list((whole / "checkpoints/step-00000008").glob("*.distcp"))) == 2

    ranks = start(run)
    wait_for_steps(ranks, run, 3)
    for process in ranks.processes:
        process.kill()
    assert ranks.end() == [-signal.SIGKILL] * 2

    ranks = start(run)
    wait_for_steps(ranks, run, 4)
    ranks.processes[1].terminate()  # one gets the signal; both save and end
    assert ranks.end() == [130, 130], ranks.output()
    assert ranks.output("out").count("stopped by SIGTERM after step") == 1
    stopped_at = newest(run).meta["step"]
    assert 4 <= stopped_at < STEPS
    assert len(lines(run)) == stopped_at
    alone = shutil.copytree(run, tmp_path / "alone")

    ranks = start(run)
    assert ranks.end() == [0, 0], ranks.output()
    one, two = newest(run).read(""), newest(whole).read("")
    assert one.keys() == two.keys()
    assert any(name.startswith("optimizer.") for name in one)
    assert all(torch.equal(value, two[name]) for name, value in one.items())
    assert lines(run) == lines(whole)

    pretrain([str(shapes)], alone, recipes.override(recipes.tiny(), SETTINGS), resume=True, notice=lambda _: None)
    pretrain([str(shapes)], tmp_path / "never", recipes.override(recipes.tiny(), SETTINGS), notice=lambda _: None)
    for other in (alone, tmp_path / "never"):  # a sample lost or repeated would show in the loss
        assert [line["step"] for line in lines(other)] == [line["step"] for line in lines(whole)]
        for found, wanted in zip(lines(other), lines(whole), strict=True):
            assert float(found["loss"]) == pytest.approx(float(wanted["loss"]), rel=1e-4), found["step"]
            assert float(found["grad_norm"]) == pytest.approx(float(wanted["grad_norm"]), rel=1e-3), found["step"]


def test_an_error_in_one_rank_ends_all_with_a_single_line(
    tmp_path: Path, make_rows: Callable, write_dataset: Callable
) -> None:
    """Under torchrun itself."""
    rows = make_rows(48, seed=11)
    rows[7]["image"]["bytes"] = rows[7]["image"]["bytes"][:100]
    folder = write_dataset(tmp_path / "dataset", {"train": rows})
    program = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "sono.training.cli"]
    done = subprocess.run(
        [sys.executable, *program, *map(str, options(folder, tmp_path / "run"))],
        env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    ours = [line for line in done.stderr.splitlines() if line.startswith("sono-train:")]
    assert len(ours) == 1, done.stderr
    assert f"frame {rows[7]['frame_id']}: the image cannot be decoded" in ours[0]
    assert "Traceback" not in done.stderr.partition("torch/distributed/elastic")[0]


def test_a_rank_that_dies_silently_does_not_leave_the_others_waiting(
    shapes: Path, tmp_path: Path, start_ranks: Callable
) -> None:
    run = tmp_path / "run"
    ranks = start_ranks(2, "sono-train", *options(shapes, run, "train.steps=1000", "checkpoint.every=1000"))
    wait_for_steps(ranks, run, 1)
    ranks.processes[1].kill()
    assert ranks.end(60)[0] == 1, ranks.output()
    assert "another rank has ended" in ranks.output()


def test_a_batch_that_ranks_cannot_share_is_refused(shapes: Path, tmp_path: Path, start_ranks: Callable) -> None:
    ranks = start_ranks(3, "sono-train", *options(shapes, tmp_path / "run"))
    assert ranks.end() == [1, 1, 1]
    assert ranks.output().count("sono-train:") == 1
    assert "train.batch_size is 8, which cannot be shared evenly among 3 ranks" in ranks.output()
    assert not (tmp_path / "run").exists()


def test_ranks_name_all_samples_of_a_batch_whose_loss_is_not_finite(
    shapes: Path, tmp_path: Path, start_ranks: Callable
) -> None:
    """With everything that saves memory: shards, micro-batches, gradient checkpointing, bf16, a frozen text tower."""
    run = tmp_path / "run"
    settings = ["train.strategy=fsdp", "train.precision=bf16", "model.grad_checkpointing=true", "optimizer.lr_text=0"]
    ranks = start_ranks(2, "sono-train", *options(shapes, run, *settings, "optimizer.lr_vision=1e30"))
    assert ranks.end() == [1, 1], ranks.output()
    assert ranks.output().count("sono-train:") == 1
    assert "so the step was not taken" in ranks.output()
    report = json.loads((run / "nan-batch.json").read_text())
    drawn = mix([240]).order(0, 0)[(report["step"] - 1) * 8 : report["step"] * 8, 1]
    frames = open_split(read_description(str(shapes)), "train")
    assert [sample["frame_id"] for sample in report["samples"]] == [frames.row(int(row))["frame_id"] for row in drawn]
    assert all(value.isfinite().all() for value in newest(run).read("model.").values())

"""examples/flow.py runs as its own help says, and what it prints is what its files hold."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

SCRIPT = Path(__file__).parents[2] / "examples" / "flow.py"
STEPS = 4


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("flow") / "out"
    (folder.parent / "printed.txt").write_text(run_flow(folder))
    return folder


def run_flow(out: Path) -> str:
    # Of eight examinations with seed 0, two patients at least are from the hospital that is held out.
    command = [sys.executable, str(SCRIPT), str(out), "--exams", "8", "--steps", str(STEPS)]
    environment = {
        **os.environ,
        "HF_HOME": str(out.parent / "huggingface"),
        "XDG_CACHE_HOME": str(out.parent / "cache"),
        "HF_HUB_OFFLINE": "1",
        "OMP_WAIT_POLICY": "PASSIVE",  # threads that wait for one another leave the processor to other tests
    }
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=1200, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_held_out_hospital_is_the_test_split_and_nothing_else(out: Path) -> None:
    assert (out / "dataset" / "sono.json").is_file()
    by_split: dict[str, set[str]] = {}
    patients: dict[str, set[str]] = {}
    for path in (out / "dataset").rglob("*.parquet"):
        split = next(name for name in ("train", "validation", "test") if path.name.startswith(name))
        table = pq.read_table(path, columns=["center", "patient_key", "caption"])
        by_split.setdefault(split, set()).update(table["center"].to_pylist())
        patients.setdefault(split, set()).update(table["patient_key"].to_pylist())
        assert all(table["caption"].to_pylist())
    assert by_split["test"] == {"south"}
    assert by_split["train"] == {"north"}
    assert not patients["test"] & patients["train"]


def test_training_ran_all_its_steps(out: Path) -> None:
    assert (out / "run" / "checkpoints" / f"step-{STEPS:08d}" / "sono.json").is_file()


def test_both_masks_are_scored_on_the_same_frames_and_the_figures_are_printed(out: Path) -> None:
    (file,) = (out / "run" / "evaluation").glob("*/test-both.json")
    result = json.loads(file.read_text())
    printed = (out.parent / "printed.txt").read_text()
    assert set(result["masks"]) == {"none", "region"}
    assert result["n_frames"] > 0
    assert result["n_patients"] > 1
    for figures in result["masks"].values():
        assert 0 <= figures["top1"]["low"] <= figures["top1"]["value"] <= figures["top1"]["high"] <= 1
        assert f"{figures['top1']['value']:.1%} (" in printed
    difference = result["masks"]["region"]["top1"]["value"] - result["masks"]["none"]["top1"]["value"]
    assert result["minus_none"]["region"]["top1"]["value"] == pytest.approx(difference)
    assert f"region - none {difference:.1%} (" in printed


def test_running_it_again_computes_nothing_and_gives_the_same_figures(out: Path) -> None:
    parts = {path: path.stat().st_mtime_ns for path in out.rglob("*.parquet")}
    log = (out / "run" / "log.csv").read_bytes()
    assert len(parts) > 10
    assert counts_and_figures(run_flow(out)) == counts_and_figures((out.parent / "printed.txt").read_text())
    assert parts == {path: path.stat().st_mtime_ns for path in out.rglob("*.parquet")}
    assert log == (out / "run" / "log.csv").read_bytes()


def counts_and_figures(printed: str) -> list[str]:
    """Without what training has to say about its cache, which is there the second time."""
    beginnings = ("north: ", "south: ", "captions: ", "dataset: ", "  ")
    lines = [line for line in printed.splitlines() if line.startswith(beginnings)]
    assert len(lines) == 10
    return lines

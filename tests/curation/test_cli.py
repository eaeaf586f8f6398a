"""What a person at the terminal meets: one line for each mistake, exit code 1, and nothing lost."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from sono.manifests.schemas import FRAMES
from sono.manifests.workspace import Workspace

PROGRAM = str(Path(sys.executable).with_name("sono-curate"))


def run(*words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([PROGRAM, *map(str, words)], capture_output=True, text=True, timeout=120)


@pytest.fixture
def filled(workspace: Workspace, archive: Path) -> Workspace:
    done = run("ingest", workspace.path, archive, "--patient-regex", r"^(P\d)/", "--json")
    assert json.loads(done.stdout)["sources"][0]["run"]["rows"] == 12
    return workspace


def bad_calls(folder: Path, workspace: Path) -> dict[str, tuple[list[object], str]]:
    (folder / "empty").mkdir()
    (folder / "wrong.csv").write_text("file,patient,CANARY\na,b,c\n")
    (folder / "nobody.csv").write_text("patient_id,ga_days\n,140\n")
    (folder / "wide.csv").write_text("patient_id,ga_dayz\nP1,140\n")
    (folder / "plane.csv").write_text("file,patient_id,plane\nP1/scan0.png,P1,CANARY\n")
    masks = folder / "masks"
    masks.mkdir()
    cv2.imwrite(str(masks / "other.png"), np.full((9, 9), 255, np.uint8))
    return {
        "missing workspace": (["qc", folder / "none"], "folder not found; run: sono-curate init"),
        "no workspace": (["qc", folder / "empty"], "not a workspace"),
        "missing folder": (["ingest", workspace, folder / "none"], "folder not found"),
        "empty folder": (["ingest", workspace, folder / "empty"], "holds no files"),
        "a file for a folder": (["ingest", workspace, folder / "wrong.csv"], "not a folder"),
        "missing column": (["ingest", workspace, masks, "--metadata", folder / "wrong.csv"], "'patient_id' is missing"),
        "unknown structure": (["masks", "import", workspace, masks, "--structure", "haed"], "did you mean 'head'"),
        "masks of nothing": (["masks", "import", workspace, masks, "--structure", "head"], "named like a frame"),
        "unknown column": (["caption", workspace, "--records", folder / "wide.csv"], "ga_dayz"),
        "missing records": (["caption", workspace, "--records", folder / "none.csv"], "none.csv"),
        "build too early": (["build", workspace, folder / "out"], "no qc yet; run sono-curate qc"),
        "bad shares": (["build", workspace, folder / "out", "--test", "1.5"], "leave nothing to train on"),
        "init twice": (["init", workspace], "not an empty folder"),
        "bad center": (["init", folder / "new", "--center", "a/b"], "cannot name a center"),
    }


def test_every_mistake_is_one_line_and_what_was_ingested_stays(filled: Workspace, tmp_path: Path) -> None:
    before = filled.store.read_all(FRAMES)
    for name, (words, expected) in bad_calls(tmp_path, filled.path).items():
        done = run(*words)
        assert done.returncode == 1, name
        lines = [line for line in done.stderr.splitlines() if line.strip() and "━" not in line]
        assert len(lines) == 1, f"{name}: {done.stderr}"
        assert lines[0].startswith("sono-curate: "), name
        assert expected in lines[0], f"{name}: {lines[0]}"
        assert "Traceback" not in done.stderr
    assert filled.store.read_all(FRAMES).equals(before)


def test_rows_that_cannot_be_used_are_counted_and_never_quoted(
    filled: Workspace, archive: Path, tmp_path: Path
) -> None:
    bad_calls(tmp_path, filled.path)
    done = run("ingest", filled.path, archive, "--metadata", tmp_path / "plane.csv", "--patient-regex", r"^(P\d)/")
    assert done.returncode == 0
    assert "left out 1: unknown_plane" in done.stdout
    assert "line 2: unknown plane" in done.stdout
    assert "CANARY" not in done.stdout + done.stderr
    done = run("caption", filled.path, "--records", tmp_path / "nobody.csv")
    assert done.returncode == 0, done.stderr
    assert "left out 1: patient" in done.stdout


def test_wrong_usage_is_exit_code_2() -> None:
    assert run("ingest").returncode == 2
    assert run("no-such-command").returncode == 2


def test_status_names_the_next_command_at_each_step(workspace: Workspace, archive: Path) -> None:
    assert "next        sono-curate ingest" in run("status", workspace.path).stdout
    run("ingest", workspace.path, archive, "--patient-regex", r"^(P\d)/")
    assert "next        sono-curate qc" in run("status", workspace.path).stdout
    run("qc", workspace.path)
    shown = run("status", workspace.path).stdout
    assert "12 of 4 patients: 12 unknown" in shown
    assert "12 accept" in shown
    assert "next        sono-curate masks import" in shown
    assert json.loads(run("status", workspace.path, "--json").stdout)["verdicts"]["accept"] == 12


def test_two_commands_do_not_write_to_one_workspace_at_once(filled: Workspace) -> None:
    with filled.writing():
        done = run("qc", filled.path)
    assert done.returncode == 1
    assert "another command is writing here" in done.stderr

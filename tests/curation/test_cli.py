"""The program at the terminal: one line and exit code 1 for a mistake, and nothing is lost."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import cv2
import numpy as np
import pytest

from sono.curation.cli import InOrderOfWork, main
from sono.manifests.schemas import FRAMES
from sono.manifests.workspace import Workspace, create

pytestmark = pytest.mark.slow  # each test starts a program, or several
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
    (folder / "wrong.csv").write_text("file,plane\na,b\n")
    (folder / "nobody.csv").write_text("patient_id,ga_days\n,140\n")
    (folder / "wide.csv").write_text("patient_id,ga_dayz\nP1,140\n")
    (folder / "toml").mkdir()
    for name, key in (
        ("key", "[qc]\nmin_contrats = 3\n"),
        ("order", "[qc]\nmin_mean_intensity = 200\nmax_mean_intensity = 20\n"),
        ("levels", "[qc]\nblack_level = 100\nwhite_level = 100\n"),
        ("infinite", "[qc]\nmin_contrast = inf\n"),
        ("field", '[ingest]\nplane_fields = ["SeriesDescripton"]\n'),
    ):
        create(folder / "toml" / name, "A")
        (folder / "toml" / name / "sono.toml").write_text(key)
    for name in ("key", "sono.toml"):
        create(folder / "folders" / name, "A")
    (folder / "folders" / "key" / "secret.key").unlink()
    (folder / "folders" / "key" / "secret.key").mkdir()
    (folder / "folders" / "sono.toml" / "sono.toml").unlink()
    (folder / "folders" / "sono.toml" / "sono.toml").mkdir()
    (folder / "column.csv").write_text("file,patient_id,plnae\n")
    (folder / "plane.csv").write_text("file,patient_id,plane\nP1/scan0.png,P1,CANARY\n")
    masks = folder / "masks"
    masks.mkdir()
    (folder / "by-folder" / "haed").mkdir(parents=True)
    for path in (masks / "other.png", folder / "by-folder" / "haed" / "other.png"):
        cv2.imwrite(str(path), np.full((9, 9), 255, np.uint8))
    return {
        "missing workspace": (["qc", folder / "none"], "folder not found; run: sono-curate init"),
        "no workspace": (["qc", folder / "empty"], "not a workspace"),
        "missing folder": (["ingest", workspace, folder / "none"], "folder not found"),
        "empty folder": (["ingest", workspace, folder / "empty"], "contains no files"),
        "a file for a folder": (["ingest", workspace, folder / "wrong.csv"], "not a folder"),
        "missing column": (["ingest", workspace, masks, "--metadata", folder / "wrong.csv"], "'patient_id' is missing"),
        "misspelt column": (
            ["ingest", workspace, masks, "--metadata", folder / "column.csv"],
            "column 3 is unknown; did you mean 'plane'?",
        ),
        "misspelt key": (["qc", folder / "toml" / "key"], "qc.min_contrats: unknown key; did you mean 'min_contrast'?"),
        "minimum above maximum": (
            ["qc", folder / "toml" / "order"],
            "qc: min_mean_intensity must be below max_mean_intensity",
        ),
        "levels in the wrong order": (["qc", folder / "toml" / "levels"], "black_level must be below white_level"),
        "an infinite number": (["qc", folder / "toml" / "infinite"], "qc.min_contrast: not a finite number"),
        "the key is a folder": (
            ["ingest", folder / "folders" / "key", masks],
            "secret.key: a folder is where a file should be",
        ),
        "sono.toml is a folder": (["qc", folder / "folders" / "sono.toml"], "not a workspace"),
        "phantoms over a file": (["phantom", folder / "wide.csv"], "wide.csv: "),
        "misspelt plane field": (
            ["ingest", folder / "toml" / "field", masks],
            "not the keyword of a DICOM attribute; did you mean 'SeriesDescription'?",
        ),
        "misspelt folder of masks": (["masks", "import", workspace, folder / "by-folder"], "did you mean 'head'?"),
        "unknown structure": (["masks", "import", workspace, masks, "--structure", "haed"], "did you mean 'head'"),
        "masks of nothing": (
            ["masks", "import", workspace, masks, "--structure", "head"],
            "has the name of a frame's image",
        ),
        "unknown column": (["caption", workspace, "--records", folder / "wide.csv"], "ga_dayz"),
        "missing records": (["caption", workspace, "--records", folder / "none.csv"], "none.csv"),
        "build too early": (["build", workspace, folder / "out"], "no qc yet; run sono-curate qc"),
        "bad shares": (["build", workspace, folder / "out", "--test", "1.5"], "leave nothing to train on"),
        "init twice": (["init", workspace], "not an empty folder"),
        "bad center": (["init", folder / "new", "--center", "a/b"], "cannot be the name of a center"),
    }


@pytest.mark.slow
def test_every_mistake_is_one_line_and_what_was_ingested_stays(
    filled: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(signal, "signal", lambda *_: None)  # the program would set pytest's own handler
    before = filled.store.read_all(FRAMES)
    for name, (words, expected) in bad_calls(tmp_path, filled.path).items():
        monkeypatch.setattr(sys, "argv", ["sono-curate", *map(str, words)])
        with pytest.raises(SystemExit) as end:
            main()
        assert end.value.code == 1, name
        stderr = capsys.readouterr().err
        lines = [line for line in stderr.splitlines() if line.strip() and "━" not in line]
        assert len(lines) == 1, f"{name}: {stderr}"
        assert lines[0].startswith("sono-curate: "), name
        assert expected in lines[0], f"{name}: {lines[0]}"
    assert filled.store.read_all(FRAMES).equals(before)


@pytest.mark.slow
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


def test_a_full_disk_is_one_line_and_nothing_partial_stays(workspace: Workspace, archive: Path) -> None:
    """A limit to the size of files, which ends a write as a full disk does, in a worker process."""
    words = [PROGRAM, "ingest", str(workspace.path), str(archive), "--patient-regex", r"^(P\d)/"]
    limited = ["sh", "-c", 'ulimit -f 100; exec "$@"', "sh", *words]
    done = subprocess.run(limited, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1, done.stderr
    assert done.stderr.splitlines()[-1].startswith("sono-curate: a file would be larger than allowed here")
    assert "Traceback" not in done.stderr
    assert list(workspace.path.glob("*/*")) == []
    assert subprocess.run(words, capture_output=True, timeout=120, check=False).returncode == 0


def test_wrong_usage_is_exit_code_2_and_a_misspelt_command_is_corrected() -> None:
    assert run("ingest").returncode == 2
    done = run("statsu")
    assert done.returncode == 2
    assert "Did you mean 'status'?" in done.stderr


def test_help_lists_the_commands_in_the_order_of_the_work() -> None:
    lines = [line.strip("│ ") for line in run("--help").stdout.splitlines()]
    words = [line.split()[0] for line in lines if line]
    listed = [word for word in words if word in InOrderOfWork.ORDER]
    assert listed == list(InOrderOfWork.ORDER)


def test_version_is_that_of_the_package() -> None:
    assert run("--version").stdout == f"sono-curate {version('sono-curate')}\n"


@pytest.mark.slow
def test_two_commands_do_not_write_to_one_workspace_at_once(filled: Workspace) -> None:
    with filled.writing():
        done = run("qc", filled.path)
    assert done.returncode == 1
    assert "another command is writing here" in done.stderr

"""Every step ends with the command that is due, and ``status`` names it, too."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from sono.manifests.workspace import Workspace

from .conftest import SonoCurate


def next_step(printed: str) -> str:
    (line,) = [line for line in printed.splitlines() if line.startswith("Next: ")]
    return line.removeprefix("Next: ")


def test_each_step_up_to_captions_names_the_next_one(
    workspace: Workspace, archive: Path, sono_curate: SonoCurate
) -> None:
    path = workspace.path
    assert next_step(sono_curate("status", path)) == f"sono-curate ingest {path} SOURCE"
    ingested = sono_curate("ingest", path, archive, "--patient-regex", r"^(P\d)/", "--cropped")
    assert next_step(ingested) == next_step(sono_curate("status", path)) == f"sono-curate qc {path}"
    checked = sono_curate("qc", path)
    assert f"Look at {path / 'reports' / 'qc.html'}" in checked
    assert "--cropped" not in checked
    assert next_step(checked) == f"sono-curate masks import {path} DIR --structure NAME"
    status = sono_curate("status", path)
    assert next_step(status) == next_step(checked)
    assert "12 of 4 patients: 12 unknown" in status
    assert "12 accept" in status
    assert json.loads(sono_curate("status", path, "--json"))["verdicts"]["accept"] == 12


def test_reasons_are_counted_and_images_that_may_have_been_cropped_are_noticed(
    workspace: Workspace, hc18: Path, tmp_path: Path, sono_curate: SonoCurate
) -> None:
    """Fans that the image cuts on all sides have no edge that could be seen."""
    (tmp_path / "scans").mkdir()
    for name in ("005_HC.png", "006_HC.png", "024_HC.png"):
        shutil.copy(hc18 / "images" / name, tmp_path / "scans")
    sono_curate("ingest", workspace.path, tmp_path / "scans", "--patient-regex", r"^(\d{3})_")
    printed = sono_curate("qc", workspace.path)
    reasons = json.loads(sono_curate("qc", workspace.path, "--json"))["reasons"]
    assert reasons
    assert all(f"  {count}: {reason}" in printed for reason, count in reasons.items())
    assert "ingest them with --cropped" in printed


def test_after_init_comes_ingest(tmp_path: Path, sono_curate: SonoCurate) -> None:
    assert next_step(sono_curate("init", tmp_path / "new")) == f"sono-curate ingest {tmp_path / 'new'} SOURCE"


@pytest.mark.slow
def test_status_knows_a_finished_dataset(
    captioned: Workspace, tmp_path: Path, sono_curate: SonoCurate, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, out = captioned.path, tmp_path / "dataset"
    assert next_step(sono_curate("status", path)) == f"sono-curate build {path} OUT"
    built = sono_curate("build", path, out, "--allow-unchecked-text", "--seed", 3)
    status = sono_curate("status", path)
    assert next_step(built) == next_step(status) == f"sono-train pretrain {out} RUN --recipe tiny"
    assert f"up to date: {out}" in status
    monkeypatch.chdir(tmp_path)
    assert next_step(sono_curate("status", path)) == "sono-train pretrain dataset RUN --recipe tiny"


@pytest.mark.slow
def test_status_says_how_to_bring_a_stale_dataset_up_to_date(
    captioned: Workspace, tmp_path: Path, sono_curate: SonoCurate
) -> None:
    path, out = captioned.path, tmp_path / "dataset"
    options = "--max-side 64 --image-format jpeg --quality 80 --seed 3 --allow-unchecked-text"
    sono_curate("build", path, out, *options.split())
    sono_curate("caption", path, "--records", tmp_path / "records.csv", "--templates", "paper")
    status = sono_curate("status", path)
    assert f"stale: {out}" in status
    assert next_step(status) == f"sono-curate build {path} {out} {options}"
    sono_curate("build", path, out, *options.split())
    assert f"up to date: {out}" in sono_curate("status", path)


@pytest.mark.slow
def test_a_dataset_that_another_build_changed_is_stale_and_a_removed_one_is_forgotten(
    captioned: Workspace, tmp_path: Path, sono_curate: SonoCurate
) -> None:
    path, out = captioned.path, tmp_path / "dataset"
    sono_curate("build", path, out, "--allow-unchecked-text")
    (out / "sono.json").unlink()  # as an interrupted build leaves it
    assert f"stale: {out}" in sono_curate("status", path)
    shutil.rmtree(out)
    assert next_step(sono_curate("status", path)) == f"sono-curate build {path} OUT"

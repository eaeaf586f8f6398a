"""``masks propose`` at the terminal: what it did, and what it left alone and why."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from sono.curation.cli import app
from sono.manifests.errors import UserError
from sono.manifests.schemas import REGIONS
from sono.manifests.workspace import Workspace

from .conftest import SonoCurate


@pytest.fixture
def judged(workspace: Workspace, archive: Path, tmp_path: Path, sono_curate: SonoCurate) -> Workspace:
    files = [f"P{patient}/scan{scan}" for patient in range(1, 5) for scan in range(3)]
    rows = [f"{file},{file[:2]},{'transthalamic' if file != 'P1/scan0' else ''}" for file in files]
    (tmp_path / "files.csv").write_text("\n".join(["file,patient_id,plane", *rows]))
    sono_curate("ingest", workspace.path, archive, "--metadata", tmp_path / "files.csv", "--cropped")
    sono_curate("qc", workspace.path)
    return workspace


@pytest.mark.slow
def test_what_was_proposed_and_what_was_not_is_said(judged: Workspace, sono_curate: SonoCurate) -> None:
    printed = sono_curate("masks", "propose", judged.path, "--structure", "head", "--limit", "2")
    assert printed.startswith("2 proposed regions. ")
    assert "left out 1 frames without a plane" in printed
    printed = sono_curate("masks", "propose", judged.path)
    assert f"Look at {judged.path / 'reports' / 'masks.html'}" in printed
    assert printed.startswith("11 proposed regions. ")
    assert "  not proposed in 11 frames: thalami, whose place is unknown" in printed
    assert "Places are learned once 5 masks of 3 patients are accepted for a plane." in printed
    report = json.loads(sono_curate("masks", "propose", judged.path, "--json"))
    assert (report["run"]["up_to_date"], report["run"]["computed"], report["without_plane"]) == (1, 0, 1)
    assert "proposed" in Path(report["report"]).read_text()
    status = sono_curate("status", judged.path)
    assert "proposed    11: 11 head" in status
    assert "not measured" not in status
    assert judged.store.count_rows(REGIONS) == 11


def test_a_backend_without_its_files_names_the_option(workspace: Workspace) -> None:
    result = CliRunner().invoke(app, ["masks", "propose", str(workspace.path), "--backend", "sam"])
    assert isinstance(result.exception, UserError)
    assert "--backend sam needs --checkpoint FILE" in str(result.exception)

"""The program, called in this process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from sono.curation.cli import app
from sono.curation.commands import options
from sono.manifests.stages import in_process
from sono.manifests.workspace import Workspace

SonoCurate = Callable[..., str]


@pytest.fixture
def sono_curate(monkeypatch: pytest.MonkeyPatch) -> SonoCurate:
    """Runs a command without worker processes, which take longer to start than these archives take to read.

    Returns what the command printed on stdout.
    """
    monkeypatch.setattr(options, "local_engine", lambda workers: in_process)

    def run(*words: object) -> str:
        result = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return result.stdout

    return run


@pytest.fixture
def captioned(workspace: Workspace, archive: Path, tmp_path: Path, sono_curate: SonoCurate) -> Workspace:
    """Twelve frames of four patients, all of them accepted and captioned."""
    files = [f"P{patient}/scan{scan}" for patient in range(1, 5) for scan in range(3)]
    rows = [f"{file},{file[:2]},four_chamber" for file in files]
    (tmp_path / "files.csv").write_text("\n".join(["file,patient_id,plane", *rows]))
    (tmp_path / "records.csv").write_text("\n".join(["patient_id,ga_days", *(f"P{n},{150 + n}" for n in range(1, 5))]))
    sono_curate("ingest", workspace.path, archive, "--metadata", tmp_path / "files.csv", "--cropped")
    sono_curate("qc", workspace.path)
    sono_curate("caption", workspace.path, "--records", tmp_path / "records.csv")
    return workspace

"""A dataset that may be published, with the workspace that it was built from."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Protocol

import pytest
from click.testing import Result
from typer.testing import CliRunner

from sono.curation.audit.report.result import report_of, save_report
from sono.curation.cli import app
from sono.manifests.fingerprints import tables_fingerprint
from sono.manifests.schemas import TABLES
from sono.manifests.workspace import Workspace, open_workspace
from tests.curation.dataset.conftest import curation  # noqa: F401 - a fixture
from tests.curation.dataset.curated import Curation

REPO = "hospital/frames"
MadeOnce = Callable[[str, Callable[[Path], object]], Path]


class Publish(Protocol):
    def __call__(
        self, *words: object, repo: str = REPO, folder: Path | None = None, typed: str | None = None
    ) -> Result: ...


@dataclass(frozen=True)
class Ready:
    """A dataset of twelve frames in ``folder`` that passes the gate."""

    folder: Path
    workspace: Workspace

    def audit(self, passed: bool = True) -> None:
        """Note an audit of the tables as they are."""
        outcome = "passed" if passed else "failed"
        row = {
            "action": "text_removed",
            "outcome": outcome,
            "checks": 1,
            "table": "frames",
            "reason": "r",
            "examples": [],
        }
        fingerprint = tables_fingerprint(self.workspace.store, TABLES.values())
        save_report(
            self.workspace,
            report_of([row], files=1, frames=12, tables_fingerprint=fingerprint, sources_fingerprint="0" * 64),
        )

    @property
    def marker(self) -> dict[str, object]:
        content: dict[str, object] = json.loads((self.folder / "sono.json").read_bytes())
        return content


@pytest.fixture
def ready(made_once: MadeOnce, request: pytest.FixtureRequest, tmp_path: Path) -> Ready:
    def fill(folder: Path) -> None:
        built: Curation = request.getfixturevalue("curation")
        built.publish(licence="CC-BY-4.0")
        Ready(folder / "dataset", built.workspace).audit()  # first, so that the dataset states it
        built.build(folder / "dataset")
        shutil.copytree(built.workspace.path, folder / "workspace")

    shutil.copytree(made_once("publishable", fill), tmp_path / "ready")
    ready = Ready(tmp_path / "ready" / "dataset", open_workspace(tmp_path / "ready" / "workspace"))
    ready.audit()
    return ready


@pytest.fixture
def publish(ready: Ready, monkeypatch: pytest.MonkeyPatch) -> Publish:
    """Runs ``sono-curate publish`` in this process, without waiting where it would wait for the Hub."""
    monkeypatch.setattr("sono.manifests.hub.time", SimpleNamespace(sleep=lambda seconds: None))

    def run(*words: object, repo: str = REPO, folder: Path | None = None, typed: str | None = None) -> Result:
        line = ["publish", folder or ready.folder, repo, "--workspace", ready.workspace.path, *words]
        return CliRunner().invoke(app, [str(word) for word in line], input=typed)

    return run

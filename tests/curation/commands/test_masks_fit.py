"""``masks fit`` says what is missing in one line, and does nothing before it knows."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from typer.testing import CliRunner

from sono.curation.cli import app
from sono.manifests.errors import UserError
from sono.manifests.workspace import Workspace


def fail(*words: object) -> str:
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert isinstance(result.exception, UserError)
    return str(result.exception)


def test_a_workspace_without_masks_is_told_what_to_run(workspace: Workspace, tmp_path: Path) -> None:
    assert "no frames yet; run sono-curate ingest first" in fail("masks", "fit", workspace.path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_missing_library_is_named_with_its_extra(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = importlib.import_module

    def without(name: str, *rest: Any) -> ModuleType:
        if name.startswith("segmentation_models_pytorch"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return real(name, *rest)

    monkeypatch.setattr(importlib, "import_module", without)
    told = fail("masks", "fit", workspace.path, tmp_path / "out")
    assert told.endswith("which is not installed; run: pip install 'sono-curate[fit]'")

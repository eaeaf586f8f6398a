"""Masks of a cine through the commands: imported, carried, checked, and counted in the status."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sono.manifests.workspace import Workspace
from tests.curation.masks.cines import draw_cine

from .conftest import SonoCurate


@pytest.mark.slow
def test_masks_are_carried_and_checked(workspace: Workspace, tmp_path: Path, sono_curate: SonoCurate) -> None:
    drawn, path = draw_cine(4), workspace.path
    drawn.save(tmp_path / "scans" / "P1.tiff")
    drawn.save_mask(tmp_path / "masks" / "head", "P1", "head", 0)
    sono_curate("ingest", path, tmp_path / "scans", "--patient-regex", r"^(P\d)", "--cropped")
    sono_curate("masks", "import", path, tmp_path / "masks")
    carried = sono_curate("masks", "carry", path, "--structure", "skull")
    assert "3 regions. 1 parts computed" in carried
    assert f"Look at {path / 'reports' / 'masks.html'}" in carried
    refined = json.loads(sono_curate("masks", "carry", path, "--backend", "grabcut", "--json"))
    assert refined["run"]["rows"] == 3
    assert "4 masks" in sono_curate("masks", "check", path)
    status = json.loads(sono_curate("status", path, "--json"))
    assert (status["regions"], status["proposed"]) == ({"head": 1}, {"head": 3})
    assert status["masks_not_measured"] == 0
    assert set(status["mask_checks"].values()) == {0}

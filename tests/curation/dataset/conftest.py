"""Fixtures of the tests of build."""

from __future__ import annotations

from pathlib import Path

import pytest

from sono.manifests.workspace import Workspace

from .curated import Curation


@pytest.fixture
def curation(workspace: Workspace, archive: Path, tmp_path: Path) -> Curation:
    curation = Curation(workspace, archive, tmp_path)
    curation.describe()
    curation.run()
    return curation

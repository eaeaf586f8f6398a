"""An index of a bulk export, still empty."""

from __future__ import annotations

from pathlib import Path

import pytest

from sono.captioning.readers.fhir.index import Index


@pytest.fixture
def index(tmp_path: Path) -> Index:
    return Index(tmp_path / "references")

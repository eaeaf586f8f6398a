"""Fixtures that several folders of tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real ultrasound, which the project does not ship."""
    folder = Path(os.environ.get("SONO_SHARED_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip("real ultrasound is not here: set SONO_SHARED_DATA to the folder that holds hc18/ and us_dicom/")
    return folder


@pytest.fixture(scope="session")
def hc18(shared_data: Path) -> Path:
    return shared_data / "hc18"


@pytest.fixture(scope="session")
def us_dicom(shared_data: Path) -> Path:
    return shared_data / "us_dicom"

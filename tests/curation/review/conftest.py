"""A journal that tests decide in."""

from __future__ import annotations

from pathlib import Path

import pytest

from sono.manifests.journal import Journal, journal_path
from tests.curation.review.decisions import Decisions


@pytest.fixture
def decisions(tmp_path: Path) -> Decisions:
    return Decisions(Journal(journal_path(tmp_path)))

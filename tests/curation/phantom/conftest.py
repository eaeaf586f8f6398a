"""Archives that are drawn once per worker: drawing takes seconds per examination."""

from __future__ import annotations

import pytest

from tests.curation.phantom.archive import EXAMS, OTHER_SEED, SEED, Curated, Phantom, curate, draw_and_read


@pytest.fixture(scope="session")
def phantom_archive(tmp_path_factory: pytest.TempPathFactory) -> Phantom:
    return draw_and_read(tmp_path_factory.mktemp("phantom") / "out", SEED, EXAMS)


@pytest.fixture(scope="session")
def other_archive(tmp_path_factory: pytest.TempPathFactory) -> Phantom:
    return draw_and_read(tmp_path_factory.mktemp("other") / "out", OTHER_SEED, 1)


@pytest.fixture(scope="session")
def curated(phantom_archive: Phantom, tmp_path_factory: pytest.TempPathFactory) -> Curated:
    return curate(phantom_archive, tmp_path_factory.mktemp("curated") / "workspace")

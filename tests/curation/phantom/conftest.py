"""Archives that are drawn once for all workers: drawing takes seconds per examination."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.curation.phantom.archive import EXAMS, OTHER_SEED, SEED, Curated, Phantom, curate, draw_and_read, read

MadeOnce = Callable[[str, Callable[[Path], object]], Path]


@pytest.fixture(scope="session")
def phantom_archive(made_once: MadeOnce) -> Phantom:
    folder = made_once("phantom", lambda folder: draw_and_read(folder / "out", SEED, EXAMS))
    return read(folder / "out", SEED, EXAMS)


@pytest.fixture(scope="session")
def other_archive(made_once: MadeOnce) -> Phantom:
    folder = made_once("other_phantom", lambda folder: draw_and_read(folder / "out", OTHER_SEED, 1))
    return read(folder / "out", OTHER_SEED, 1)


@pytest.fixture(scope="session")
def curated(phantom_archive: Phantom, tmp_path_factory: pytest.TempPathFactory) -> Curated:
    return curate(phantom_archive, tmp_path_factory.mktemp("curated") / "workspace")

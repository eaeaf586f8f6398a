"""A journal that tests decide in, and real servers of a real workspace."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sono.curation.masks.run import import_masks
from sono.curation.qc.run import qc
from sono.manifests.journal import Journal
from sono.manifests.journal_file import journal_path
from sono.manifests.stages import in_process
from sono.manifests.workspace import Workspace
from tests.curation.masks.conftest import _six_frames, empty
from tests.curation.review.decisions import Decisions
from tests.curation.review.serving import Server, start_server

__all__ = ["_six_frames", "empty"]


@pytest.fixture
def decisions(tmp_path: Path) -> Decisions:
    return Decisions(Journal(journal_path(tmp_path)))


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    """Starts servers, which end with the test."""
    started: list[Server] = []

    def start(workspace: Path | Workspace, *options: str) -> Server:
        path = workspace.path if isinstance(workspace, Workspace) else workspace
        named = options if "--reviewer" in options else ("--reviewer", "anna", *options)
        started.append(start_server(path, *named))
        return started[-1]

    yield start
    for server in started:
        if server.process.poll() is None:
            server.process.kill()
        server.process.wait()
        for stream in (server.process.stdout, server.process.stderr):
            if stream:
                stream.close()


@pytest.fixture
def drawn(_six_frames: Path, tmp_path: Path) -> Path:
    """The masks of the six frames as PNG files, which a test may change."""
    return Path(shutil.copytree(_six_frames / "masks", tmp_path / "drawn"))


@pytest.fixture
def predicted(_six_frames: Path, tmp_path: Path) -> Workspace:
    """Six frames with three masks each that a program made, judged by quality control."""
    workspace = Workspace(Path(shutil.copytree(_six_frames / "workspace", tmp_path / "predicted")))
    report = import_masks(workspace, _six_frames / "masks", mask_format="png", predicted=True, engine=in_process)
    assert report.rows == 18
    qc(workspace, engine=in_process)
    return workspace

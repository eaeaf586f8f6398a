"""``caption`` names its page and the next step; ``preview`` and ``trace`` explain captions and write nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sono.manifests.schemas import CAPTIONS
from sono.manifests.workspace import Workspace

from .conftest import SonoCurate


def files(workspace: Workspace) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in workspace.path.rglob("*") if path.is_file()}


@pytest.mark.slow
def test_caption_ends_with_its_page_and_the_next_command(
    captioned: Workspace, tmp_path: Path, sono_curate: SonoCurate
) -> None:
    *_, page, next_step = sono_curate("caption", captioned.path, "--records", tmp_path / "records.csv").splitlines()
    assert page == f"Look at {captioned.reports / 'captions.html'}"
    assert next_step == f"Next: sono-curate build {captioned.path} OUT"


@pytest.mark.slow
def test_preview_shows_as_many_examples_as_asked_for(captioned: Workspace, sono_curate: SonoCurate) -> None:
    before = files(captioned)
    shown = json.loads(sono_curate("preview", captioned.path, "--count", 3, "--templates", "paper", "--json"))
    assert len(shown["examples"]) == 3
    assert all("four" in example["text"].lower() for example in shown["examples"])
    assert shown["examples"][0]["text"] in sono_curate("preview", captioned.path, "--count", 3, "--templates", "paper")
    assert files(captioned) == before


@pytest.mark.slow
def test_trace_shows_what_a_caption_was_made_from(captioned: Workspace, sono_curate: SonoCurate) -> None:
    caption = captioned.store.read_all(CAPTIONS).to_pylist()[0]
    before = files(captioned)
    traced = json.loads(sono_curate("trace", captioned.path, caption["caption_id"], "--json"))
    assert traced["caption_id"] == caption["caption_id"]
    assert caption["text"] in " ".join(sono_curate("trace", captioned.path, caption["caption_id"]).split())
    assert files(captioned) == before

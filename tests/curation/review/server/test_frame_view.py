"""The page shows what other commands have written since the server started."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from sono.curation.review.server.frame_index import FrameIndex
from sono.curation.review.server.frame_view import FrameReader
from sono.manifests.journal import Journal
from sono.manifests.journal_file import journal_path
from sono.manifests.schemas import REGIONS
from sono.manifests.workspace import Workspace
from tests.curation.review.serving import Server


def reader_of(workspace: Workspace) -> FrameReader:
    index = FrameIndex(workspace.store, workspace.path / "cache" / "review")
    index.refresh()
    return FrameReader(workspace.store, index, Journal(journal_path(workspace.path)))


def another(row: dict[str, Any]) -> dict[str, Any]:
    """One more proposal in the same frame."""
    return {**row, "region_id": f"another than {row['region_id']}", "structure": "falx"}


def test_a_mask_that_came_into_a_known_part_is_shown(predicted: Workspace) -> None:
    reader = reader_of(predicted)
    store = predicted.store
    ((name, info),) = store.parts(REGIONS).items()
    rows = store.read(REGIONS, name).to_pylist()
    frame_id = rows[0]["frame_id"]
    assert len(reader.regions(frame_id)) == 3
    store.write(REGIONS, replace(info, rows=19), REGIONS.from_rows([*rows, another(rows[0])]))
    assert len(reader.regions(frame_id)) == 4


@pytest.mark.slow
def test_a_mask_is_shown_whatever_is_stored_as_its_scores(predicted: Workspace, serve: Callable[..., Server]) -> None:
    ((name, info),) = predicted.store.parts(REGIONS).items()
    rows = predicted.store.read(REGIONS, name).to_pylist()
    stored = ('{"score": NaN, "fit": 0.5, "stability": 1e999, "contrast": "high"}', "not JSON", "[1]")
    frame_id = rows[0]["frame_id"]
    here = [row for row in rows if row["frame_id"] == frame_id]
    for row, text in zip(here, stored, strict=True):
        row["scores"] = text
    predicted.store.write(REGIONS, info, REGIONS.from_rows(rows))
    found = serve(predicted).client().get(f"/api/frames/{frame_id}")["regions"]
    scores = {region["region_id"]: region["scores"] for region in found}
    assert [scores[row["region_id"]] for row in here] == [{"fit": 0.5}, {}, {}]

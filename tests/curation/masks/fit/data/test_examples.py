"""Which masks are learned from: those that a person stands behind, of frames that count."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from sono.curation.masks.fit.data.examples import REASONS, Selection, select_examples
from sono.manifests.errors import UserError
from sono.manifests.schemas import FRAMES, QC, REGIONS
from sono.manifests.workspace import Workspace

pytestmark = pytest.mark.slow


def change(workspace: Workspace, edit: Callable[[dict[str, object]], None], structure: str = "head") -> Selection:
    """What is selected after ``edit`` has changed the first region of a structure."""
    store = workspace.store
    rows = [(name, store.read(REGIONS, name).to_pylist()) for name in store.parts(REGIONS)]
    target = min(row["region_id"] for _, part in rows for row in part if row["structure"] == structure)
    for name, part in rows:
        for row in part:
            if row["region_id"] == target:
                edit(row)
        store.write(REGIONS, store.parts(REGIONS)[name], REGIONS.from_rows(part))
    return select_examples(workspace)


def test_all_accepted_masks_of_accepted_frames_are_taken(with_masks: Workspace) -> None:
    selection = select_examples(with_masks)
    assert len(selection.examples) == 18
    assert sum(len(example.regions) for example in selection.examples) == 21
    assert selection.left_out == {}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"status": "proposed", "source": "sam"}, "not_accepted"),
        ({"status": "rejected"}, "not_accepted"),
        ({"source": "model"}, "unreviewed_prediction"),
        ({"pixel_digest": "0" * 32}, "pixels_changed"),
        ({"area_px": 0}, "empty_mask"),
        ({"frame_id": "0" * 32}, "frame_missing"),
    ],
)
def test_masks_that_do_not_count_are_counted(with_masks: Workspace, changes: dict[str, object], reason: str) -> None:
    selection = change(with_masks, lambda row: row.update(changes))
    assert selection.left_out == {reason: 1}
    assert reason in REASONS
    doubtful = [example for example in selection.examples if "head" in example.doubtful]
    assert all("head" not in example.regions for example in doubtful)


def test_a_rejected_mask_leaves_its_structure_in_doubt(with_masks: Workspace) -> None:
    selection = change(with_masks, lambda row: row.update(status="rejected"), "thalami")
    assert [example.doubtful for example in selection.examples if example.doubtful] == [frozenset({"thalami"})]


@pytest.mark.parametrize("changes", [{"status": "edited"}, {"reviewer": "R1"}])
def test_a_programs_mask_counts_once_a_person_decided(with_masks: Workspace, changes: dict[str, object]) -> None:
    assert change(with_masks, lambda row: row.update(changes, source="model")).left_out == {}


def test_of_two_readings_the_newer_decision_counts(with_masks: Workspace) -> None:
    store = with_masks.store
    name = next(iter(store.parts(REGIONS)))
    rows = store.read(REGIONS, name).to_pylist()
    newer = {**rows[0], "region_id": "newer", "source": "manual", "updated_at": datetime(2026, 1, 2, tzinfo=UTC)}
    store.write(REGIONS, store.parts(REGIONS)[name], REGIONS.from_rows([*rows, newer]))
    selection = select_examples(with_masks)
    chosen = next(one for one in selection.examples if one.frame_id == rows[0]["frame_id"])
    assert chosen.regions[rows[0]["structure"]][0] == "newer"
    assert selection.left_out == {"other_reading": 1}


def test_structures_and_centers_can_be_chosen(with_masks: Workspace) -> None:
    selection = select_examples(with_masks, {"thalami"})
    assert [set(example.regions) for example in selection.examples] == [{"thalami"}] * 3
    assert selection.left_out == {"other_structure": 18}
    with pytest.raises(UserError, match=r"no region to learn from .*other_center 21"):
        select_examples(with_masks, (), {"Hospital B"})


def test_frames_that_quality_control_has_not_judged_are_refused(with_masks: Workspace) -> None:
    for path in with_masks.store.paths(QC):
        path.unlink()
    with pytest.raises(UserError, match="no qc yet"):
        select_examples(with_masks)


def test_an_interrupted_ingest_is_refused(with_masks: Workspace) -> None:
    store = with_masks.store
    name, info = next(iter(store.parts(FRAMES).items()))
    Path(store.path(FRAMES, "copy")).write_bytes(store.path(FRAMES, name).read_bytes())
    del info
    with pytest.raises(UserError, match=r"out of date|interrupted"):
        select_examples(with_masks)

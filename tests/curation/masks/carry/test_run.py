"""Carried masks are proposals with a parent, made once, anew when the parent changes, and never over a decision."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sono.curation.check import check_workspace
from sono.curation.masks.backends.registry import BackendChoice
from sono.curation.masks.carry.run import carry_masks
from sono.curation.masks.run import import_masks
from sono.curation.status import read_status
from sono.manifests import masks
from sono.manifests.errors import UserError
from sono.manifests.exclusions import count_exclusions
from sono.manifests.schemas import FRAMES, REGIONS
from sono.manifests.stages import RunReport, in_process
from sono.manifests.workspace import Workspace
from tests.curation.masks.cines import DrawnCine
from tests.curation.masks.interruptions import double_rows, interrupted, move_parts
from tests.manifests.reviewing import Reviewer

Row = dict[str, Any]
HEAD, CAVUM = "head", "cavum_septi_pellucidi"


def run(workspace: Workspace, **options: Any) -> RunReport:
    return carry_masks(workspace, engine=in_process, **options)


def regions(workspace: Workspace) -> dict[tuple[int, str, str], Row]:
    """By frame, structure and source."""
    keys = workspace.keys
    frames = {keys.frame(keys.source("P1.tiff"), index): index for index in range(9)}
    return {
        (frames[row["frame_id"]], row["structure"], row["source"]): row
        for row in workspace.store.read_all(REGIONS).to_pylist()
    }


def decide(workspace: Workspace, change: Callable[[Row], Row]) -> None:
    """Change rows where they are, as a person's decisions do."""
    for name, info in workspace.store.parts(REGIONS).items():
        rows = [change(row) for row in workspace.store.read(REGIONS, name).to_pylist()]
        workspace.store.write(REGIONS, info, REGIONS.from_rows(rows))


def decided(status: str, frame: int, structure: str, workspace: Workspace) -> Callable[[Row], Row]:
    keys = workspace.keys
    region = keys.region(keys.frame(keys.source("P1.tiff"), frame), structure, "flow")
    now = datetime(2026, 3, 1, tzinfo=UTC)
    return lambda row: {**row, "status": status, "updated_at": now} if row["region_id"] == region else row


def test_every_other_frame_gets_a_proposal_with_its_parent_and_scores(with_cine: Workspace, drawn: DrawnCine) -> None:
    report = run(with_cine)
    assert (report.rows, report.exclusions) == (8, {})
    found = regions(with_cine)
    for structure in (HEAD, CAVUM):
        parent = found[1, structure, "import"]
        for frame in (0, 2, 3, 4):
            row = found[frame, structure, "flow"]
            assert (row["status"], row["parent_id"]) == ("proposed", parent["region_id"])
            assert json.loads(row["prompt"]) == {"carried_from": parent["region_id"], "frames": abs(frame - 1)}
            assert 0.8 <= json.loads(row["scores"])["confidence"] <= 1
            mask = masks.decode(row["mask"])
            assert (row["area_px"], tuple(row["bbox"])) == (masks.area_px(mask), masks.bbox(mask))
            truth = drawn.masks[structure][frame]
            assert 2 * np.count_nonzero(mask & truth) / (mask.sum() + truth.sum()) > 0.9
    assert run(with_cine).computed == 0
    assert check_workspace(with_cine).problems == []


def test_a_redrawn_parent_is_carried_again(with_cine: Workspace, drawn: DrawnCine, tmp_path: Path) -> None:
    run(with_cine)
    before = regions(with_cine)[2, HEAD, "flow"]["area_px"]
    drawn.masks[HEAD][1] = drawn.masks[CAVUM][1]
    drawn.save_mask(tmp_path / "drawings" / HEAD, "P1", HEAD, 1)
    import_masks(with_cine, tmp_path / "drawings", mask_format="png", engine=in_process)
    assert run(with_cine).computed == 1
    assert regions(with_cine)[2, HEAD, "flow"]["area_px"] < before / 2


def test_proposals_go_with_their_parent(with_cine: Workspace, tmp_path: Path) -> None:
    run(with_cine)
    decide(with_cine, lambda row: {**row, "status": "rejected"} if row["source"] == "import" else row)
    assert run(with_cine).removed == 1
    assert {source for _, _, source in regions(with_cine)} == {"import"}


def test_decisions_upon_carried_masks_stay(with_cine: Workspace) -> None:
    run(with_cine)
    decide(with_cine, decided("rejected", 4, HEAD, with_cine))
    decide(with_cine, decided("accepted", 3, HEAD, with_cine))
    accepted = regions(with_cine)[3, HEAD, "flow"]
    assert run(with_cine).computed == 1
    found = regions(with_cine)
    assert found[3, HEAD, "flow"] == accepted
    assert found[4, HEAD, "flow"]["status"] == "rejected"
    assert found[2, HEAD, "flow"]["status"] == "proposed"
    decide(with_cine, lambda row: {**row, "status": "rejected"} if row["source"] == "import" else row)
    run(with_cine)
    assert regions(with_cine)[3, HEAD, "flow"] == accepted  # its parent is gone, the decision is not
    assert regions(with_cine)[2, HEAD, "flow"]["parent_id"] == accepted["region_id"]


def test_decisions_outlive_their_frames(with_cine: Workspace) -> None:
    run(with_cine)
    decide(with_cine, decided("accepted", 3, HEAD, with_cine))
    accepted = regions(with_cine)[3, HEAD, "flow"]
    for path in with_cine.store.folder(REGIONS).parent.glob("frames/*.parquet"):
        path.unlink()
    run(with_cine)
    assert regions(with_cine)[3, HEAD, "flow"] == accepted


def test_a_run_that_was_ended_before_it_removed_old_parts_doubles_nothing(with_cine: Workspace) -> None:
    run(with_cine)
    accepted = regions(with_cine)[3, HEAD, "flow"]["region_id"]
    with with_cine.writing():
        Reviewer(with_cine).decide("accept", accepted)
    run(with_cine)
    before = regions(with_cine)
    move_parts(with_cine.store)
    with pytest.raises(KeyboardInterrupt):
        carry_masks(with_cine, engine=interrupted)
    assert with_cine.store.count_rows(REGIONS) > len(before)
    run(with_cine)
    assert (with_cine.store.count_rows(REGIONS), regions(with_cine)) == (len(before), before)


@pytest.mark.parametrize("with_frames", [True, False])
def test_rows_that_an_earlier_version_doubled_are_written_once(with_cine: Workspace, with_frames: bool) -> None:
    run(with_cine)
    accepted = regions(with_cine)[3, HEAD, "flow"]["region_id"]
    with with_cine.writing():
        Reviewer(with_cine).decide("accept", accepted)
    if not with_frames:
        for path in with_cine.store.paths(FRAMES):
            path.unlink()
    run(with_cine)
    before = regions(with_cine)
    double_rows(with_cine.store, stage="masks-carry")
    run(with_cine)
    assert (with_cine.store.count_rows(REGIONS), regions(with_cine)) == (len(before), before)


def test_status_says_when_to_carry_again(with_cine: Workspace, drawn: DrawnCine, tmp_path: Path) -> None:
    assert "masks-carry" not in read_status(with_cine).stale
    run(with_cine, structures=["head"], backend=BackendChoice("grabcut"))
    assert "masks-carry" not in read_status(with_cine).stale
    drawn.save_mask(tmp_path / "drawings" / HEAD, "P1", HEAD, 3)
    import_masks(with_cine, tmp_path / "drawings", mask_format="png", engine=in_process)
    assert read_status(with_cine).stale["masks-carry"] == 1


def test_what_a_program_made_is_not_carried_before_a_person_accepts_it(
    with_cine: Workspace, drawn: DrawnCine, tmp_path: Path
) -> None:
    decide(with_cine, lambda row: {**row, "source": "model"})
    with pytest.raises(UserError, match="no frame of a cine has a mask that a person accepted"):
        run(with_cine)
    now = datetime(2026, 3, 1, tzinfo=UTC)
    decide(with_cine, lambda row: {**row, "updated_at": now})
    assert run(with_cine).rows == 8


def test_a_mask_of_other_pixels_is_counted_and_not_carried(with_cine: Workspace) -> None:
    decide(with_cine, lambda row: {**row, "pixel_digest": "other"} if row["structure"] == HEAD else row)
    report = run(with_cine)
    assert (report.rows, report.exclusions) == (4, {"other_pixels": 1})
    assert {count.reason for count in count_exclusions(with_cine.store)} == {"other_pixels"}


def test_of_one_structure_the_others_stay(with_cine: Workspace) -> None:
    run(with_cine)
    assert run(with_cine, structures=["skull"]).rows == 8
    assert run(with_cine).rows == 8
    with pytest.raises(UserError, match="unknown structure"):
        run(with_cine, structures=["haed"])


def test_a_workspace_that_was_moved_is_not_stale(with_cine: Workspace, tmp_path: Path) -> None:
    run(with_cine)
    assert run(Workspace(with_cine.path.rename(tmp_path / "moved"))).computed == 0


def test_what_reviewers_decided_stays_when_carried_again(with_cine: Workspace) -> None:
    run(with_cine)
    before = regions(with_cine)
    ids = sorted(row["region_id"] for row in before.values() if row["source"] == "flow")
    anna = Reviewer(with_cine)
    anna.decide("reject", ids[0])
    anna.decide("accept", ids[1])
    for _ in range(2):
        with with_cine.writing():
            run(with_cine)
        after = {row["region_id"]: row["status"] for row in regions(with_cine).values()}
        assert (after[ids[0]], after[ids[1]]) == ("rejected", "accepted")
    anna.undo()
    anna.undo()
    with with_cine.writing():
        undone = {row["region_id"]: row for row in regions(with_cine).values()}
        assert all(undone[row["region_id"]] == row for row in before.values() if row["region_id"] in ids[:2])
        run(with_cine)
    assert regions(with_cine) == before
    assert check_workspace(with_cine).problems == []

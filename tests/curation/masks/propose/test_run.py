"""Proposals: for what has no accepted mask, from what accepted masks have taught, and never mistaken for them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sono.curation.check import check_workspace
from sono.curation.engines.local import LocalEngine
from sono.curation.ingest.run import ingest
from sono.curation.masks.backends.grabcut import GrabCutBackend
from sono.curation.masks.backends.registry import BackendChoice
from sono.curation.qc.run import qc
from sono.curation.status import read_status
from sono.manifests import masks
from sono.manifests.errors import UserError
from sono.manifests.schemas import EXCLUSIONS, FRAMES, QC, REGIONS
from sono.manifests.stages import in_process
from sono.manifests.store import part_name, read_info
from sono.manifests.workspace import Workspace
from tests.curation.masks.interruptions import double_rows, interrupted, move_parts
from tests.curation.masks.small_sam import export_sam, save_checkpoint, small_sam
from tests.manifests.reviewing import Reviewer

from .conftest import Heads

STILLS = [f"P{patient}/scan{scan}" for patient in range(1, 5) for scan in range(2)]
OTHERS = {"thalami", "cavum_septi_pellucidi", "falx", "third_ventricle", "frontal_horns"}


def test_without_weights_and_without_masks_heads_are_proposed(heads: Heads) -> None:
    report = heads.propose()
    rows = heads.regions()
    assert report.run.rows == len(rows) == 13
    assert {row["structure"] for row in rows} == {"head"}
    assert {(row["status"], row["source"], row["model_sha256"]) for row in rows} == {("proposed", "grabcut", None)}
    assert report.unknown_places.keys() <= OTHERS
    assert set(report.unknown_places.values()) == {13}
    stills = {heads.frame_id(name) for name in STILLS}
    found = [heads.iou(row) for row in rows if row["frame_id"] in stills]
    assert np.median(found) > 0.8
    row = rows[0]
    assert json.loads(row["prompt"]).keys() == {"from", "box"}
    assert json.loads(row["prompt"])["from"] == "default"
    scores = json.loads(row["scores"])
    assert scores.keys() == {"score", "fit", "contrast", "agreement"}
    assert scores["score"] == pytest.approx(scores["fit"] * scores["contrast"] * scores["agreement"], abs=1e-3)
    assert row["area_px"] == np.count_nonzero(masks.decode(row["mask"]))
    assert check_workspace(heads.workspace).problems == []


def test_accepted_masks_are_left_alone_and_teach_where_to_look(heads: Heads, tmp_path: Path) -> None:
    heads.accept([name for name in STILLS if name[1] in "123"], tmp_path / "masks")
    report = heads.propose()
    assert (report.decided, report.run.rows) == (6, 7)
    rows = {row["frame_id"]: row for row in heads.regions(status="proposed")}
    assert not {heads.frame_id(name) for name in STILLS if name[1] in "123"} & rows.keys()
    for name in STILLS:
        if name[1] not in "123":
            row = rows[heads.frame_id(name)]
            assert json.loads(row["prompt"])["from"] == "learned"
            assert heads.iou(row) > 0.85
    assert check_workspace(heads.workspace).problems == []


def test_masks_of_one_patient_teach_nothing(heads: Heads, tmp_path: Path) -> None:
    heads.accept([f"P7/cine_f{index}" for index in range(5)], tmp_path / "masks")
    heads.propose()
    assert {json.loads(row["prompt"])["from"] for row in heads.regions(status="proposed")} == {"default"}


def test_in_a_cine_the_nearest_accepted_mask_says_where(heads: Heads, tmp_path: Path) -> None:
    heads.accept(["P7/cine_f0", "P7/cine_f4"], tmp_path / "masks")
    heads.propose()
    rows = {row["frame_id"]: row for row in heads.regions(status="proposed")}
    accepted = {row["frame_id"]: row["region_id"] for row in heads.regions(status="accepted")}
    for index, near, away in ((1, 0, 1), (2, None, 2), (3, 4, 1)):
        name = f"P7/cine_f{index}"
        row = rows[heads.frame_id(name)]
        prompt = json.loads(row["prompt"])
        assert (prompt["from"], prompt["frames_away"]) == ("neighbour", away)
        if near is not None:
            assert prompt["region_id"] == accepted[heads.frame_id(f"P7/cine_f{near}")]
        assert heads.iou(row) > 0.85


@pytest.mark.slow
def test_running_again_does_nothing_and_an_accepted_mask_takes_its_proposal_away(heads: Heads, tmp_path: Path) -> None:
    heads.propose()
    again = heads.propose()
    assert (again.run.computed, again.run.rows, again.embedded) == (0, 13, 0)
    heads.accept(["P1/scan0"], tmp_path / "masks")
    later = heads.propose()
    assert later.run.computed == 1  # of the parts, that of the frame
    assert [row["status"] for row in heads.regions(frame_id=heads.frame_id("P1/scan0"))] == ["accepted"]


def test_only_frames_that_quality_control_let_pass(heads: Heads) -> None:
    store = heads.workspace.store
    left: set[str] = set()
    for name, info in store.parts(QC).items():
        rows = store.read(QC, name).to_pylist()
        rows[0] |= {"verdict": "reject", "reasons": ["blurred"]}
        rows[-1] |= {"verdict": "review"} if len(rows) > 1 else {}
        left.add(rows[0]["frame_id"])
        store.write(QC, info, QC.from_rows(rows))
    report = heads.propose()
    assert report.run.rows == 13 - len(left)
    assert not left & {row["frame_id"] for row in heads.regions()}


@pytest.mark.slow
def test_a_structure_alone_leaves_the_proposals_for_others(heads: Heads, tmp_path: Path) -> None:
    heads.accept([name for name in STILLS if name[1] in "123"], tmp_path / "a", structure="thalami")
    both = heads.propose()
    before = {row["region_id"]: row for row in heads.regions(status="proposed")}
    assert {row["structure"] for row in before.values()} == {"head", "thalami"}
    heads.propose(structures=["Thalami"])
    assert {row["region_id"]: row for row in heads.regions(status="proposed")} == before
    only = heads.propose(structures=["head"])
    assert {row["region_id"]: row for row in heads.regions(status="proposed")} == before
    assert (both.run.rows, only.run.rows) == (len(before), len(before))
    assert heads.propose(structures=["head"]).run.computed == 0
    with pytest.raises(UserError, match="unknown structure 'haed'"):
        heads.propose(structures=["haed"])


@pytest.mark.slow
def test_trying_it_on_a_few_frames_loses_nothing(heads: Heads) -> None:
    heads.propose(limit=3)
    few = {row["region_id"] for row in heads.regions()}
    assert len(few) == 3
    heads.propose(limit=2)
    assert few <= {row["region_id"] for row in heads.regions()}
    heads.propose()
    whole = {row["region_id"] for row in heads.regions()}
    assert len(whole) == 13
    report = heads.propose(limit=5)
    assert (report.run.computed, report.run.removed) == (0, 0)
    assert {row["region_id"] for row in heads.regions()} == whole


def test_frames_without_a_plane_are_counted(workspace: Workspace, archive: Path) -> None:
    heads = Heads(workspace, {})
    with pytest.raises(UserError, match="no frames yet; run sono-curate ingest"):
        heads.propose()
    ingest(workspace, [archive], engine=in_process, patient_regex=r"^(P\d)/", cropped=True)
    with pytest.raises(UserError, match="no qc yet; run sono-curate qc"):
        heads.propose()
    qc(workspace, engine=in_process)
    report = heads.propose()
    assert (report.run.rows, report.without_plane) == (0, workspace.store.count_rows(FRAMES))


def test_frames_in_which_nothing_is_found_are_excluded_with_the_reason(
    heads: Heads, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(GrabCutBackend, "propose", lambda *_: [])
    report = heads.propose()
    assert (report.run.rows, report.run.exclusions) == (0, {"no_candidate": 13})
    rows = heads.workspace.store.read_all(EXCLUSIONS).to_pylist()
    assert {row["stage"] for row in rows} == {"masks-propose"}
    assert check_workspace(heads.workspace).problems == []


def test_status_counts_proposals_apart(heads: Heads, tmp_path: Path) -> None:
    heads.accept(STILLS[:2], tmp_path / "masks")
    heads.propose()
    status = read_status(heads.workspace)
    assert (status.regions, status.proposed) == ({"head": 2}, {"head": 11})


def test_status_says_when_to_propose_again(heads: Heads, tmp_path: Path) -> None:
    def stale() -> int:
        return read_status(heads.workspace).stale.get("masks-propose", 0)

    heads.propose(limit=3)
    assert stale() == 0  # it was only tried
    heads.propose(structures=["head"])
    assert stale() == 0
    heads.accept(["P1/scan0"], tmp_path / "thalami", structure="thalami")
    assert stale() == 0  # it is not what was asked for
    heads.accept(["P1/scan0"], tmp_path / "heads")
    assert stale() == 1
    heads.propose(structures=["head"])
    assert stale() == 0
    store = heads.workspace.store
    for table in (FRAMES, QC):
        ((name, info),) = store.parts(table).items()
        rows = store.read(table, name)
        kept = [row for row in rows.to_pylist() if row["frame_id"] != heads.frame_id("P2/scan0")]
        store.write(table, info, table.from_rows(kept))
        later = [row for row in rows.to_pylist() if row["frame_id"] == heads.frame_id("P2/scan0")]
        store.write(table, replace(info, name="new"), table.from_rows(later))
    assert stale() == 2  # the part with a new frame, and the one that has lost it
    heads.propose(structures=["head"])
    assert stale() == 0


@pytest.mark.slow
def test_sam_and_its_export_propose_beside_grabcut_and_embed_each_frame_once(heads: Heads, tmp_path: Path) -> None:
    model = small_sam()
    checkpoint = save_checkpoint(model, tmp_path / "sam.pth")
    encoder, decoder = export_sam(model, tmp_path)
    sam, onnx = BackendChoice("sam", checkpoint), BackendChoice("onnx", encoder, decoder)
    heads.propose()
    by_grabcut = heads.regions(source="grabcut")
    first = heads.propose(sam)
    assert (first.embedded, first.cache_hits) == (13, 0)
    assert heads.regions(source="grabcut") == by_grabcut
    found = {row["frame_id"]: row for row in heads.regions(source="sam")}
    assert len(found) == first.run.rows > 8
    for row in found.values():
        assert json.loads(row["scores"]).keys() == {"score", "stability", "fit", "agreement", "predicted_iou"}
        assert all(0 <= value <= 1 for value in json.loads(row["scores"]).values())
        assert row["model_sha256"] is not None
    other = heads.propose(onnx)
    assert (other.embedded, other.cache_hits) == (13, 0)  # another file, so other embeddings
    for row in heads.regions(source="onnx"):
        twin = found[row["frame_id"]]
        assert np.count_nonzero(masks.decode(row["mask"]) != masks.decode(twin["mask"])) < 60
    heads.accept(["P1/scan0"], tmp_path / "masks")
    again = heads.propose(sam)
    assert again.embedded == 0
    assert 0 < again.cache_hits < 13
    changed = small_sam(1)
    save_checkpoint(changed, checkpoint)
    assert heads.propose(sam).cache_hits == 0
    assert check_workspace(heads.workspace).problems == []


@pytest.mark.slow
def test_worker_processes_give_the_same_table(heads: Heads, tmp_path: Path) -> None:
    checkpoint = save_checkpoint(small_sam(), tmp_path / "sam.pth")
    report = heads.propose(BackendChoice("sam", checkpoint), engine=LocalEngine(1))
    assert (report.embedded, report.cache_hits) == (13, 0)
    alone = heads.workspace.store.read_all(REGIONS)
    for path in heads.workspace.store.paths(REGIONS):
        path.unlink()
    report = heads.propose(BackendChoice("sam", checkpoint))
    assert (report.embedded, report.cache_hits) == (0, 13)
    assert heads.workspace.store.read_all(REGIONS).equals(alone)
    (tmp_path / "sam.pth").write_bytes(b"nothing")
    with pytest.raises(UserError, match="truncated, damaged or of another kind"):
        heads.propose(BackendChoice("sam", checkpoint))


def test_proposals_are_not_lost_to_a_run_with_a_missing_model(heads: Heads, tmp_path: Path) -> None:
    heads.propose()
    before = heads.regions()
    with pytest.raises(UserError, match="file not found"):
        heads.propose(BackendChoice("sam", tmp_path / "none.pth"))
    assert heads.regions() == before


def test_a_wrong_model_is_refused_even_if_there_is_nothing_to_propose(heads: Heads, tmp_path: Path) -> None:
    heads.accept(heads.truth, tmp_path / "masks")
    (tmp_path / "sam.pth").write_bytes(b"nothing")
    assert heads.propose(structures=["head"]).run.computed == 0
    for name, text in (("sam", "truncated, damaged or of another kind"), ("none", "file not found")):
        with pytest.raises(UserError, match=text):
            heads.propose(BackendChoice("sam", tmp_path / f"{name}.pth"), structures=["head"])


def test_decisions_upon_proposals_stay(heads: Heads) -> None:
    heads.propose()
    ids = [row["region_id"] for row in heads.regions()]
    before = by_id(heads)
    anna = Reviewer(heads.workspace)
    for key, action in zip(ids, ("accept", "reject", "edit"), strict=False):
        anna.decide(action, key)
    heads.workspace.apply_decisions()
    decided = {key: row for key, row in by_id(heads).items() if key in ids[:3]}
    assert [decided[key]["status"] for key in ids[:3]] == ["accepted", "rejected", "edited"]
    report = heads.propose()
    assert (report.run.rows, report.decided) == (13, 3)
    assert {key: by_id(heads)[key] for key in ids[:3]} == decided
    heads.propose(structures=["thalami"])
    assert {key: by_id(heads)[key] for key in ids[:3]} == decided
    for path in heads.workspace.store.paths(FRAMES):
        frames = heads.workspace.store.read(FRAMES, part_name(path))
        heads.workspace.store.write(FRAMES, replace(read_info(path), rows=0), frames.slice(0, 0))
    heads.propose()
    assert by_id(heads) == decided
    for _ in range(3):
        anna.undo()
    heads.workspace.apply_decisions()
    assert by_id(heads) == {key: before[key] for key in ids[:3]}
    assert check_workspace(heads.workspace).problems == []


def test_a_run_that_was_ended_before_it_removed_old_parts_doubles_nothing(heads: Heads) -> None:
    heads.propose(structures=["head"])
    key = heads.regions()[0]["region_id"]
    with heads.workspace.writing():
        Reviewer(heads.workspace).decide("accept", key)
    heads.propose(structures=["head"])
    before = by_id(heads)
    move_parts(heads.workspace.store)
    with pytest.raises(KeyboardInterrupt):
        heads.propose(structures=["head"], engine=interrupted)
    assert len(heads.regions(region_id=key)) == 2
    heads.propose(structures=["head"])
    assert (len(heads.regions()), by_id(heads)) == (13, before)
    double_rows(heads.workspace.store, stage="masks-propose")
    heads.propose(structures=["head"])
    assert (len(heads.regions()), by_id(heads)) == (13, before)


def by_id(heads: Heads) -> dict[str, dict[str, Any]]:
    return {row["region_id"]: row for row in heads.regions()}


def test_another_mask_in_the_place_of_the_neighbours_is_noticed(heads: Heads, tmp_path: Path) -> None:
    heads.accept(["P7/cine_f0"], tmp_path / "masks")
    heads.propose(structures=["head"])
    heads.truth["P7/cine_f0"] = np.roll(heads.truth["P7/cine_f0"], 6, axis=1)
    heads.accept(["P7/cine_f0"], tmp_path / "masks")
    assert heads.propose(structures=["head"]).run.computed == 1


def test_a_workspace_that_was_moved_is_not_stale(heads: Heads, tmp_path: Path) -> None:
    heads.accept(["P7/cine_f0"], tmp_path / "masks")
    heads.propose()
    moved = Workspace(heads.workspace.path.rename(tmp_path / "moved"))
    assert Heads(moved, heads.truth).propose().run.computed == 0


def test_only_frames_without_proposals_are_tried(heads: Heads) -> None:
    """Also where they have come into other parts, as when files are added to the archive."""
    heads.propose(limit=3)
    move_parts(heads.workspace.store)
    before = by_id(heads)
    heads.propose(limit=2)
    assert (len(heads.regions()), len(by_id(heads))) == (5, 5)
    assert before.items() <= by_id(heads).items()


def test_a_damaged_part_is_repaired_by_the_command_that_wrote_it(heads: Heads) -> None:
    heads.propose()
    for path in heads.workspace.store.paths(REGIONS):
        path.write_bytes(path.read_bytes()[:-20])
    repair = f"then run: sono-curate masks propose {heads.workspace.path} --backend grabcut"
    problems = check_workspace(heads.workspace).problems
    assert problems
    assert all(problem.repair.endswith(repair) for problem in problems)


def test_an_image_that_was_stored_damaged_is_excluded(heads: Heads) -> None:
    store = heads.workspace.store
    ((name, info),) = store.parts(FRAMES).items()
    frames = store.read(FRAMES, name).to_pylist()
    frames[0]["image"]["bytes"] = frames[0]["image"]["bytes"][:40]
    store.write(FRAMES, info, FRAMES.from_rows(frames))
    report = heads.propose()
    assert (report.run.rows, report.run.exclusions) == (12, {"undecodable": 1})

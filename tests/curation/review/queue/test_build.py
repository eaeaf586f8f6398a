"""The queue from real tables and a real journal: what is in it, in which order, and what reviewing changes."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sono.curation.masks.checks.run import check_masks
from sono.curation.review.queue.build import build_queue, queue_path, waiting_signs
from sono.curation.review.queue.features import SIGNS
from sono.curation.review.queue.queue_file import Queue
from sono.manifests import masks
from sono.manifests.journal import Journal
from sono.manifests.journal_file import journal_path
from sono.manifests.schemas import QC, REGIONS
from sono.manifests.stages import in_process
from sono.manifests.store import PartInfo
from sono.manifests.workspace import Workspace, create
from tests.curation.masks.checks.tables import Tables, disc
from tests.curation.review.decisions import Decisions
from tests.manifests.reviewing import Reviewer


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return create(tmp_path / "workspace", "Hospital A")


def scores(**values: Any) -> str:
    return json.dumps(values)


def build(workspace: Workspace, tables: Tables) -> Queue:
    tables.write(workspace)
    check_masks(workspace, engine=in_process)
    build_queue(workspace)
    return Queue.open(queue_path(workspace))


def order(queue: Queue) -> list[str]:
    return [region.region_id for frame in queue.next(None, 1000).frames for region in frame.regions]


def signs(workspace: Workspace) -> dict[str, dict[str, float]]:
    found = waiting_signs(workspace)
    return {
        region_id: {name: float(value) for name, value in zip(SIGNS, values, strict=True)}
        for region_id, values in zip(found.keys["region_id"].to_pylist(), found.values, strict=True)
    }


def test_masks_that_nobody_decided_on_wait_the_likely_bad_ones_first(workspace: Workspace) -> None:
    tables = Tables()
    for name, score in (("good", 0.95), ("bad", 0.3), ("fair", 0.7)):
        tables.frame(name)
        tables.region(name, "head", disc(50, 40, 20), source="grabcut", status="proposed", scores=scores(score=score))
    tables.region("good", "thalami", disc(50, 40, 5), source="import", status="accepted")
    tables.region("good", "falx", disc(50, 40, 5), source="grabcut", status="rejected")
    queue = build(workspace, tables)
    assert order(queue) == [f"head of {name} by grabcut" for name in ("bad", "fair", "good")]
    (frame, *_) = queue.next(None, 1).frames
    assert (frame.part, frame.regions[0].part, frame.plane) == (
        "part-drawn.parquet",
        "part-drawn.parquet",
        "transthalamic",
    )
    assert 0 < frame.regions[0].p_bad == frame.p_bad < 1


def test_a_frame_asks_about_its_worst_mask_first_and_stands_where_that_is(workspace: Workspace) -> None:
    tables = Tables()
    for name, of_head, of_thalami in (("one", 0.9, 0.1), ("other", 0.5, 0.5)):
        tables.frame(name)
        for structure, score in (("head", of_head), ("thalami", of_thalami)):
            drawn = disc(50, 40, 20 if structure == "head" else 6)
            tables.region(name, structure, drawn, source="grabcut", status="proposed", scores=scores(score=score))
    assert [each.split(" by ")[0] for each in order(build(workspace, tables))][:2] == ["thalami of one", "head of one"]


@pytest.mark.parametrize(
    "text",
    [None, "", "{}", "not JSON", "[1]", '"x"', '{"score": NaN, "fit": 0.5}', '{"score": null}', '{"score": "high"}',
     '{"score": {"a": 1}}', '{"predicted_iou": 1.03, "stability": -2}', '{"score": Infinity}', '{"score": 1e999}'],
)  # fmt: skip
def test_scores_of_any_kind_are_clamped_or_not_known(workspace: Workspace, text: str | None) -> None:
    tables = Tables()
    tables.frame("frame")
    region = tables.region("frame", "head", disc(50, 40, 20), source="sam", status="proposed", scores=text)
    queue = build(workspace, tables)
    assert order(queue) == [region]
    found = signs(workspace)[region]
    for name in ("score", "fit", "stability", "predicted_iou"):
        assert np.isnan(found[name]) or 0 <= found[name] <= 1
    if text and "NaN" in text:
        assert np.isnan(found["score"])
        assert found["fit"] == 0.5  # one that is not a number does not hide the others
    if text and "1.03" in text:
        assert (found["predicted_iou"], found["stability"]) == (0, 1)
    assert 0 < queue.next(None, 1).frames[0].regions[0].p_bad < 1


def test_what_is_not_known_says_nothing(workspace: Workspace) -> None:
    """No patients to compare with, no measures, no sectors: only the empty mask is a sign."""
    tables = Tables()
    tables.frame("frame", plane=None, sectors=None)
    region = tables.region("frame", "head", disc(50, 40, 20), source="sam", status="proposed")
    tables.write(workspace)
    known = {name: value for name, value in signs(workspace)[region].items() if not np.isnan(value)}
    assert known == {"empty": 0}


def usual(tables: Tables, count: int = 10, **region: Any) -> None:
    for number in range(count):
        name = tables.frame(f"usual {number}")
        tables.region(name, "head", disc(50 + number % 3, 40, 19 + number % 3), **region)


def test_anatomy_is_compared_with_accepted_masks_of_the_plane_and_structure(workspace: Workspace) -> None:
    tables = Tables()
    usual(tables)
    drawn = {
        "usual": disc(50, 40, 20),
        "small": disc(50, 40, 6),
        "elsewhere": disc(18, 12, 20) & disc(30, 30, 22),
        "narrow": disc(50, 40, 20) & (np.arange(100) > 44) & (np.arange(100) < 56),
    }
    for name, mask in drawn.items():
        tables.frame(name)
        tables.region(name, "head", mask, source="grabcut", status="proposed", scores=scores(score=0.9))
    queue = build(workspace, tables)
    found = {key.split(" ")[2]: value for key, value in signs(workspace).items()}
    assert all(found["usual"][name] < 2.5 for name in ("area", "place", "aspect", "fill"))
    assert found["small"]["area"] == found["elsewhere"]["place"] == 6
    assert found["narrow"]["aspect"] > 4
    assert order(queue)[-1] == "head of usual by grabcut"


def test_before_enough_are_accepted_masks_are_compared_with_each_other(workspace: Workspace) -> None:
    tables = Tables()
    usual(tables, source="grabcut", status="proposed")
    tables.frame("odd")
    odd = tables.region("odd", "head", disc(50, 40, 4), source="grabcut", status="proposed")
    queue = build(workspace, tables)
    assert order(queue)[0] == odd
    assert signs(workspace)[odd]["area"] == 6


def test_other_masks_of_the_structure_speak_for_or_against_a_mask(workspace: Workspace) -> None:
    tables = Tables()
    for name, x in (("alike", 50), ("unlike", 25)):
        tables.frame(name)
        tables.region(name, "head", disc(50, 40, 15), source="grabcut", status="proposed")
        tables.region(name, "head", disc(x, 40, 15), source="model", status="proposed")
    queue = build(workspace, tables)
    found = signs(workspace)
    for source in ("grabcut", "model"):  # of a pair, both know
        assert found[f"head of alike by {source}"]["others"] == pytest.approx(0)
        assert found[f"head of unlike by {source}"]["others"] > 0.8
    assert [frame.frame_id for frame in queue.next(None, 2).frames] == ["unlike", "alike"]


def test_faults_are_signs(workspace: Workspace) -> None:
    tables = Tables()
    tables.frame("frame")
    with_hole = disc(50, 40, 20) & ~disc(50, 40, 5) | disc(92, 70, 2)
    faulty = tables.region("frame", "head", with_hole, source="sam", status="proposed")
    foreign = tables.region("frame", "femur", disc(15, 60, 12), source="sam", status="proposed")
    empty = tables.region("frame", "falx", disc(0, 0, 0) & False, source="sam", status="proposed")
    build(workspace, tables)
    found = signs(workspace)
    assert found[faulty]["specks"] > 0
    assert found[faulty]["holes"] > 0
    assert found[faulty]["outside"] > 0
    assert found[foreign]["not_in_plane"] == 1
    assert (found[empty]["empty"], found[faulty]["empty"]) == (1, 0)


def test_masks_of_rejected_frames_and_on_other_pixels_are_counted_and_left_out(workspace: Workspace) -> None:
    tables = Tables()
    for name in ("fine", "rejected", "doubtful", "empty"):
        tables.frame(name)
    tables.region("fine", "head", disc(50, 40, 20), source="sam", status="proposed")
    tables.region("fine", "falx", disc(50, 40, 9), source="sam", status="proposed", pixel_digest="earlier pixels")
    tables.region("rejected", "head", disc(50, 40, 20), source="sam", status="proposed")
    tables.region("doubtful", "head", disc(50, 40, 20), source="sam", status="proposed")
    tables.write(workspace)
    verdicts = {"fine": "accept", "rejected": "reject", "doubtful": "review", "empty": "review"}
    rows: list[dict[str, object]] = [
        {"frame_id": name, "verdict": verdict, "reasons": [], "config_sha256": ""} for name, verdict in verdicts.items()
    ]
    workspace.store.write(QC, PartInfo("drawn", "qc", "0", "", len(rows)), QC.from_rows(rows))
    report = build_queue(workspace)
    assert (report.frames, report.regions, report.other_pixels, report.rejected_frames) == (3, 2, 1, 1)
    queue = Queue.open(queue_path(workspace))
    assert {frame.frame_id for frame in queue.next(None, 9).frames} == {"fine", "doubtful"}
    assert {frame.frame_id for frame in queue.next(None, 9, kind="frames").frames} == {"doubtful", "empty"}


def test_frames_that_were_judged_a_moment_ago_are_so_in_the_queue(workspace: Workspace) -> None:
    """While the tables do not have it yet, as when a server was killed and another command is writing."""
    tables = Tables()
    verdicts = {"kept": "review", "rejected": "accept", "undone": "review", "asked": "accept"}
    for name in verdicts:
        tables.frame(name)
        tables.region(name, "head", disc(50, 40, 20), source="sam", status="proposed")
    tables.write(workspace)
    rows: list[dict[str, object]] = [
        {"frame_id": name, "verdict": verdict, "reasons": [], "config_sha256": ""} for name, verdict in verdicts.items()
    ]
    workspace.store.write(QC, PartInfo("drawn", "qc", "0", "", len(rows)), QC.from_rows(rows))
    anna = Reviewer(workspace)
    for name, verdict in (("kept", "accept"), ("rejected", "reject"), ("asked", "review"), ("undone", "reject")):
        anna.judge(name, verdict)
    anna.undo()
    report = build_queue(workspace)
    assert (report.regions, report.rejected_frames) == (3, 1)
    queue = Queue.open(queue_path(workspace))
    assert {frame.frame_id for frame in queue.next(None, 9).frames} == {"kept", "undone", "asked"}
    assert {frame.frame_id for frame in queue.next(None, 9, kind="frames").frames} == {"undone", "asked"}


def reviewable(tables: Tables, patients: int = 40) -> None:
    """Heads whose score says nothing, while masks whose contrast is low are bad."""
    random = np.random.default_rng(0)
    for number in range(patients):
        name = tables.frame(f"patient {number:02d}")
        contrast = 0.6 if number % 2 else 0.95
        text = scores(score=round(float(random.uniform(0.4, 0.9)), 3), contrast=contrast)
        tables.region(name, "head", disc(50, 40, 20), source="grabcut", status="proposed", scores=text)


def decide(workspace: Workspace, decisions: Decisions, row: dict[str, Any]) -> None:
    decisions.propose(row)
    bad = json.loads(row["scores"])["contrast"] < 0.8
    number = int(row["frame_id"].split()[1])
    if not bad:
        decisions.decide(row["region_id"], "ada", "accept")
    elif number % 4 == 1:
        decisions.decide(row["region_id"], "ada", "reject")
    else:
        decisions.decide(row["region_id"], "ada", "edit", disc(50, 40, 10))


def test_reviewing_teaches_the_order_what_is_bad_and_decided_masks_leave(workspace: Workspace) -> None:
    tables = Tables()
    reviewable(tables, 60)
    before = build(workspace, tables)
    assert before.facts["reviewed"] == 0
    decisions = Decisions(Journal(journal_path(workspace.path)))
    rows = workspace.store.read_all(REGIONS).to_pylist()
    for row in rows[:40]:
        decide(workspace, decisions, row)
    report = build_queue(workspace)
    assert (report.reviewed, report.regions) == (40, 20)
    assert report.auroc_calibrated is not None
    assert report.auroc_stated is not None
    assert report.auroc_calibrated > 0.9 > 0.75 > report.auroc_stated
    after = Queue.open(queue_path(workspace))
    found = after.next(None, 100).frames
    assert all(int(frame.frame_id.split()[1]) % 2 for frame in found[:10])  # low contrast first
    assert not {frame.frame_id for frame in found} & {row["frame_id"] for row in rows[:40]}


def test_an_undone_decision_comes_back_and_teaches_nothing(workspace: Workspace) -> None:
    tables = Tables()
    reviewable(tables, 40)
    build(workspace, tables)
    decisions = Decisions(Journal(journal_path(workspace.path)))
    for row in workspace.store.read_all(REGIONS).to_pylist():
        decide(workspace, decisions, row)
    assert build_queue(workspace).regions == 0
    for number in range(40):
        decisions.journal.undo("ada", f"undo {number}")
    report = build_queue(workspace)
    assert (report.regions, report.reviewed) == (40, 0)


def test_few_decisions_or_decisions_of_one_kind_leave_the_stated_order(workspace: Workspace) -> None:
    tables = Tables()
    reviewable(tables, 60)
    build(workspace, tables)
    decisions = Decisions(Journal(journal_path(workspace.path)))
    rows = workspace.store.read_all(REGIONS).to_pylist()
    for row in rows[:10]:
        decide(workspace, decisions, row)
    assert build_queue(workspace).reviewed == 0
    for row in rows[10:50]:
        decisions.propose(row)
        decisions.decide(row["region_id"], "ada", "accept")
    assert build_queue(workspace).reviewed == 0


def test_a_queue_can_be_read_while_it_is_built_again(workspace: Workspace) -> None:
    tables = Tables()
    reviewable(tables, 20)
    expected = sorted(order(build(workspace, tables)))
    stop, problems = threading.Event(), []

    def read() -> None:
        while not stop.is_set():
            if sorted(order(Queue.open(queue_path(workspace)))) != expected:
                problems.append("torn")

    reader = threading.Thread(target=read)
    reader.start()
    for _ in range(3):
        build_queue(workspace)
    stop.set()
    reader.join()
    assert problems == []
    assert [path.name for path in queue_path(workspace).parent.iterdir()] == ["queue.arrow"]


def test_a_workspace_without_tables_has_an_empty_queue(workspace: Workspace) -> None:
    report = build_queue(workspace)
    assert (report.frames, report.regions) == (0, 0)
    assert len(Queue.open(queue_path(workspace))) == 0


def test_a_damaged_mask_in_a_reviewed_frame_does_not_stop_the_order(workspace: Workspace) -> None:
    tables = Tables()
    reviewable(tables, 40)
    tables.region("patient 00", "falx", disc(50, 40, 5), source="model", status="proposed")
    tables.regions[-1]["mask"] = {"size": [80, 100], "counts": "not runs"}
    build(workspace, tables)
    decisions = Decisions(Journal(journal_path(workspace.path)))
    for row in workspace.store.read_all(REGIONS).to_pylist():
        if row["structure"] == "head":
            decide(workspace, decisions, row)
    assert build_queue(workspace).reviewed == 40
    assert masks.decode(tables.regions[0]["mask"]).any()  # type: ignore[arg-type]


@pytest.mark.parametrize("content", [b"", b"nonsense", None])
def test_what_was_measured_of_reviewed_masks_is_kept_and_may_be_deleted(
    workspace: Workspace, content: bytes | None
) -> None:
    tables = Tables()
    reviewable(tables, 40)
    build(workspace, tables)
    decisions = Decisions(Journal(journal_path(workspace.path)))
    for row in workspace.store.read_all(REGIONS).to_pylist()[:36]:
        decide(workspace, decisions, row)
    build_queue(workspace)
    kept = queue_path(workspace).with_name("reviewed.arrow")
    expected = Queue.open(queue_path(workspace)).next(None, 9).frames
    before = kept.read_bytes()
    if content is None:
        kept.unlink()
    else:
        kept.write_bytes(content)
    build_queue(workspace)
    assert kept.read_bytes() == before
    assert Queue.open(queue_path(workspace)).next(None, 9).frames == expected


def test_decisions_in_the_tables_and_after_them_are_not_asked_about_again(workspace: Workspace) -> None:
    tables = Tables()
    reviewable(tables, 12)
    build(workspace, tables)
    decisions = Decisions(Journal(journal_path(workspace.path)))
    rows = workspace.store.read_all(REGIONS).to_pylist()
    for row in rows[:4]:
        decide(workspace, decisions, row)
    with workspace.writing():  # which brings the tables up to date
        pass
    for row in rows[4:6]:
        decide(workspace, decisions, row)
    build_queue(workspace)
    assert sorted(order(Queue.open(queue_path(workspace)))) == sorted(row["region_id"] for row in rows[6:])

"""The tables say what stages wrote and people decided, in whatever order that happened, and whoever was killed."""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from sono.manifests import masks
from sono.manifests.errors import UserError
from sono.manifests.projection import apply_decisions, decisions_applied, decisions_pending
from sono.manifests.schemas import QC, REGIONS
from sono.manifests.store import PartInfo, exclusive
from sono.manifests.workspace import Workspace, open_to_read
from tests.packaging.tree import ROOT

from .reviewing import Reviewer, drawn

Row = dict[str, Any]


def square(size: int) -> masks.Mask:
    mask = np.zeros((16, 16), np.bool_)
    mask[:size, :size] = True
    return mask


def proposed(region_id: str, frame_id: str = "f1", size: int = 4) -> Row:
    return {
        **dict.fromkeys(REGIONS.schema.names),
        **{"region_id": region_id, "frame_id": frame_id, "pixel_digest": "d", "structure": "head"},
        **drawn(square(size)),
        **{"source": "sam", "status": "proposed", "scores": '{"score": 0.9}'},
    }


def judged(frame_id: str, verdict: str = "review") -> Row:
    return {"frame_id": frame_id, "verdict": verdict, "reasons": ["dark"], "config_sha256": "0", "sharpness": 2.5}


@dataclass
class Stages:
    """What the stages would have written if nobody had decided anything."""

    workspace: Workspace
    parts: dict[str, dict[str, Row]] = field(default_factory=dict)

    def write(self, part: str, *rows: Row) -> None:
        self.parts[part] = {row["region_id"]: row for row in rows}
        info = PartInfo(part, "masks-import", f"fingerprint of {part}", "s", len(rows))
        self.workspace.store.write(REGIONS, info, REGIONS.from_rows([dict(row) for row in rows]))

    def remove(self, part: str) -> None:
        del self.parts[part]
        self.workspace.store.remove(REGIONS, part, "masks-import")

    def expected(self, reviewer: Reviewer) -> dict[str, Row]:
        """By region: what the journal says, else what a stage wrote last."""
        rows = {key: row for part in self.parts.values() for key, row in part.items()}
        for key in {event.subject_id for event in reviewer.journal.events() if event.subject == "region"}:
            _, stands = reviewer.journal.standing([key])[key]
            if stands is not None:
                assert stands.after is not None
                rows[key] = {**stands.after, "updated_at": stands.at}
        return rows


@pytest.fixture
def stages(workspace: Workspace) -> Stages:
    stages = Stages(workspace)
    stages.write("one", proposed("r1"), proposed("r2"), proposed("r3", "f2"))
    stages.write("two", proposed("r4", "a4"), proposed("r5", "a5"))
    return stages


@pytest.fixture
def anna(workspace: Workspace, stages: Stages) -> Reviewer:
    return Reviewer(workspace)


def regions(workspace: Workspace) -> dict[str, Row]:
    rows = workspace.store.read_all(REGIONS).to_pylist()
    found = {row["region_id"]: row for row in rows}
    assert len(found) == len(rows), "a region is in two parts"
    return found


def parts_of(workspace: Workspace, region_id: str) -> list[str]:
    store = workspace.store
    return [name for name in store.parts(REGIONS) if region_id in store.read(REGIONS, name)["region_id"].to_pylist()]


def content(workspace: Workspace) -> Mapping[str, bytes]:
    return {
        path.relative_to(workspace.path).as_posix(): path.read_bytes()
        for path in workspace.path.rglob("part-*.parquet")
    }


def test_a_decided_region_has_the_mask_status_reviewer_and_time_of_the_decision(
    workspace: Workspace, stages: Stages, anna: Reviewer
) -> None:
    accepted = anna.decide("accept", "r1")
    edited = anna.decide("edit", "r2", square(7))
    rejected = anna.decide("reject", "r4")
    apply_decisions(workspace.store)
    rows = regions(workspace)
    for key, event, status in (("r1", accepted, "accepted"), ("r2", edited, "edited"), ("r4", rejected, "rejected")):
        decided = {"status": status, "reviewer": "anna", "updated_at": event.at}
        mask = drawn(square(7)) if key == "r2" else {}
        assert rows[key] == {**proposed(key, rows[key]["frame_id"]), **mask, **decided}
    assert rows["r3"] == proposed("r3", "f2")
    assert {info.fingerprint for info in workspace.store.parts(REGIONS).values()} == {
        "fingerprint of one",
        "fingerprint of two",
    }


def test_a_drawn_mask_has_a_part_of_its_own_until_it_is_undone(workspace: Workspace, anna: Reviewer) -> None:
    event = anna.draw("c0ffee", "falx", square(3), "drawn")
    apply_decisions(workspace.store)
    row = regions(workspace)["drawn"]
    assert (row["source"], row["status"], row["updated_at"]) == ("manual", "accepted", event.at)
    assert masks.area_px(masks.decode(row["mask"])) == row["area_px"] == 9
    assert parts_of(workspace, "drawn") == ["review-c0"]
    anna.undo()
    apply_decisions(workspace.store)
    assert workspace.store.parts(REGIONS).keys() == {"one", "two"}
    anna.redo()
    apply_decisions(workspace.store)
    assert regions(workspace)["drawn"] == row


def test_undone_decisions_return_to_what_a_stage_wrote_last(
    workspace: Workspace, stages: Stages, anna: Reviewer
) -> None:
    anna.decide("accept", "r1")
    anna.decide("edit", "r2", square(7))
    apply_decisions(workspace.store)
    stages.write("one", proposed("r1", size=5), proposed("r2", size=6), proposed("r3", "f2", size=8))
    assert regions(workspace)["r1"]["area_px"] == 16
    anna.undo()
    anna.undo()
    apply_decisions(workspace.store)
    assert regions(workspace) == stages.expected(anna)
    assert [regions(workspace)[key]["area_px"] for key in ("r1", "r2", "r3")] == [25, 36, 64]


def test_a_decided_region_stays_when_its_part_loses_it_and_goes_back_when_it_returns(
    workspace: Workspace, stages: Stages, anna: Reviewer
) -> None:
    anna.decide("accept", "r4")
    anna.decide("reject", "r5")
    apply_decisions(workspace.store)
    stages.remove("two")
    apply_decisions(workspace.store)
    assert (parts_of(workspace, "r4"), parts_of(workspace, "r5")) == (["review-a4"], ["review-a5"])
    assert regions(workspace) == stages.expected(anna)
    stages.write("two", proposed("r4", "a4", size=9))
    apply_decisions(workspace.store)
    assert (parts_of(workspace, "r4"), parts_of(workspace, "r5")) == (["two"], ["review-a5"])
    assert regions(workspace) == stages.expected(anna)


def test_frames_keep_a_persons_verdict_whatever_quality_control_finds(workspace: Workspace) -> None:
    info = PartInfo("one", "qc", "f", "", 2)
    workspace.store.write(QC, info, QC.from_rows([judged("f1"), judged("f2")]))
    anna = Reviewer(workspace)
    anna.judge("f1", "reject", "reviewer_wrong_plane")
    anna.judge("f2", "accept")
    apply_decisions(workspace.store)

    def verdicts() -> dict[str, tuple[str, list[str]]]:
        return {row["frame_id"]: (row["verdict"], row["reasons"]) for row in workspace.store.read_all(QC).to_pylist()}

    decided = {"f1": ("reject", ["reviewer_wrong_plane"]), "f2": ("accept", ["reviewer"])}
    assert verdicts() == decided
    workspace.store.write(QC, info, QC.from_rows([{**judged("f1"), "sharpness": 9.0}, judged("f2", "reject")]))
    assert verdicts() == decided
    assert workspace.store.read_all(QC)["sharpness"].to_pylist() == [9.0, 2.5]
    anna.undo()
    apply_decisions(workspace.store)
    assert verdicts() == {"f1": decided["f1"], "f2": ("reject", ["dark"])}


def test_second_readings_leave_the_tables_alone(workspace: Workspace, stages: Stages, anna: Reviewer) -> None:
    before = content(workspace)
    anna.decide("reject", "r1", reading="second")
    assert decisions_pending(workspace.store) == 0
    apply_decisions(workspace.store)
    assert content(workspace) == before


def test_what_is_not_in_the_tables_yet_is_counted(workspace: Workspace, anna: Reviewer) -> None:
    assert (decisions_pending(workspace.store), decisions_applied(workspace.store)) == (0, True)
    anna.decide("accept", "r1")
    anna.decide("reject", "r1")
    assert (decisions_pending(workspace.store), decisions_applied(workspace.store)) == (2, False)
    open_to_read(workspace.path)
    assert (decisions_pending(workspace.store), decisions_applied(workspace.store)) == (0, True)
    assert regions(workspace)["r1"]["status"] == "rejected"


def test_whoever_only_reads_does_not_miss_decisions_while_somebody_writes(workspace: Workspace, anna: Reviewer) -> None:
    anna.decide("accept", "r1")
    with exclusive(workspace.path, ""), pytest.raises(UserError, match="another command is writing here"):
        open_to_read(workspace.path)


def test_a_writing_command_begins_and_ends_with_every_decision(workspace: Workspace, anna: Reviewer) -> None:
    anna.decide("accept", "r1")
    with workspace.writing():
        assert regions(workspace)["r1"]["status"] == "accepted"
        anna.decide("reject", "r2")
    assert regions(workspace)["r2"]["status"] == "rejected"


def test_only_parts_with_new_decisions_are_written(workspace: Workspace, stages: Stages, anna: Reviewer) -> None:
    anna.decide("accept", "r1")
    assert apply_decisions(workspace.store) == 1
    before = content(workspace)
    anna.decide("accept", "r4")
    assert apply_decisions(workspace.store) == 1
    after = content(workspace)
    assert {name for name in after if after[name] != before.get(name)} == {
        "regions/part-two.parquet",
        "review/regions/part-two.parquet",
    }
    assert apply_decisions(workspace.store) == 0


def test_a_part_with_other_decisions_has_other_content(workspace: Workspace, anna: Reviewer) -> None:
    def content_ids() -> list[str]:
        return [info.content_id for info in workspace.store.parts(REGIONS).values()]

    before = content_ids()
    anna.decide("accept", "r1")
    apply_decisions(workspace.store)
    decided = content_ids()
    assert (decided[0] != before[0], decided[1] == before[1]) == (True, True)
    anna.undo()
    apply_decisions(workspace.store)
    assert content_ids() == before


def test_without_a_journal_there_is_no_folder_for_it(workspace: Workspace, stages: Stages) -> None:
    with workspace.writing():
        pass
    assert not (workspace.path / "review").exists()


def test_a_damaged_journal_lets_nothing_be_written_over_decisions(
    workspace: Workspace, stages: Stages, anna: Reviewer
) -> None:
    anna.decide("accept", "r1")
    anna.journal.close()
    before = content(workspace)
    anna.journal.path.write_bytes(b"not what it was" * 300)
    with pytest.raises(UserError, match="not a journal"):
        stages.write("one", proposed("r1", size=5))
    assert content(workspace) == before


@pytest.mark.parametrize("seed", range(4))
def test_in_any_order_the_tables_are_those_built_from_nothing(workspace: Workspace, stages: Stages, seed: int) -> None:
    choose = random.Random(seed)
    anna, ben = Reviewer(workspace), Reviewer(workspace, "ben")
    for step in range(60):
        reviewer = choose.choice([anna, ben])
        present = sorted(stages.expected(anna).keys())
        match choose.choice(["decide", "decide", "draw", "undo", "undo", "redo", "write", "remove", "apply"]):
            case "decide" if present:
                key, action = choose.choice(present), choose.choice(["accept", "edit", "reject"])
                if reviewer.journal.latest([key]) or key in regions_as_they_are(workspace):
                    reviewer.decide(action, key, square(choose.randint(1, 16)) if action == "edit" else None)
            case "draw":
                reviewer.draw(f"{choose.choice('ab')}{step}", "falx", square(choose.randint(1, 9)), f"drawn-{step}")
            case "undo" if reviewer.journal.undo_state(reviewer.name)[0]:
                reviewer.undo()
            case "redo" if reviewer.journal.undo_state(reviewer.name)[1]:
                reviewer.redo()
            case "write":
                names = [name for name in ("r1", "r2", "r3") if choose.random() < 0.8]
                stages.write("one", *(proposed(name, size=choose.randint(1, 16)) for name in names))
            case "remove" if "two" in stages.parts:
                stages.remove("two")
            case "remove":
                stages.write("two", proposed("r4", "a4", choose.randint(1, 16)), proposed("r5", "a5"))
            case "apply":
                apply_decisions(workspace.store)
                assert regions(workspace) == stages.expected(anna)
    apply_decisions(workspace.store)
    assert regions(workspace) == stages.expected(anna)

    shutil.rmtree(workspace.path / "regions")
    shutil.rmtree(workspace.path / "review" / "regions", ignore_errors=True)
    (workspace.path / "review" / "applied.json").unlink(missing_ok=True)
    for part, rows in stages.parts.copy().items():
        stages.write(part, *rows.values())
    apply_decisions(workspace.store)
    assert regions(workspace) == stages.expected(anna)


def regions_as_they_are(workspace: Workspace) -> set[str]:
    return set(workspace.store.read_all(REGIONS, ["region_id"])["region_id"].to_pylist())


_KILLED = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from sono.manifests.projection import apply_decisions
from sono.manifests.store import TableStore
left = int(sys.argv[3])
rename = Path.replace
def replace(path, target):
    global left
    left -= 1
    if left < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return rename(path, target)
Path.replace = replace
apply_decisions(TableStore(Path(sys.argv[2])))
"""


@pytest.mark.parametrize("renamed", [0, 1, 2, 3, 5])
def test_a_process_killed_between_two_files_leaves_what_the_next_command_completes(
    workspace: Workspace, stages: Stages, anna: Reviewer, renamed: int
) -> None:
    """The files are, in this order: what is underneath part one, part one, the same of part two, a drawn mask's."""
    anna.decide("accept", "r1")
    anna.decide("edit", "r4", square(9))
    anna.draw("c0ffee", "falx", square(3), "drawn")
    command = [sys.executable, "-c", _KILLED, str(ROOT / "typings"), str(workspace.path), str(renamed)]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    with workspace.writing():
        assert regions(workspace) == stages.expected(anna)
    assert not list(workspace.path.rglob(".tmp-*"))
    for _ in range(3):
        anna.undo()
    apply_decisions(workspace.store)
    assert regions(workspace) == stages.expected(anna)

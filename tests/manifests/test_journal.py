"""The journal of decisions: what it keeps, what it refuses, and that nothing acknowledged is ever lost."""

from __future__ import annotations

import contextlib
import datetime
import random
import resource
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from sono.manifests.errors import UserError
from sono.manifests.journal import Journal, NothingToUndoError
from sono.manifests.journal_events import ChangedMeanwhileError, Event, NewEvent
from tests.packaging.tree import ROOT

ANNA, BEN = "anna", "ben"


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "review" / "journal.sqlite")


def region(name: str = "r1", status: str = "proposed", runs: str = "04") -> dict[str, Any]:
    return {
        "region_id": name,
        "frame_id": "f1",
        "pixel_digest": "d",
        "structure": "head",
        "mask": {"size": [2, 2], "counts": runs},
        "area_px": 4,
        "bbox": [0, 0, 2, 2],
        "source": "sam",
        "status": status,
    }


class Reviewing:
    """Decides as a page does: on what it has seen last."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self._made = 0

    def new(self, action: str = "accept", name: str = "r1", reviewer: str = ANNA, **other: Any) -> NewEvent:
        self._made += 1
        row = region(name)
        values = {
            "event_id": f"{reviewer}-{action}-{self._made}",
            "reviewer": reviewer,
            "subject": "region",
            "frame_id": "f1",
            "region_id": name,
            "structure": "head",
            "action": action,
            "before": row,
            "after": row,
        }
        return NewEvent(**{**values, **other})

    def decide(self, action: str = "accept", name: str = "r1", reviewer: str = ANNA, **other: Any) -> Event:
        latest = self.journal.latest([name]).get(name)
        new = self.new(action, name, reviewer, before=latest.after if latest else region(name), **other)
        return self.journal.append(new, expected=latest.n if latest else None)

    def decide_on_many(self) -> None:
        for number in range(100):
            self.decide(name=f"r{number}")

    def undo(self, reviewer: str = ANNA) -> Event:
        self._made += 1
        return self.journal.undo(reviewer, f"undo-{self._made}")

    def redo(self, reviewer: str = ANNA) -> Event:
        self._made += 1
        return self.journal.redo(reviewer, f"redo-{self._made}")


@pytest.fixture
def page(journal: Journal) -> Reviewing:
    return Reviewing(journal)


def test_a_decision_is_kept_with_reviewer_time_tool_before_and_after(journal: Journal, page: Reviewing) -> None:
    tool = {"program": "sono-curate 0.1.0", "used": ["box", "brush"], "seconds": 4.2}
    before = datetime.datetime.now(datetime.UTC)
    event = journal.append(page.new("edit", after=region(runs="13"), tool=tool), expected=None)

    kept = Journal(journal.path).history("r1")
    assert kept == [event]
    assert (event.n, event.reviewer, event.tool, event.decided) == (1, ANNA, tool, True)
    assert before <= event.at <= datetime.datetime.now(datetime.UTC)
    assert event.before == region()
    assert event.after == {
        **region(status="edited", runs="13"),
        "reviewer": ANNA,
        "updated_at": event.at.isoformat(timespec="microseconds"),
    }


def test_one_event_sent_twice_is_one_event(journal: Journal, page: Reviewing) -> None:
    new = page.new()
    first = journal.append(new, expected=None)
    page.decide("reject")
    assert journal.append(new, expected=None) == first
    assert journal.count() == 2


def test_events_can_be_neither_changed_nor_deleted(journal: Journal, page: Reviewing) -> None:
    page.decide()
    with sqlite3.connect(journal.path) as database:
        for statement in ("UPDATE events SET reviewer = 'x'", "DELETE FROM events"):
            with pytest.raises(sqlite3.IntegrityError, match="events stay"):
                database.execute(statement)
    assert journal.count() == 1


def test_a_decision_on_what_somebody_else_changed_is_refused(journal: Journal, page: Reviewing) -> None:
    bens = page.decide("reject", reviewer=BEN)
    with pytest.raises(ChangedMeanwhileError) as refused:
        journal.append(page.new("accept"), expected=None)
    assert refused.value.latest == bens
    assert journal.append(page.new("accept"), expected=bens.n).n == 2


def test_second_readings_decide_nothing_and_follow_each_other_alone(journal: Journal, page: Reviewing) -> None:
    first = page.decide("reject", reviewer=ANNA)
    second = journal.append(page.new("accept", reviewer=BEN, reading="second"), expected=None)
    assert journal.latest(["r1"]) == {"r1": first}
    with pytest.raises(ChangedMeanwhileError):
        journal.append(page.new("reject", reviewer=BEN, reading="second"), expected=None)
    again = journal.append(page.new("reject", reviewer=BEN, reading="second"), expected=second.n)
    adjudicated = journal.append(page.new("accept", reading="adjudication"), expected=first.n)
    assert journal.latest(["r1"]) == {"r1": adjudicated}
    assert list(journal.events()) == journal.history("r1") == [first, second, again, adjudicated]
    assert list(journal.events(after=2)) == [again, adjudicated]


def test_undo_and_redo_go_back_and_forth_without_end(journal: Journal, page: Reviewing) -> None:
    accepted = page.decide("accept", "r1")
    edited = page.decide("edit", "r1", after=region(runs="13"))
    other = page.decide("reject", "r2")
    assert journal.undo_state(ANNA) == (other.n, None)

    for _ in range(3):
        assert [page.undo().undoes for _ in range(3)] == [other.n, edited.n, accepted.n]
        assert Journal(journal.path).undo_state(ANNA) == (None, accepted.n)
        with pytest.raises(NothingToUndoError):
            page.undo()
        assert [page.redo().undoes for _ in range(3)] == [accepted.n, edited.n, other.n]
        assert journal.undo_state(ANNA) == (other.n, None)
        with pytest.raises(NothingToUndoError):
            page.redo()
    latest = journal.latest(["r1"])["r1"]
    assert (latest.after, latest.stands) == (edited.after, edited.n)


def test_a_decision_after_an_undo_ends_the_redo(journal: Journal, page: Reviewing) -> None:
    first = page.decide(name="r1")
    page.decide(name="r2")
    page.undo()
    third = page.decide(name="r3")
    assert journal.undo_state(ANNA) == (third.n, None)
    page.undo()
    assert journal.undo_state(ANNA) == (first.n, third.n)
    page.undo()
    assert journal.undo_state(ANNA) == (None, first.n)
    page.redo()
    assert journal.undo_state(ANNA) == (first.n, third.n)


def test_undo_and_redo_are_those_of_a_list_with_a_cursor(journal: Journal, page: Reviewing) -> None:
    choose = random.Random(2026)
    done: list[int] = []
    undone: list[int] = []
    for _ in range(300):
        step = choose.choice(["decide", "undo", "undo", "redo"])
        if step == "decide":
            done.append(page.decide(choose.choice(["accept", "reject"]), choose.choice(["r1", "r2"])).n)
            undone.clear()
        elif step == "undo" and done:
            assert page.undo().undoes == done[-1]
            undone.append(done.pop())
        elif step == "redo" and undone:
            assert page.redo().undoes == undone[-1]
            done.append(undone.pop())
        expected = done[-1] if done else None, undone[-1] if undone else None
        assert journal.undo_state(ANNA) == expected


def test_undone_decisions_stand_no_more(journal: Journal, page: Reviewing) -> None:
    page.decide("accept")
    event = page.undo()
    assert (event.decided, event.stands, event.after) == (False, None, region())
    assert journal.standing(["r1"]) == {"r1": (event, None)}
    redone = page.redo()
    assert redone.decided
    assert journal.standing(["r1"])["r1"][1] == journal.event(1)


def test_what_somebody_else_has_changed_since_is_passed_over(journal: Journal, page: Reviewing) -> None:
    earlier = page.decide("accept", "r2")
    page.decide("accept", "r1")
    bens = page.decide("reject", "r1", reviewer=BEN)
    assert journal.undo_state(ANNA) == (earlier.n, None)
    assert page.undo().undoes == earlier.n
    assert journal.latest(["r1"]) == {"r1": bens}
    assert page.undo(BEN).undoes == bens.n
    latest = journal.latest(["r1"])["r1"]
    assert (latest.stands, latest.after and latest.after["status"]) == (2, "accepted")


def test_an_undo_that_was_composed_elsewhere_is_held_to_the_same_rules(journal: Journal, page: Reviewing) -> None:
    mine = page.decide("accept")
    bens = page.decide("reject", reviewer=BEN)
    with pytest.raises(ChangedMeanwhileError):
        journal.append(page.new("undo", undoes=mine.n), expected=bens.n)
    undone = journal.append(page.new("undo", reviewer=BEN, undoes=bens.n, after=bens.before), expected=bens.n)
    assert undone.stands == mine.n


def test_frames_are_judged_by_verdict_and_reasons(journal: Journal) -> None:
    values: dict[str, Any] = {"reviewer": ANNA, "subject": "frame", "frame_id": "f1", "region_id": None}
    after = {"verdict": "reject", "reasons": ["reviewer_wrong_plane"]}
    event = journal.append(NewEvent(event_id="1", action="reject", after=after, **values), expected=None)
    assert journal.latest(["f1", "other"]) == {"f1": event}
    assert event.after == after


@pytest.mark.parametrize(
    "wrong",
    [
        {"region_id": None},
        {"subject": "caption"},
        {"action": "review"},
        {"action": "undo"},
        {"undoes": 1},
        {"reading": "third"},
        {"reviewer": ""},
        {"after": None},
        {"after": {**region(), "region_id": "r2"}},
        {"after": {**region(), "frame_id": "f2"}},
        {"after": {**region(), "structure": "abdomen"}},
        {"after": {**region(), "mask": None}},
        {"after": {**region(), "mask": {"size": [2], "counts": "04"}}},
        {"after": {**region(), "bbox": [0, 0, 1.5, 2]}},
        {"after": {**region(), "area_px": None}},
        {"after": {**region(), "source": None}},
        {"after": {**region(), "scores": {"score": 1.0}}},
    ],
)
def test_what_no_table_could_be_made_from_is_no_event(page: Reviewing, wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="not an event"):
        page.new(**{"action": "edit", **wrong})


def test_threads_lose_nothing_and_only_one_of_them_wins(journal: Journal, page: Reviewing) -> None:
    won: list[int] = []

    def decide(number: int) -> None:
        for step in range(20):
            journal.append(page.new(name=f"r{number}-{step}", event_id=f"{number}-{step}"), expected=None)
        with contextlib.suppress(ChangedMeanwhileError):
            won.append(journal.append(page.new(event_id=f"{number}"), expected=None).n)

    threads = [threading.Thread(target=decide, args=[number]) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert [event.n for event in journal.events()] == list(range(1, 82))


def test_a_full_disk_is_one_line_and_the_journal_stays_whole(journal: Journal, page: Reviewing) -> None:
    page.decide()
    database = journal._connection()
    pages = database.execute("PRAGMA page_count").fetchone()[0]
    database.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(UserError, match="no space is left; free some, then decide again"):
        page.decide_on_many()
    database.execute("PRAGMA max_page_count = 1000000")
    kept = journal.count()
    assert journal.problem() is None
    assert page.decide("reject").n == kept + 1


def test_a_write_that_fails_is_one_line_and_the_journal_stays_whole(journal: Journal, page: Reviewing) -> None:
    page.decide()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, before[1]))
    try:
        with pytest.raises(UserError, match="the disk cannot be read or written"):
            page.decide_on_many()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    kept = Journal(journal.path).count()
    assert 1 < kept < 100
    assert page.decide("reject").n == kept + 1
    assert journal.problem() is None


def test_a_damaged_file_is_one_line(journal: Journal, page: Reviewing) -> None:
    for number in range(50):
        page.decide(name=f"r{number}")
    journal.close()
    content = bytearray(journal.path.read_bytes())
    for start in range(4096, len(content), 4096):
        content[start : start + 200] = b"\xff" * 200
    journal.path.write_bytes(content)
    with pytest.raises(UserError, match="the journal of decisions is damaged; keep this file"):
        list(Journal(journal.path).events())


@pytest.mark.parametrize("content", [b"no database at all, but long enough to look like one" * 40, "other", "newer"])
def test_a_foreign_file_is_left_as_it_is(tmp_path: Path, content: bytes | str) -> None:
    path = tmp_path / "review" / "journal.sqlite"
    path.parent.mkdir()
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        if content == "newer":
            Journal(path).close()
        with sqlite3.connect(path) as database:
            database.execute("CREATE TABLE mine (x)" if content == "other" else "PRAGMA user_version = 2")
        database.close()
    before = path.read_bytes()
    with pytest.raises(UserError, match=r"not a journal|another version"):
        Journal(path)
    assert path.read_bytes() == before


def test_a_copy_without_its_newest_events_is_noticed(journal: Journal, page: Reviewing) -> None:
    assert journal.problem() is None
    page.decide()
    page.decide("reject")
    assert journal.problem() is None
    journal.close()
    with sqlite3.connect(journal.path) as database:
        database.execute("DROP TRIGGER events_stay")
        database.execute("PRAGMA foreign_keys = OFF")
        database.execute("DELETE FROM events WHERE n = 1")
    database.close()
    assert journal.problem() == "events are missing from it"


_WRITER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from sono.manifests.journal import Journal
from sono.manifests.journal_events import NewEvent
journal, run = Journal(Path(sys.argv[2])), sys.argv[3]
row = {"frame_id": "f", "pixel_digest": "d", "structure": "head", "mask": {"size": [2, 2], "counts": "04" * 400},
       "area_px": 4, "bbox": [0, 0, 2, 2], "source": "sam", "status": "proposed"}
step = 0
while True:
    name = f"{run}-{step}"
    after = {**row, "region_id": name}
    event = journal.append(NewEvent(event_id=name, reviewer="anna", subject="region", frame_id="f", region_id=name,
                                    structure="head", action="accept", before=after, after=after), expected=None)
    print(event.n, name, flush=True)
    step += 1
"""


def test_no_acknowledged_decision_is_lost_when_the_writer_is_killed(tmp_path: Path) -> None:
    """A hundred times, each at another moment: some while the file is being made, most while it is written."""
    moments = random.Random(0)
    path = tmp_path / "review" / "journal.sqlite"
    acknowledged: dict[int, str] = {}
    for run in range(100):
        command = [sys.executable, "-S", "-E", "-c", _WRITER, str(ROOT / "typings"), str(path), str(run)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout is not None
            if run % 10:  # the others may not even have opened the file
                acknowledged.update(_acknowledged([writer.stdout.readline()]))
            time.sleep(moments.uniform(0, 0.04))
            writer.kill()
            acknowledged.update(_acknowledged(writer.stdout))
    journal = Journal(path)
    assert journal.problem() is None
    kept = {event.n: event.event_id for event in journal.events()}
    assert acknowledged.items() <= kept.items()
    assert len(acknowledged) > 100
    assert len(kept) - len(acknowledged) <= 100  # each writer may die between storing and saying so


def _acknowledged(lines: Any) -> dict[int, str]:
    """Of complete lines only: the last may be cut off."""
    pairs = (line.split() for line in lines if line.endswith("\n"))
    return {int(n): name for n, name in pairs}


def test_a_copied_workspace_keeps_its_decisions(journal: Journal, page: Reviewing, tmp_path: Path) -> None:
    event = page.decide()
    journal.close()
    shutil.copytree(journal.path.parent, tmp_path / "copy")
    assert Journal(tmp_path / "copy" / "journal.sqlite").history("r1") == [event]


def test_a_journal_that_cannot_be_written_can_be_read(
    journal: Journal, page: Reviewing, monkeypatch: pytest.MonkeyPatch
) -> None:
    event = page.decide()
    journal.close()
    monkeypatch.setattr("os.access", lambda *_: False)  # as it is on a read-only file system
    archived = Journal(journal.path)
    assert archived.history("r1") == [event]
    with pytest.raises(UserError, match="the journal of decisions cannot be written"):
        archived.append(page.new("reject"), expected=event.n)


def test_what_is_forgotten_leaves_the_file_even_if_a_run_is_killed_before_it_is_written_anew(
    journal: Journal, page: Reviewing
) -> None:
    page.decide_on_many()

    def kept() -> list[str]:
        files = sorted(journal.path.parent.glob("journal.sqlite*"))
        return [file.name for file in files if b'"pixel_digest"' in file.read_bytes()]

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    assert kept()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Journal, "_reading", killed)
        with pytest.raises(KeyboardInterrupt):
            journal.forget(["f1"])
    assert kept()
    assert journal.forget(["f1"]) == 0
    assert kept() == []
    with sqlite3.connect(journal.path) as database:
        assert database.execute("SELECT count(*) FROM events").fetchone() == (100,)

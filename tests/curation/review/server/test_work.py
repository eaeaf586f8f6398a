"""What waits, while decisions of several requests come in any order."""

from __future__ import annotations

from sono.curation.review.server.work import Work
from sono.manifests.journal_events import Event
from sono.manifests.schemas import REGIONS
from sono.manifests.workspace import Workspace
from tests.manifests.reviewing import Reviewer


def test_decisions_count_in_whatever_order_they_come(predicted: Workspace) -> None:
    anna = Reviewer(predicted)
    work = Work(predicted, anna.journal, lambda: None)
    one, other = predicted.store.read_all(REGIONS, ["region_id"])["region_id"].to_pylist()[:2]
    events = [anna.decide("accept", one), anna.decide("reject", other), anna.undo()]
    assert [work.add(event) for event in (events[2], events[1], events[0])] == [True] * 3
    assert [work.add(event) for event in events] == [False] * 3
    assert (work.decided, work.left("masks")) == (1, 17)
    assert open_masks(work) == 17


def test_what_was_decided_before_the_start_is_known(predicted: Workspace) -> None:
    anna = Reviewer(predicted)
    region_id = predicted.store.read_all(REGIONS, ["region_id"])["region_id"][0].as_py()
    event: Event = anna.decide("accept", region_id)
    work = Work(predicted, anna.journal, lambda: None)
    assert not work.add(event)
    assert (work.decided, work.left("masks"), open_masks(work)) == (1, 17, 17)


def open_masks(work: Work) -> int:
    return sum(len(frame.regions) for frame in work.page("masks", None, 64, None, None).frames)

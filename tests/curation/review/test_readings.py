"""Who reads which mask again, and what they may see."""

from __future__ import annotations

import json
import uuid
from typing import Any

import numpy as np
import pytest

from sono.curation.review.readings import (
    OwedReadings,
    ReadingPlan,
    mixed,
    outstanding,
    owed_by,
    readings_of,
    shown,
)
from sono.manifests.errors import UserError
from sono.manifests.masks import Mask, encode
from tests.curation.review.decisions import Decisions, region_row

ALL = ReadingPlan(key=b"k" * 32, second_share=1.0, repeat_share=1.0, repeat_after=2)
SECOND = ReadingPlan(key=b"k" * 32, second_share=1.0)


def box(x: int, width: int = 20) -> Mask:
    mask = np.zeros((40, 60), np.bool_)
    mask[10:30, x : x + width] = True
    return mask


def propose(decisions: Decisions, number: int = 0) -> str:
    return decisions.propose(region_row(f"region{number}", f"frame{number}", "head", box(10)))


def owes(decisions: Decisions, region_id: str, reviewer: str, plan: ReadingPlan = SECOND) -> str | None:
    found = readings_of(decisions.journal.history(region_id))
    return owed_by(reviewer, outstanding(found, plan), plan, decisions.journal.decisions_since)


def test_the_first_reading_is_anybodys_and_the_second_somebody_elses(decisions: Decisions) -> None:
    region = propose(decisions)
    assert owes(decisions, region, "ada") == owes(decisions, region, "bea") == "first"
    decisions.decide(region, "ada", "accept")
    assert owes(decisions, region, "ada") is None
    assert owes(decisions, region, "bea") == "second"
    decisions.decide(region, "bea", "accept", reading="second")
    assert owes(decisions, region, "bea") is owes(decisions, region, "eve") is None
    assert outstanding(readings_of(decisions.journal.history(region)), SECOND).is_nothing


def test_the_share_is_kept_and_the_choice_is_the_keys() -> None:
    plan = ReadingPlan(key=b"a" * 32, second_share=0.2, repeat_share=0.1)
    ids = [f"{number:032x}" for number in range(20_000)]
    second, again = [{each for each in ids if chosen(each)} for chosen in (plan.read_twice, plan.repeated)]
    assert len(second) == pytest.approx(4000, rel=0.06)
    assert len(again) == pytest.approx(2000, rel=0.08)
    assert len(second & again) == pytest.approx(400, rel=0.2)  # independent of each other
    assert second == {each for each in ids if ReadingPlan(key=b"a" * 32, second_share=0.2).read_twice(each)}
    other = ReadingPlan(key=b"b" * 32, second_share=0.2)
    assert {each for each in ids if other.read_twice(each)} != second


@pytest.mark.parametrize("wrong", [{"second_share": 1.5}, {"repeat_share": float("nan")}, {"repeat_after": -1}])
def test_a_plan_outside_of_its_limits_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=next(iter(wrong))):
        ReadingPlan(key=b"k", **wrong)


@pytest.mark.parametrize(
    ("first", "second", "settled"),
    [
        (("accept", None), ("accept", None), True),
        (("reject", None), ("reject", None), True),
        (("accept", None), ("reject", None), False),
        (("reject", None), ("edit", box(12)), False),
        (("edit", box(10, 21)), ("accept", None), True),  # IoU 20/21
        (("edit", box(16)), ("accept", None), False),  # IoU 14/26
        (("edit", box(0, 0)), ("edit", box(0, 0)), True),  # both empty
        (("edit", box(0, 0)), ("accept", None), False),
    ],
)
def test_a_disagreement_is_adjudicated_by_who_read_it_neither_time(
    decisions: Decisions, first: tuple[str, Mask | None], second: tuple[str, Mask | None], settled: bool
) -> None:
    region = propose(decisions)
    decisions.decide(region, "ada", *first)
    decisions.decide(region, "bea", *second, reading="second")
    assert owes(decisions, region, "eve") == (None if settled else "adjudication")
    assert owes(decisions, region, "ada") is owes(decisions, region, "bea") is None
    decisions.decide(region, "eve", "accept", reading="adjudication")
    assert owes(decisions, region, "zoe") is None


def test_readers_who_name_different_structures_disagree(decisions: Decisions) -> None:
    region = propose(decisions)
    decisions.decide(region, "ada", "edit", structure="thalami")
    decisions.decide(region, "bea", "accept", reading="second")
    assert owes(decisions, region, "eve") == "adjudication"
    asked, *both = shown(decisions.journal.history(region), "adjudication", SECOND)
    assert asked.row is not None
    assert asked.row["structure"] == "head"
    assert {each.row["structure"] for each in both if each.row} == {"head", "thalami"}
    same = propose(decisions, 1)
    for reading, reviewer in (("first", "ada"), ("second", "bea")):
        decisions.decide(same, reviewer, "edit", structure="thalami", reading=reading)
    assert owes(decisions, same, "eve") is None


def test_how_alike_two_masks_have_to_be_is_the_plans(decisions: Decisions) -> None:
    region = propose(decisions)
    decisions.decide(region, "ada", "edit", box(12))  # IoU 18/22
    decisions.decide(region, "bea", "accept", reading="second")
    assert owes(decisions, region, "eve") == "adjudication"
    lenient = ReadingPlan(key=b"k" * 32, second_share=1.0, alike_iou=0.8)
    assert owes(decisions, region, "eve", lenient) is None


def test_a_repeat_is_owed_by_the_first_reader_after_enough_other_decisions(decisions: Decisions) -> None:
    region = propose(decisions)
    decisions.decide(region, "ada", "accept")
    for number in (1, 2):
        assert owes(decisions, region, "ada", ALL) is None
        decisions.decide(propose(decisions, number), "ada", "reject")
    assert owes(decisions, region, "ada", ALL) == "repeat"
    decisions.decide(region, "ada", "reject", reading="repeat")
    assert owes(decisions, region, "ada", ALL) is None
    assert owes(decisions, region, "bea", ALL) == "second"


def test_nobody_reads_second_what_they_have_changed(decisions: Decisions) -> None:
    region = propose(decisions)
    decisions.decide(region, "ada", "accept")
    decisions.decide(region, "bea", "reject")  # saw what was decided
    assert owes(decisions, region, "bea") is None
    assert owes(decisions, region, "eve") == "second"
    history = decisions.journal.history(region)
    assert readings_of(history).first == readings_of(history[:1]).first


def test_a_drawn_mask_is_not_read_again(decisions: Decisions) -> None:
    region = propose(decisions)
    decisions.decide(region, "ada", "draw")
    assert owes(decisions, region, "bea") is None
    assert shown(decisions.journal.history(region), "second", SECOND) == []


def test_undoing_takes_readings_back(decisions: Decisions) -> None:
    region = propose(decisions)
    decisions.decide(region, "ada", "accept")
    decisions.decide(region, "bea", "reject", reading="second")
    assert owes(decisions, region, "eve") == "adjudication"
    decisions.journal.undo("bea", uuid.uuid4().hex)
    assert owes(decisions, region, "eve") == owes(decisions, region, "bea") == "second"
    decisions.journal.redo("bea", uuid.uuid4().hex)
    assert owes(decisions, region, "eve") == "adjudication"
    decisions.decide(region, "eve", "accept", reading="adjudication")
    assert owes(decisions, region, "zoe") is None
    decisions.journal.undo("eve", uuid.uuid4().hex)
    assert owes(decisions, region, "zoe") == "adjudication"
    decisions.journal.undo("ada", uuid.uuid4().hex)
    assert owes(decisions, region, "ada") == "first"
    assert owes(decisions, region, "bea") is None  # who has read it second cannot read it first


def test_a_changed_mind_counts_as_the_last_word_of_the_same_reading(decisions: Decisions) -> None:
    region = propose(decisions)
    decisions.decide(region, "ada", "accept")
    decisions.decide(region, "ada", "edit", box(30))
    found = readings_of(decisions.journal.history(region))
    assert found.first is not None
    assert (found.first.status, found.first.mask) == ("edited", encode(box(30)))
    assert found.original == decisions.rows[region]


def test_a_second_reader_sees_the_mask_as_it_was_and_no_trace_of_the_decision(decisions: Decisions) -> None:
    region = propose(decisions)
    decisions.decide(region, "ada", "edit", box(30))
    for reading in ("second", "repeat"):
        (only,) = shown(decisions.journal.history(region), reading, SECOND)
        assert only.label is None
        assert only.row == decisions.rows[region]
        assert "ada" not in json.dumps(only.row)


def test_who_adjudicates_sees_both_readings_without_names_in_an_order_of_chance(decisions: Decisions) -> None:
    firsts = []
    for number in range(40):
        region = propose(decisions, number)
        decisions.decide(region, "ada", "edit", box(30))
        decisions.decide(region, "bea", "reject", reading="second")
        asked, a, b = shown(decisions.journal.history(region), "adjudication", SECOND)
        assert asked.row == decisions.rows[region]
        assert (a.label, b.label) == ("A", "B")
        assert {a.row is None, b.row is None} == {True, False}
        kept = a if b.row is None else b
        assert kept.row is not None
        assert kept.row["mask"] == encode(box(30))
        assert "ada" not in json.dumps([asked.row, a.row, b.row])
        firsts.append(kept is a)
    assert 8 < sum(firsts) < 32


def test_what_is_owed_is_known_from_the_journal_and_kept_up_to_date(decisions: Decisions) -> None:
    regions = [propose(decisions, number) for number in range(6)]
    for region in regions[:4]:
        decisions.decide(region, "ada", "accept")
    readings = OwedReadings(decisions.journal, SECOND)
    assert [each.region_id for each in readings.next("bea", 10)] == regions[:4]
    assert [each.region_id for each in readings.next("bea", 2)] == regions[:2]
    assert readings.next("ada", 10) == readings.next("bea", 10, structure="thalami") == []
    decisions.decide(regions[0], "bea", "reject", reading="second")
    decisions.decide(regions[1], "bea", "accept", reading="second")
    decisions.decide(regions[4], "eve", "accept")
    for region in (*regions[:2], regions[4]):
        readings.note(region)
    assert [each.region_id for each in readings.next("bea", 10)] == [*regions[2:5]]
    (dispute,) = readings.next("eve", 10, readings=("adjudication",))
    assert (dispute.region_id, dispute.frame_id, dispute.reading) == (regions[0], "frame0", "adjudication")
    assert readings.count("bea", ("adjudication",)) == 0
    assert [each.region_id for each in OwedReadings(decisions.journal, SECOND).next("bea", 10)] == [*regions[2:5]]


def test_readings_again_stand_among_the_others() -> None:
    assert mixed(list("abcdef"), ["X", "Y", "Z"], every=2) == list("abXcdYefZ")
    assert mixed([], ["X"], every=2) == ["X"]
    assert mixed(list("abc"), [], every=2) == list("abc")

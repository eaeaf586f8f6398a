"""Masks follow what moves, and stop where nothing can be followed."""

from __future__ import annotations

import numpy as np
import pytest

from sono.curation.cleaning.sectors.geometry import iou
from sono.curation.masks.carry.propagate import Anchor, Carried, Cine, Stop, carry
from tests.curation.masks.cines import SIZE, DrawnCine, draw_cine

EVERYWHERE = np.ones(SIZE, np.bool_)


def cine(drawn: DrawnCine, shown: np.ndarray = EVERYWHERE) -> Cine:  # type: ignore[type-arg]
    return Cine(len(drawn.images), drawn.images.__getitem__, shown)


def anchors(drawn: DrawnCine, *places: tuple[str, int]) -> list[Anchor]:
    return [Anchor(f"{structure}{at}", structure, at, drawn.masks[structure][at]) for structure, at in places]


def run(drawn: DrawnCine, given: list[Anchor], shown: np.ndarray = EVERYWHERE) -> tuple[list[Carried], list[Stop]]:  # type: ignore[type-arg]
    return carry(cine(drawn, shown), given, {(anchor.position, anchor.structure) for anchor in given})


def test_masks_follow_what_moves_in_both_directions() -> None:
    drawn = draw_cine(7)
    carried, stops = run(drawn, anchors(drawn, ("head", 3), ("cavum_septi_pellucidi", 3)))
    assert stops == []
    assert {(each.position, each.anchor.structure) for each in carried} == {
        (position, structure) for position in (0, 1, 2, 4, 5, 6) for structure in drawn.masks
    }
    for each in carried:
        truth = drawn.masks[each.anchor.structure][each.position]
        stayed = iou(each.anchor.mask, truth)
        assert iou(each.mask, truth) > max(0.88, stayed), (each.position, each.anchor.structure)
        assert each.steps == abs(each.position - 3)
        assert 0.8 <= each.confidence <= 1
        assert each.area_ratio == pytest.approx(1, abs=0.1)


def test_nothing_is_carried_across_a_cut() -> None:
    drawn = draw_cine(6, cut=3)
    carried, stops = run(drawn, anchors(drawn, ("head", 0)))
    assert {each.position for each in carried} == {1, 2}
    assert [(stop.structure, stop.position) for stop in stops] == [("head", 3)]
    assert stops[0].reason in ("flow_inconsistent", "looks_different", "area_changed")


def test_a_mask_stops_where_it_leaves_the_ultrasound() -> None:
    drawn = draw_cine(8, speed=4)
    shown = EVERYWHERE.copy()
    shown[:, 118:] = False
    carried, stops = run(drawn, anchors(drawn, ("head", 0)), shown)
    assert [(stop.structure, stop.reason) for stop in stops] == [("head", "left_sector")]
    assert {each.position for each in carried} == set(range(1, stops[0].position))
    assert not any((each.mask & ~shown).any() for each in carried)


def test_between_two_masks_each_frame_gets_the_more_confident_one() -> None:
    drawn = draw_cine(7)
    carried, stops = run(drawn, anchors(drawn, ("head", 0), ("head", 6)))
    assert stops == []
    assert [each.position for each in carried] == [1, 2, 3, 4, 5]
    assert {each.anchor.position for each in carried} == {0, 6}
    alone = {each.position: each for each in run(drawn, anchors(drawn, ("head", 0)))[0]}
    assert all(each.confidence >= alone[each.position].confidence for each in carried)


def test_a_frame_with_a_decision_gets_no_proposal_but_is_passed() -> None:
    drawn = draw_cine(5)
    given = anchors(drawn, ("head", 0))
    carried, stops = carry(cine(drawn), given, {(0, "head"), (2, "head")})
    assert (stops, [each.position for each in carried]) == ([], [1, 3, 4])


def test_frames_that_cannot_be_had_end_the_way() -> None:
    drawn = draw_cine(5)
    images = [*drawn.images[:3], None, drawn.images[4]]
    carried, stops = carry(Cine(5, images.__getitem__, EVERYWHERE), anchors(drawn, ("head", 1)), {(1, "head")})
    assert [each.position for each in carried] == [0, 2]
    assert stops == [Stop("head", 3, "frame_differs")]
    nothing, stops = carry(Cine(5, lambda _: None, EVERYWHERE), anchors(drawn, ("head", 1)), {(1, "head")})
    assert (nothing, {stop.reason for stop in stops}) == ([], {"frame_differs"})


def test_frames_too_small_for_the_flow_are_left_alone() -> None:
    tiny = np.zeros((20, 20), np.uint8)
    mask = np.zeros((20, 20), np.bool_)
    mask[5:15, 5:15] = True
    given = [Anchor("a", "head", 0, mask)]
    carried, stops = carry(Cine(2, lambda _: tiny, np.ones((20, 20), np.bool_)), given, {(0, "head")})
    assert (carried, stops) == ([], [Stop("head", 1, "frame_too_small")])

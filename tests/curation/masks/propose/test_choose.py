"""The choice among candidates: what several prompts agree on, within the ultrasound, without specks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pytest

from sono.curation.images.pixels import Pixels
from sono.curation.masks.backends.protocol import Candidate, Embedding, Prompts
from sono.curation.masks.propose.choose import choose
from sono.curation.masks.propose.prompts import ask_for

SIZE = (60, 80)
FRAME = Embedding(SIZE, {})
FIELD = (10, 0, 60, 60)


def square(x: int, y: int, side: int) -> npt.NDArray[np.bool_]:
    mask = np.zeros(SIZE, bool)
    mask[y : y + side, x : x + side] = True
    return mask


@dataclass
class Scripted:
    """Answers each box with the candidates that are written down for it."""

    answers: Mapping[float, Sequence[Candidate]]
    name: str = "sam"
    model_sha256: str | None = None
    embedding_id: str | None = None

    def embed(self, pixels: Pixels) -> Embedding:
        raise NotImplementedError

    def propose(self, embedding: Embedding, prompts: Prompts) -> Sequence[Candidate]:
        assert prompts.box is not None
        return self.answers[prompts.box[0]]


def asked(*places: float) -> list[Prompts]:
    return [Prompts("head", (place, 0, 9, 9)) for place in places]


def candidate(mask: npt.NDArray[np.bool_], score: float, **more: float) -> Candidate:
    return Candidate(mask, score, {"stability": score, **more})


def test_what_both_prompts_lead_to_beats_what_one_is_surer_of() -> None:
    lonely, shared, same = square(2, 2, 20), square(30, 20, 30), square(30, 20, 29)
    backend = Scripted({0: [candidate(lonely, 0.95), candidate(shared, 0.8)], 1: [candidate(same, 0.7)]})
    chosen = choose(backend, FRAME, asked(0, 1), None)
    assert chosen is not None
    found, prompts = chosen
    assert np.array_equal(found.mask, shared)
    assert prompts.box == (0, 0, 9, 9)
    assert found.scores["agreement"] == pytest.approx(29**2 / 30**2)
    assert found.score == pytest.approx(0.8 * 29**2 / 30**2)


def test_a_models_own_opinion_decides_between_equals_only() -> None:
    first, second = square(2, 2, 20), square(30, 20, 30)
    equal = Scripted({0: [candidate(first, 0.8, predicted_iou=0.2), candidate(second, 0.8, predicted_iou=0.9)]})
    unequal = Scripted({0: [candidate(first, 0.81, predicted_iou=0.2), candidate(second, 0.8, predicted_iou=0.9)]})
    for backend, wanted in ((equal, second), (unequal, first)):
        chosen = choose(backend, FRAME, asked(0), None)
        assert chosen is not None
        assert np.array_equal(chosen[0].mask, wanted)


def test_nothing_outside_the_ultrasound_and_no_specks() -> None:
    shown = np.zeros(SIZE, bool)
    shown[:, 10:70] = True
    mask = square(0, 10, 30) | square(60, 50, 3) | square(50, 5, 10)
    chosen = choose(Scripted({0: [candidate(mask, 0.8)]}), FRAME, asked(0), shown)
    assert chosen is not None
    assert np.array_equal(chosen[0].mask, (square(0, 10, 30) & shown) | square(50, 5, 10))


def test_masks_of_which_hardly_anything_is_left_are_none() -> None:
    backend = Scripted({0: [candidate(square(0, 0, 3), 0.9)], 1: []})
    assert choose(backend, FRAME, asked(0, 1), None) is None


def request(**more: object) -> dict[str, object]:
    none: dict[str, object] = dict.fromkeys(("typical", "wide", "origin", "region_id", "distance"))
    return {"structure": "head", **none, **more}


def test_places_are_shares_of_the_field() -> None:
    found = ask_for(
        request(typical=[0.5, 0.25, 1.0, 0.75], wide=[0.25, 0, 1.25, 1], origin="learned"), FIELD, SIZE, None
    )
    assert found is not None
    assert found.origin == "learned"
    assert [prompts.box for prompts in found.prompts] == [(40, 15, 30, 30), (25, 0, 55, 60)]


def test_a_place_without_a_spread_is_asked_for_twice_all_the_same() -> None:
    for wide in (None, [0.5, 0.25, 1.0, 0.75]):
        found = ask_for(request(typical=[0.5, 0.25, 1.0, 0.75], wide=wide, origin="default"), FIELD, SIZE, None)
        assert found is not None
        first, second = (prompts.box for prompts in found.prompts)
        assert first == (40, 15, 30, 30)
        assert second is not None
        assert second[2] > 30
        assert second[3] > 30


def test_a_neighbours_mask_goes_before_a_place_and_the_box_grows_with_the_distance() -> None:
    near, far = (
        ask_for(
            request(typical=[0, 0, 1, 1], origin="learned", region_id="r", distance=away),
            FIELD,
            SIZE,
            square(20, 10, 20),
        )
        for away in (1, 5)
    )
    assert near is not None
    assert far is not None
    assert near.origin == far.origin == "neighbour"
    assert near.record == {"region_id": "r", "frames_away": 1}
    assert near.prompts[0].mask is not None
    assert near.prompts[0].box == (20, 10, 20, 20)
    assert far.prompts[0].box == (18, 8, 24, 24)


def test_nobody_knows_where() -> None:
    assert ask_for(request(), FIELD, SIZE, None) is None

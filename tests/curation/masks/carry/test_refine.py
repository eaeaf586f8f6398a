"""Corrections of carried masks: what the best candidate adds, and where it must not reach."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sono.curation.images.pixels import Pixels
from sono.curation.masks.backends.protocol import Candidate, Embedding, Prompts
from sono.curation.masks.carry.refine import refine
from sono.manifests.masks import Mask

SIZE = (60, 80)
FRAME = np.zeros(SIZE, np.uint8)
EVERYWHERE = np.ones(SIZE, np.bool_)


def rectangle(left: int, right: int) -> Mask:
    mask = np.zeros(SIZE, np.bool_)
    mask[10:50, left:right] = True
    return mask


@dataclass
class Scripted:
    """Answers with one mask, whatever it is shown."""

    answer: Mask
    name: str = "sam"
    model_sha256: str | None = None
    embedding_id: str | None = None

    def embed(self, pixels: Pixels) -> Embedding:
        return Embedding(SIZE, {})

    def propose(self, embedding: Embedding, prompts: Prompts) -> Sequence[Candidate]:
        assert prompts.box is not None
        assert prompts.mask is not None
        return [Candidate(self.answer, 0.9, {"stability": 0.9})]


def test_a_correction_ends_where_the_ultrasound_does() -> None:
    shown = EVERYWHERE.copy()
    shown[:, 50:] = False
    found = refine(Scripted(rectangle(20, 60)), FRAME, shown, {"head": rectangle(20, 50)})["head"]
    assert np.array_equal(found.mask, rectangle(20, 50))
    assert found.box == (20, 10, 30, 40)
    assert found.scores == {"stability": 0.9, "agreement": 1.0}


def test_what_agrees_too_little_is_of_something_else() -> None:
    carried = {"head": rectangle(20, 50)}
    assert refine(Scripted(rectangle(20, 42)), FRAME, EVERYWHERE, carried) == {}
    assert refine(Scripted(rectangle(20, 43)), FRAME, EVERYWHERE, carried).keys() == {"head"}
    assert refine(Scripted(rectangle(20, 50)), FRAME, rectangle(60, 70), carried) == {}

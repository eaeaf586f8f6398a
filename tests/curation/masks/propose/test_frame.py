"""One frame and the prompts that somebody gives: what a page asks for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sono.curation.cleaning.sectors.geometry import iou
from sono.curation.masks.backends.protocol import Prompts
from sono.curation.masks.backends.registry import BackendChoice
from sono.curation.masks.propose.frame import FrameProposer
from sono.curation.masks.propose.run import embedding_folder
from sono.manifests.errors import UserError
from tests.curation.masks.small_sam import save_checkpoint, small_sam

from .conftest import GRABCUT, SIZE, Heads

BOX = (58, 46, 124, 88)


def test_a_box_gives_a_mask_of_the_frame(heads: Heads) -> None:
    found = FrameProposer(heads.workspace, GRABCUT).propose(heads.frame_id("P1/scan0"), Prompts("head", BOX))
    assert found[0].mask.shape == SIZE
    assert iou(found[0].mask, heads.truth["P1/scan0"]) > 0.85
    assert heads.regions() == []  # nothing is written but embeddings


def test_a_frame_is_embedded_once_by_whoever_asks(heads: Heads, tmp_path: Path) -> None:
    sam = BackendChoice("sam", save_checkpoint(small_sam(), tmp_path / "sam.pth"))
    frame_id = heads.frame_id("P7/cine_f2")
    proposer = FrameProposer(heads.workspace, sam)
    first = proposer.propose(frame_id, Prompts("head", BOX))
    again = proposer.propose(frame_id, Prompts("head", BOX))
    assert (proposer.encoder.hits, proposer.encoder.misses) == (0, 1)
    assert all(np.array_equal(a.mask, b.mask) for a, b in zip(first, again, strict=True))
    other = FrameProposer(heads.workspace, sam)
    third = other.propose(frame_id, Prompts("head", BOX))
    assert (other.encoder.hits, other.encoder.misses) == (1, 0)
    assert all(np.array_equal(a.mask, b.mask) for a, b in zip(first, third, strict=True))
    without = FrameProposer(heads.workspace, sam, cache_gb=0)
    assert len(without.propose(frame_id, Prompts("head", BOX))) == len(first)
    assert without.encoder.misses == 1
    assert len(list(embedding_folder(heads.workspace).glob("*.npz"))) == 1


def test_what_cannot_be_answered_is_said(heads: Heads) -> None:
    proposer = FrameProposer(heads.workspace, GRABCUT)
    known = heads.frame_id("P1/scan0")
    point = np.array([[240.5, 20]], np.float32)
    for frame_id, prompts, text in (
        ("nobody", Prompts("head", BOX), "no frame has this id"),
        (known, Prompts("head", (300, 20, 50, 50)), "the box lies outside the frame of 240x180 px"),
        (known, Prompts("head", BOX, point, np.array([1])), "a point lies outside the frame of 240x180 px"),
        (known, Prompts("head", mask=np.ones((9, 9), bool)), "the mask is 9x9 px, its frame 240x180 px"),
    ):
        with pytest.raises(UserError, match=text):
            proposer.propose(frame_id, prompts)

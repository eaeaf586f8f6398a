"""Answers to prompts: masks of a frame that is embedded once, and refusals of what does not lie in it."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from sono.curation.masks.backends.registry import BackendChoice
from sono.curation.masks.propose.run import embedding_folder
from sono.curation.review.server.frame_index import FrameIndex
from sono.curation.review.server.frame_view import FrameGoneError, FrameReader
from sono.curation.review.server.proposals import Proposals
from sono.curation.review.server.requests import PromptRequest
from sono.manifests import masks
from sono.manifests.errors import UserError
from sono.manifests.journal import Journal
from sono.manifests.journal_file import journal_path
from sono.manifests.schemas import FRAMES
from sono.manifests.workspace import Workspace
from tests.curation.masks.conftest import SIZE
from tests.curation.masks.small_sam import save_checkpoint, small_sam

BOX = (12, 10, 40, 30)


@pytest.fixture
def reader(predicted: Workspace) -> FrameReader:
    index = FrameIndex(predicted.store, predicted.path / "cache" / "review")
    index.refresh()
    return FrameReader(predicted.store, index, Journal(journal_path(predicted.path)))


@pytest.fixture
def frame_id(predicted: Workspace) -> str:
    return str(predicted.store.read_all(FRAMES, ["frame_id"])["frame_id"][0])


def test_a_frame_is_embedded_once_by_whoever_asks(
    predicted: Workspace, reader: FrameReader, frame_id: str, tmp_path: Path
) -> None:
    sam = BackendChoice("sam", save_checkpoint(small_sam(), tmp_path / "sam.pth"))
    asked = PromptRequest(structure="head", box=BOX)
    answers = []
    for _ in range(2):
        proposals = Proposals(predicted, sam, reader)
        answers += [proposals.answer(frame_id, asked)["candidates"] for _ in range(2)]
        proposals.close()
    assert answers[0]
    assert all(answer == answers[0] for answer in answers)
    assert all(masks.decode(each["mask"]).shape == SIZE for each in answers[0])
    (kept,) = embedding_folder(predicted).glob("*.npz")
    assert kept.stat().st_mode & 0o077 == 0


class SlowReader(FrameReader):
    """Gives no picture before all frames of the workspace were asked about."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.asked: set[str] = set()
        self.all_asked = threading.Event()

    def frame(self, frame_id: str) -> Mapping[str, Any]:
        self.asked.add(frame_id)
        if len(self.asked) == 6:
            self.all_asked.set()
        return super().frame(frame_id)

    def image(self, frame_id: str) -> bytes:
        assert self.all_asked.wait(30)
        return super().image(frame_id)


def test_nobodys_prompt_is_dropped_for_that_of_somebody_else(predicted: Workspace) -> None:
    index = FrameIndex(predicted.store, predicted.path / "cache" / "review")
    index.refresh()
    reader = SlowReader(predicted.store, index, Journal(journal_path(predicted.path)))
    proposals = Proposals(predicted, BackendChoice("grabcut"), reader)
    first, *others = predicted.store.read_all(FRAMES, ["frame_id"])["frame_id"].to_pylist()
    proposals.embed(first)
    asked = PromptRequest(structure="head", box=BOX)
    with ThreadPoolExecutor(len(others)) as reviewers:
        answers = list(reviewers.map(lambda frame_id: proposals.answer(frame_id, asked), others))
    assert all(answer["candidates"] for answer in answers)
    proposals.close()


def test_what_cannot_be_answered_is_said(predicted: Workspace, reader: FrameReader, frame_id: str) -> None:
    proposals = Proposals(predicted, BackendChoice("grabcut"), reader)
    height, width = SIZE
    outside = PromptRequest(structure="head", box=(width + 20, 10, 50, 50))
    with pytest.raises(UserError, match=f"the box lies outside the frame of {width}x{height} px"):
        proposals.answer(frame_id, outside)
    with pytest.raises(UserError, match="a point lies outside the frame"):
        proposals.answer(frame_id, PromptRequest(structure="head", box=BOX, points=[(width + 0.5, 20, 1)]))
    with pytest.raises(FrameGoneError):
        proposals.answer("nobody", PromptRequest(structure="head", box=BOX))
    proposals.close()

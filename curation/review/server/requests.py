"""What the page may send, checked before anything is done with it."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from sono.manifests import masks
from sono.manifests.masks import Mask

REGION_REASONS = {
    "wrong_structure": "another structure",
    "wrong_place": "in the wrong place",
    "not_visible": "the structure is not visible",
    "poor_outline": "the outline is too poor to correct",
}
"""Why a mask is rejected, by id: a closed list, because free text could name a patient."""

FRAME_REASONS = {
    "wrong_plane": "another plane than named",
    "poor_image": "poor image",
    "artefact": "artefact",
    "readable_text": "text can be read",
    "not_ultrasound": "not an ultrasound image",
    "wrong_caption": "the caption is wrong",
}
"""Why a frame is rejected or kept for review, by id."""

TOOLS = ("box", "points", "brush", "eraser", "polygon", "reading", "reset")
"""What a mask can be made with; ``reading`` is one that another reader made, ``reset`` drops what was drawn."""

_Id = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{8,64}$")]
_EventId = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]


class _Request(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SentMask(_Request):
    """A mask in COCO run-length encoding; ``size`` is [height, width] in px."""

    size: tuple[Annotated[int, Field(ge=1, le=20_000)], Annotated[int, Field(ge=1, le=20_000)]]
    counts: Annotated[str, StringConstraints(max_length=4_000_000, pattern=r"^[0-o]*$")]

    def decoded(self, height: int, width: int) -> Mask:
        """The mask, of the frame's size.

        Raises:
            ValueError: it has another size, or its runs do not cover it.
        """
        if self.size != (height, width):
            raise ValueError(f"the mask is {self.size[1]}x{self.size[0]} px, its frame {width}x{height} px")
        return masks.decode(masks.Rle(size=list(self.size), counts=self.counts))


class PromptRequest(_Request):
    """Where the reviewer says that a structure is: x, y, width, height in px, and points x, y, label."""

    structure: str
    box: tuple[float, float, float, float] | None = None
    points: Annotated[list[tuple[float, float, Literal[0, 1]]], Field(max_length=200)] = []
    mask: SentMask | None = None

    def arrays(self) -> tuple[np.ndarray, np.ndarray]:
        """Points of shape [n, 2] and labels of shape [n]."""
        points = np.array([point[:2] for point in self.points], np.float32).reshape(-1, 2)
        return points, np.array([point[2] for point in self.points], np.int32)


class OwnRequest(_Request):
    """What is done in a reviewer's name.

    Attributes:
        reviewer: whose the page was when they did it; null if it does not say.
    """

    reviewer: Annotated[str, StringConstraints(max_length=64)] | None = None


class DecisionRequest(OwnRequest):
    """A decision on a region or on a frame.

    Attributes:
        frame_version: of the frame as it was shown: nobody decides on pixels that they have not seen.
        region_id: null for a mask that is new.
        mask: what was drawn or accepted, as it was shown.
        expected: the latest event on the subject that the page knows.
        used: the tools that made the mask.
    """

    event_id: _EventId
    subject: Literal["region", "frame"]
    frame_id: _Id
    frame_version: str
    region_id: _Id | None = None
    structure: str | None = None
    action: Literal["accept", "edit", "reject", "draw", "review"]
    mask: SentMask | None = None
    reasons: Annotated[list[str], Field(max_length=10)] = []
    expected: int | None = None
    reading: Literal["first", "second", "repeat", "adjudication"] = "first"
    used: Annotated[list[str], Field(max_length=20)] = []
    seconds: Annotated[float, Field(ge=0, le=86_400)] | None = None


class StepRequest(OwnRequest):
    """Take the last decision back, or repeat it; sent twice, it is done once."""

    event_id: _EventId

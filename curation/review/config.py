"""The section ``[review]`` of ``sono.toml``: how much is read by more than one reader."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from sono.manifests.workspace import Workspace

from .readings import ReadingPlan

_Share = Annotated[float, Field(ge=0, le=1)]


class ReviewSection(BaseModel):
    """``[review]`` of ``sono.toml``.

    Attributes:
        second_share: of masks, read by a second reader, who does not know the first one's decision.
        repeat_share: of masks, read again by the same reader.
        repeat_after: decisions in between, at least.
        alike_iou: below it, two readers who both keep a mask disagree, and a third one decides.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    second_share: _Share = 0.0
    repeat_share: _Share = 0.0
    repeat_after: Annotated[int, Field(ge=0)] = 100
    alike_iou: _Share = 0.9


def reading_plan(workspace: Workspace) -> ReadingPlan:
    """What is read again in a workspace; which masks, only its key tells."""
    section = workspace.section("review", ReviewSection)
    return ReadingPlan(key=workspace.keys.content("second and repeated readings").encode(), **section.model_dump())

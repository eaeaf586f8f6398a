"""The section ``[publish]`` of ``sono.toml``: what a dataset says of its frames, its licence, and whom to ask."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from sono.manifests.errors import UserError
from sono.manifests.pulled import read_pulled
from sono.manifests.workspace import Workspace

from .licences import SPDX_IDS, licence_fix

_Line = Annotated[str, Field(max_length=500, pattern=r"^[^\r\n]*$")]


class PublishSection(BaseModel):
    """``[publish]`` of ``sono.toml``.

    Attributes:
        title: of the dataset's card.
        licence: an SPDX identifier, or ``LicenseRef-`` and a name of one's own; empty until it is chosen.
        citation: how the dataset is to be cited; BibTeX, or a sentence.
        contact: whom to write to.
        ga_days: ``weeks`` drops the days: 22 weeks and 3 days become 22 weeks.
        scanner: ``manufacturer`` drops the model, ``drop`` both.
        center: ``key`` replaces the center's name by a code that the dataset's name decides.
        pixel_mm: ``rounded`` to a micrometre: all digits may single out a file.
        k_anonymity: ``build`` refuses if fewer patients share the center, scanner and age of any frame.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    title: _Line = "Fetal ultrasound frames with masks and captions"
    licence: str = ""
    citation: Annotated[str, Field(max_length=10_000)] = ""
    contact: _Line = ""
    ga_days: Literal["exact", "weeks"] = "exact"
    scanner: Literal["exact", "manufacturer", "drop"] = "exact"
    center: Literal["name", "key", "drop"] = "name"
    pixel_mm: Literal["rounded", "exact"] = "rounded"
    k_anonymity: Annotated[int, Field(ge=0)] = 0

    @field_validator("licence")
    @classmethod
    def _is_spdx(cls, value: str) -> str:
        if value and value not in SPDX_IDS and not re.fullmatch(r"LicenseRef-[A-Za-z0-9.-]+", value):
            raise ValueError(f"{value!r} is no SPDX identifier; {licence_fix(value)}")
        return value


def publish_section(workspace: Workspace) -> PublishSection:
    """The section of a workspace. One that was pulled keeps the dataset's licence, and is no more exact than it.

    Raises:
        UserError: it cannot be used, and the text names the key; or it names another licence than the pulled dataset.
    """
    section = workspace.section("publish", PublishSection)
    pulled = read_pulled(workspace.path)
    if pulled is None:
        return section
    if section.licence not in ("", pulled.licence):
        raise UserError(
            f"publish.licence is {section.licence!r}, and {pulled.name} has {pulled.licence or 'none'!r}, which holds",
            where=str(workspace.path / "sono.toml"),
            fix="remove it",
        )
    kept = {"licence": pulled.licence}
    kept |= {"ga_days": "weeks"} if pulled.ga_days == "weeks" else {}
    kept |= {"pixel_mm": "rounded"} if pulled.pixel_mm == "rounded" else {}
    return PublishSection(**{**section.model_dump(), **kept})

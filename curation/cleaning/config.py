"""``[cleaning]`` of ``sono.toml``."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Mode = Literal["b_mode", "color_doppler", "m_mode", "spectral", "dual", "volume"]


class CleaningSection(BaseModel):
    """``[cleaning]`` of ``sono.toml``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    modes: Annotated[tuple[Mode, ...], Field(min_length=1)] = ("b_mode", "color_doppler", "dual")
    """Frames of other modes are left out, with the reason ``mode_not_wanted``."""
    search_share: Annotated[float, Field(ge=0, le=1)] = 0.005
    """Of frames, the share that a slow reader searches for text that the fast detector missed; it always searches those
    in which no sector was found, one of a cine, unless they were cropped before."""

"""How a publication shows frames and names planes in zero-shot recognition, where that is not our own way."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """Our own way by default.

    Args:
        sentence: the only one that names a class, with ``{plane}``, for all kinds of view; None: as the captions.
        crop: cut the centre square out of each frame instead of padding it.
        region_seed: a frame is seen through one of its regions, drawn with this number plus the frame's position;
            None: through all of them.
        only_present: only planes of scored frames are classes.
    """

    sentence: str | None = None
    crop: bool = False
    region_seed: int | None = None
    only_present: bool = False


OURS = Protocol()
SONOCLIP_RELEASED = Protocol(
    sentence="A fetal ultrasound {plane} view.", crop=True, region_seed=2026, only_present=True
)
"""``train_sonoclip.py`` and its reader ``UL_Test``."""

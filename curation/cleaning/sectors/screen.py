"""A frame as mode and sector look at it: its pixels at reduced size, and how the screen is laid out."""

from __future__ import annotations

import functools
from dataclasses import dataclass

from sono.curation.images.pixels import Pixels

from .panels import Layout, find_layout
from .reduced_frame import ReducedFrame, reduce_frame


@dataclass(frozen=True)
class Screen:
    """What ``frame_mode`` and ``find_sectors`` share, so that neither looks at a frame's pixels twice."""

    frame: ReducedFrame

    @functools.cached_property
    def layout(self) -> Layout:
        return find_layout(self.frame)


def read_screen(pixels: Pixels) -> Screen:
    """A decoded frame of shape [height, width] or [height, width, 3]."""
    return Screen(reduce_frame(pixels))

"""What a compressed frame says about itself, read from its markers before anything is decoded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Colour = Literal["grey", "rgb", "ycbcr", "unknown"]


class DamagedStreamError(Exception):
    """The stream is not of its kind, is cut short, or contradicts itself."""


@dataclass(frozen=True)
class Stream:
    """One compressed image.

    Attributes:
        width, height: px.
        components: samples per pixel.
        bits: per sample.
        colour: what the decoded components are, as far as the stream says; ``unknown`` where it does not say.
        length: bytes up to and including the end marker.
    """

    width: int
    height: int
    components: int
    bits: int
    colour: Colour
    length: int

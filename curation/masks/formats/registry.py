"""The formats that ``masks import`` reads: one file each in this room, listed here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sono.manifests.masks import Mask

FORMATS: Mapping[str, str] = {
    "png": "filled areas",
    "outline": "closed lines, which are filled",
}
"""Names as ``--format`` takes them, and what is drawn."""


def reader(name: str) -> Callable[[Path], Mask]:
    """Reads one file of the format as a boolean array of shape [height, width], or raises ``ExcludedError``."""
    from . import outline, png  # here, because listing the formats must not load OpenCV

    readers: Mapping[str, Callable[[Path], Mask]] = {"png": png.read_mask, "outline": outline.read_mask}
    return readers[name]

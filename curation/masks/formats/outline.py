"""Images of closed lines, which are filled: what sonographers' tools often draw."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from sono.curation.masks.reasons import excluded
from sono.manifests import masks
from sono.manifests.masks import Mask
from sono.manifests.vocabulary import Vocabulary

from . import png
from .protocol import ExportedFrame, ReadMask, Size, Writer

_MAX_LINE_PX = 6  # an outline may be this thick
_MAX_LOOSE_FRACTION = 0.1  # of the line may lie away from the area


@dataclass(frozen=True)
class Outlines(png.PngFolders):
    """``STRUCTURE/NAME.png``, with closed lines in place of areas."""

    def reader(self, path: Path) -> ReadMask:
        def read(place: str, size: Size) -> Mask:
            return read_mask(path)

        return read

    def writer(self, folder: Path, vocabulary: Vocabulary, structures: Sequence[str]) -> Writer:
        return _Writer(folder)


@dataclass(frozen=True)
class _Writer:
    folder: Path

    def add(self, frame: ExportedFrame) -> Sequence[Mask]:
        """Holes and parts too small to have an inside are lost; a mask of which nothing is left is refused."""
        lines = [outline_of(region.mask) for region in frame.regions]
        seen = [fill_outline(line) for line in lines]
        for region, line in zip(frame.regions, lines, strict=True):
            png.write_mask(self.folder / region.structure / f"{frame.frame_id}.png", line)
        return seen

    def close(self) -> None:
        """Nothing is left to do."""


def read_mask(path: Path) -> Mask:
    """The area that the drawn line encloses, including the line, as a boolean array of shape [height, width].

    Raises:
        ExcludedError: the file cannot be used, the drawing is a filled area, or the line does not enclose an area.
    """
    drawn = png.read_mask(path)
    return fill_outline(drawn) if drawn.any() else drawn


def fill_outline(outline: npt.NDArray[np.bool_]) -> Mask:
    """The area that a drawn outline encloses, including the outline. Shape [height, width] in and out.

    Raises:
        ExcludedError: the drawing is a filled area, or the outline does not enclose an area.
    """
    area = _enclosed(outline)
    inside = area & ~outline
    thick = np.ones((2 * _MAX_LINE_PX + 3, 2 * _MAX_LINE_PX + 3), np.uint8)
    if cv2.erode(outline.astype(np.uint8), thick).any():
        raise excluded("outline_is_filled")
    if not inside.any():
        raise excluded("outline_not_closed")
    # A small loop on an open line encloses something, too, so nearly all of the line must border on the area.
    side = 2 * _MAX_LINE_PX + 1
    near = cv2.dilate(inside.astype(np.uint8), np.ones((side, side), np.uint8)).astype(bool)
    if np.count_nonzero(outline & ~near) > _MAX_LOOSE_FRACTION * np.count_nonzero(outline):
        raise excluded("outline_not_closed")
    return area


def outline_of(mask: Mask) -> Mask:
    """The outermost pixels of every part of a mask, one pixel wide; without holes and without specks."""
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    line = np.zeros(mask.shape, np.uint8)
    for contour in contours:
        left, top, width, height = cv2.boundingRect(contour)
        alone = cv2.drawContours(np.zeros((height, width), np.uint8), [contour], -1, 1, 1, offset=(-left, -top))
        drawn = np.asarray(alone > 0, dtype=np.bool_)
        if masks.area_px(_enclosed(drawn)) > masks.area_px(drawn):
            line[top : top + height, left : left + width][drawn] = 1
    return np.asarray(line > 0, dtype=np.bool_)


def _enclosed(line: Mask) -> Mask:
    # The background is filled over four neighbors, so it cannot slip through a line one pixel wide.
    walls = cv2.copyMakeBorder(line.astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    cv2.floodFill(walls, None, (0, 0), 2, flags=4)
    return np.asarray(walls[1:-1, 1:-1] != 2, dtype=np.bool_)

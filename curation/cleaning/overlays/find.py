"""Text and measurement marks over a frame: two networks say where they are, thresholds what counts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import cv2
import numpy as np
import numpy.typing as npt

from sono.curation.images.pixels import Box, Mask, Pixels

from .mark_detector import look_again
from .text_detector import STRIDE, probabilities


@dataclass(frozen=True)
class Threshold:
    """What is there: pieces of cells that reach ``possible``, if one reaches ``sure`` and they are ``fewest_cells``."""

    sure: float
    possible: float
    fewest_cells: int


TEXT = Threshold(sure=0.65, possible=0.12, fewest_cells=3)
POSSIBLE_TEXT = Threshold(sure=0.3, possible=0.12, fewest_cells=2)
MARKS = Threshold(sure=0.8, possible=0.3, fewest_cells=2)

EDGE_CELLS = 1
"""How near to the sector's edge no mark begins: corners, and a vendor's ring that the edge cuts, look like marks."""

SMALL_PX = 480
"""Frames whose long side is shorter are looked at in twice their size: their text is smaller than any trained on."""


@dataclass(frozen=True)
class Overlays:
    """What is drawn over a frame: [height, width] each, in whole cells.

    Attributes:
        text: in any script.
        possible_text: text, and pieces of which the network is less sure.
        look_for_marks: gives ``marks``.
    """

    text: Mask
    possible_text: Mask
    look_for_marks: Callable[[], Mask] = field(repr=False)

    @cached_property
    def marks(self) -> Mask:
        """Marks of measurements, looked for when somebody asks: whoever removes text first does not."""
        return self.look_for_marks()


def find_overlays(pixels: Pixels, sector_mask: Mask) -> Overlays:
    """Find text, in any script, and marks of measurements within the sector.

    Args:
        pixels: [height, width] grey, or [height, width, 3] RGB.
        sector_mask: [height, width], where the frame shows ultrasound; the rest is not looked at.
    """
    rows, columns = np.flatnonzero(sector_mask.any(axis=1)), np.flatnonzero(sector_mask.any(axis=0))
    if not len(rows):
        nothing = np.zeros(sector_mask.shape, np.bool_)
        return Overlays(nothing, nothing, lambda: nothing)
    window = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    inside = np.ascontiguousarray(sector_mask[window])
    part = np.asarray(cv2.copyTo(pixels[window], inside.view(np.uint8)), np.uint8)
    factor = 2 if max(pixels.shape[:2]) < SMALL_PX else 1
    if factor > 1:
        part = np.asarray(cv2.resize(part, None, fx=factor, fy=factor, interpolation=cv2.INTER_LINEAR), np.uint8)
    text, possible_marks = probabilities(part)

    def whole(probability: npt.NDArray[np.float32], threshold: Threshold) -> Mask:
        mask = np.zeros(sector_mask.shape, np.bool_)
        if probability.max() > threshold.sure:
            side = STRIDE // factor
            cells = _pieces(probability, threshold)
            enlarged = cv2.resize(cells, None, fx=side, fy=side, interpolation=cv2.INTER_NEAREST)
            mask[window] = enlarged[: inside.shape[0], : inside.shape[1]].view(np.bool_) & inside
        return mask

    def marks() -> Mask:
        edge = _edge(inside, STRIDE // factor, possible_marks.shape)
        return whole(look_again(part, possible_marks, only_along=edge), MARKS)

    return Overlays(whole(text, TEXT), whole(text, POSSIBLE_TEXT), marks)


def boxes_of(mask: Mask) -> tuple[Box, ...]:
    """The box of each connected piece, from the top."""
    left, top, across, down = cv2.boundingRect(mask.view(np.uint8))
    if not across:
        return ()
    part = mask[top : top + down, left : left + across].view(np.uint8)
    count, _, stats, _ = cv2.connectedComponentsWithStats(part, connectivity=8)
    boxes = [(left + int(x), top + int(y), int(width), int(height)) for x, y, width, height, _ in stats[1:count]]
    return tuple(sorted(boxes, key=lambda box: (box[1], box[0])))


def _edge(inside: Mask, side: int, shape: tuple[int, ...]) -> Mask:
    """Which cells of ``side`` px, of that many rows and columns, are at the sector's edge or beyond."""
    rows, columns = shape
    below, right = rows * side - inside.shape[0], columns * side - inside.shape[1]
    whole = cv2.copyMakeBorder(inside.view(np.uint8) * 255, 0, below, 0, right, cv2.BORDER_CONSTANT)
    cells = (cv2.resize(whole, (columns, rows), interpolation=cv2.INTER_AREA) == 255).view(np.uint8)
    kernel = np.ones((2 * EDGE_CELLS + 1,) * 2, np.uint8)
    return np.asarray(cv2.erode(cells, kernel, borderType=cv2.BORDER_CONSTANT, borderValue=0) == 0, np.bool_)


def _pieces(probability: npt.NDArray[np.float32], threshold: Threshold) -> Pixels:
    """1 for the cells of pieces that pass, and for their neighbours."""
    possible = (probability > threshold.possible).view(np.uint8)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(possible, connectivity=8)
    passed = np.zeros(count, np.bool_)
    passed[labels[probability > threshold.sure]] = True
    passed &= stats[:, cv2.CC_STAT_AREA] >= threshold.fewest_cells
    passed[0] = False
    return np.asarray(cv2.dilate(passed[labels].view(np.uint8), np.ones((3, 3), np.uint8)), np.uint8)

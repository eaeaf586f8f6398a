"""Whether a frame shows colour Doppler: flow in colours that its echoes do not have, or the box that it is drawn in."""

from __future__ import annotations

import cv2
import numpy as np

from sono.curation.images.pixels import Mask, Pixels

from .sectors.reduced_frame import ReducedFrame, brightest_channel

_BRIGHT = 40  # grey levels
_COLOURED = 45  # levels by which red or blue exceed what the tint of the echoes explains
_FLOW_RATIO = 1.3  # of red or blue to green: scanners write in yellow, green and cyan, flow is red or blue
_FLOW_PX = 40  # reduced px that are coloured
_AROUND_PX = 9  # reduced px by which gaps in the texture are closed: flow has none

_LINE = 8  # grey levels by which a line is brighter than what is beside it, but for gaps of a few steps
_GAP = 9
_INK, _INK_RANGE = 150, 6  # grey levels of a line, at least, and by which they differ along it
_LINE_PX = 4  # px on either side of a line
_EVERY = 4  # px along a line
_SHORTEST = 0.04  # of the frame's longer side
_SAME_END = 3  # steps along a line by which two sides of a box may differ
_NEAR_PX = 10
_SIDE = 0.85  # of an upright side of the box that is seen


def shows_color_flow(frame: ReducedFrame, colors: Pixels | None, texture: Mask) -> bool:
    """Whether there is coloured flow in the texture, or a box for it.

    Args:
        colors: the frame at reduced size, [height, width, 3]; None if it is grey.
        texture: solid texture at reduced size.
    """
    return (colors is not None and _has_flow(colors, texture)) or _has_box(frame, texture)


def _has_flow(colors: Pixels, texture: Mask) -> bool:
    brightest = brightest_channel(colors)
    lit = texture & (brightest > _BRIGHT)
    if not lit.any():
        return False
    red, green, blue = (channel.astype(np.float32) for channel in cv2.split(colors))
    red_or_blue = cv2.max(red, blue) > _FLOW_RATIO * green
    if np.count_nonzero(red_or_blue & (brightest > _COLOURED)) < _FLOW_PX:
        return False  # nothing exceeds the tint by more than its brightness
    tint = np.array(cv2.mean(colors, mask=lit.view(np.uint8))[:3])
    explained = [brightest * np.float32(share) for share in tint / max(float(tint.max()), 1e-3)]
    excess = cv2.max(cv2.absdiff(red, explained[0]), cv2.absdiff(blue, explained[2]))
    excess = cv2.max(excess, cv2.absdiff(green, explained[1]))
    kernel = np.ones((_AROUND_PX, _AROUND_PX), np.uint8)
    inside = cv2.morphologyEx(texture.astype(np.uint8), cv2.MORPH_CLOSE, kernel) > 0
    flow = (excess > _COLOURED) & red_or_blue & inside
    blobs = cv2.morphologyEx(flow.astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    return int(np.count_nonzero(blobs)) >= _FLOW_PX


def _has_box(frame: ReducedFrame, texture: Mask) -> bool:
    """Whether four thin bright lines make an upright rectangle around part of the texture."""
    rows, columns = np.flatnonzero(texture.any(axis=1)), np.flatnonzero(texture.any(axis=0))
    top, bottom = (int(at) * frame.factor for at in (rows[0], rows[-1] + 1))
    left, right = (int(at) * frame.factor for at in (columns[0], columns[-1] + 1))
    margin = 2 * frame.factor
    window = frame.brightest[max(top - margin, 0) : bottom + margin, max(left - margin, 0) : right + margin]
    grey = np.ascontiguousarray(window[:, ::_EVERY])
    least = max(int(_SHORTEST * max(frame.size) / _EVERY), 4)
    runs = _runs(grey, least)
    for number, (row, first, last) in enumerate(runs):
        ink = float(np.median(grey[row, first : last + 1]))
        for other_row, other_first, other_last in runs[number + 1 :]:
            if other_row - row < least * _EVERY // 2:
                continue
            if abs(first - other_first) <= _SAME_END and abs(last - other_last) <= _SAME_END:
                sides = [_upright_share(window[row:other_row], at * _EVERY, ink) for at in (first, last)]
                if min(sides) > _SIDE:
                    return True
    return False


def _runs(grey: Pixels, least: int) -> list[tuple[int, int, int]]:
    """Row, first and last column of level lines of one ink, at least ``least`` px long, one per row."""
    before, after = np.zeros_like(grey), np.zeros_like(grey)
    before[_LINE_PX:], after[:-_LINE_PX] = grey[:-_LINE_PX], grey[_LINE_PX:]
    brighter = cv2.threshold(cv2.subtract(grey, cv2.max(before, after)), _LINE, 255, cv2.THRESH_BINARY)[1]
    # An edge of what is brighter on both sides somewhere along the line does not end the line.
    line = cv2.morphologyEx(brighter, cv2.MORPH_CLOSE, np.ones((1, _GAP), np.uint8))
    ink = np.zeros_like(grey)
    ink[:, 1:] = (cv2.absdiff(grey[:, 1:], grey[:, :-1]) <= _INK_RANGE) & (grey[:, 1:] > _INK)
    opened = cv2.morphologyEx(cv2.bitwise_and(line, ink * 255), cv2.MORPH_OPEN, np.ones((1, least), np.uint8))
    found = []
    for row in np.flatnonzero(opened.any(axis=1)).tolist():
        columns = np.flatnonzero(opened[row])
        found.append((row, int(columns[0]), int(columns[-1])))
    return found


def _upright_share(window: Pixels, column: int, ink: float) -> float:
    """The largest share of rows that have the ink of a level line, of the columns near one of its ends."""
    near = window[:, max(column - _NEAR_PX, 0) : column + _NEAR_PX].astype(np.float32)
    return float((np.abs(near - ink) <= _INK_RANGE).mean(axis=0).max()) if near.size else 0.0

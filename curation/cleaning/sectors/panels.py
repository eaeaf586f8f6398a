"""How a screen is laid out: one sector, two side by side, a sector with a trace, or several planes of a volume."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from sono.curation.images.pixels import Box, Mask

from .reduced_frame import LIT_ABOVE, ReducedFrame

_LEAST_OF_LARGEST = 0.004  # fluid splits a fan into pieces: smaller ones than this share of the largest are clutter
_LEAST_PX = 26  # reduced px
_BAR_PX = 9  # reduced px: grey scales and progress bars are narrower rectangles
_UPRIGHT_PX, _UPRIGHT, _BAR_FILL = 16, 2.5, 0.5  # letters may hang on an upright bar
_BORDER_BAR_PX, _LONG = 12, 4
_RECTANGLE = 0.8  # of its box that a rectangle fills

# Letters are rougher than echoes, and have gaps.
_LETTERS_OF_FRAME, _LETTERS_PX = 0.03, 22  # at most: share of the frame, and reduced px of height
_LETTERS_ROUGH, _LETTERS_SHARE = 0.3, 0.96
_LETTERS_INK = 90  # grey levels
_LETTERS_ROUGHEST = 0.5  # on bars there are no gaps

_RING_PX, _PLAIN_RANGE, _PLAIN = 3, 2, 0.5  # reduced px, grey levels, and least share of a banner around letters

_GUTTER_LIT = 0.02  # share of the px of a row or column between panels that may be lit: ticks, and parts of letters
_PANEL_SHARE = 0.04  # of all texture that a panel has at least

_TRACE_PX = (40, 12)  # reduced px, width and height of the smallest trace
# Of a trace's grey levels: in M-mode every column is like the next, in a spectrum every row is unlike the others.
_M_MODE_COLUMNS, _M_MODE_ROWS, _M_MODE_RAGGED = 0.018, 0.4, 0.03
_LAYERED_COLUMNS, _LAYERED_ROWS, _LAYERED = 0.013, 0.8, 0.1
_STEADY_COLUMNS, _STEADY = 0.035, 0.012  # so little change over time is never a spectrum's
_SPECTRAL_ROWS, _SPECTRAL_RAGGED, _SPECTRAL_PX = 0.65, 0.05, 40
_LIT_SHARE = 0.2  # of a reduced px
_TRACE_MARGIN, _TRACE_ROWS = 0.2, 0.7  # of a trace's width, in which so many of its rows begin and end
_TRACE_BAND, _TRACE_BAND_ROWS = 8, 0.4  # rows between empty ones, and share of them that do
_BASELINE, _BASELINE_LIT = 0.75, 0.93  # share of a row whose neighbours have one ink, and that is lit

_BEYOND_PX = 40
_CORNER_PX = 24
_BASELINE_BESIDE = 8  # reduced px
_INK_RANGE, _INK_ABOVE, _WHITE_ECHOES = 4, 50, 253  # grey levels
_LONE_BASELINE, _SEPARATOR = 0.2, 0.93  # of the frame's width: baselines are longer, and separators longer still
_EVERY, _BESIDE_PX, _BESIDE_BASELINE = (
    8,
    6,
    0.75,
)  # px of a row, px from a baseline, and most of the px there that are lit
_LONE_REACH, _LONE_LIT = 0.06, (0.06, 0.8)  # of the frame's height around a baseline, and the share of it that is lit
_ALIKE_PX = 6  # reduced px between the tops, or the lower ends, of a dual screen's panels
_ALIKE, _ALIKE_HIGH, _ALIKE_AREA = 0.7, 0.6, 0.4  # least ratio of their widths, heights and areas
_PLANES = 3  # of a volume, beside its rendering


@dataclass(frozen=True)
class Piece:
    """A connected piece of solid texture; ``box`` and ``area`` in reduced px."""

    label: int
    box: Box
    area: int

    @property
    def middle(self) -> tuple[float, float]:
        return self.box[0] + self.box[2] / 2, self.box[1] + self.box[3] / 2


@dataclass(frozen=True)
class Layout:
    """Panels of a screen.

    Attributes:
        kind: ``single``, ``dual``, ``m_mode`` or ``spectral`` (a sector with such a trace, or the trace alone),
            ``planes`` (of a volume) or ``empty``.
        sectors: masks at reduced size of the texture of each sector.
        trace: box of the trace's texture, in reduced px.
    """

    kind: str
    sectors: Sequence[Mask]
    trace: Box | None = None


def find_layout(frame: ReducedFrame) -> Layout:
    """Split a screen into panels at the gutters between them."""
    labels, pieces = find_pieces(frame, frame.solid)
    if not pieces:
        return Layout("empty", [])
    whole = bounds(pieces)
    parted = _parted(frame, whole)
    if parted is not None:
        labels, pieces = find_pieces(frame, parted)
        if not pieces:  # the cells of a grid
            return Layout("empty", [])
    splits = [split for axis in (1, 0) for split in _splits(frame, pieces, whole, axis)]
    trace = _trace(frame, splits)
    if trace is not None:
        kind, first, second = trace
        return Layout(kind, [_mask(labels, first)], bounds(second))
    alone = _trace_kind(frame, whole)
    if alone == "m_mode":
        return Layout(alone, [], whole)
    for axis, first, second in splits:
        if axis == 0 and _alike(first, second) and not _is_grid(pieces, splits):
            return Layout("dual", [_mask(labels, first), _mask(labels, second)])
    if _is_grid(pieces, splits):
        return Layout("planes", [])
    trace_box = _lone_trace(frame, whole)
    if trace_box is not None:
        return Layout("spectral", [_mask(labels, pieces)], trace_box)
    return Layout("single", [_mask(labels, pieces)])


def _parted(frame: ReducedFrame, whole: Box) -> Mask | None:
    """The solid texture without gutters that are too narrow to part it; None if there are none."""
    parted = frame.solid.copy()
    for axis in (0, 1):
        for place in _gutters(frame, whole, axis):
            if axis == 0:
                parted[:, int(place)] = False
            else:
                parted[int(place)] = False
    return parted if np.count_nonzero(parted) < np.count_nonzero(frame.solid) else None


def find_pieces(frame: ReducedFrame, solid: Mask) -> tuple[npt.NDArray[np.int32], list[Piece]]:
    """Pieces of solid texture that are large enough to be ultrasound, the largest first, after an image of labels."""
    count, found, stats, _ = cv2.connectedComponentsWithStats(solid.astype(np.uint8), connectivity=4)
    labels = np.asarray(found, np.int32)
    boxes = stats.tolist()
    pieces = [
        Piece(label, (boxes[label][0], boxes[label][1], boxes[label][2], boxes[label][3]), boxes[label][4])
        for label in range(1, count)
    ]
    pieces.sort(key=lambda piece: (-piece.area, piece.label))
    least = max(_LEAST_OF_LARGEST * pieces[0].area, _LEAST_PX) if pieces else 0
    kept = [piece for piece in pieces if piece.area >= least]
    height = frame.solid.shape[0]
    return labels, [piece for piece in kept if not _is_bar(piece, height) and not _is_letters(frame, labels, piece)]


def bounds(pieces: Sequence[Piece]) -> Box:
    """The box around pieces, in reduced px."""
    left, top = min(piece.box[0] for piece in pieces), min(piece.box[1] for piece in pieces)
    right = max(piece.box[0] + piece.box[2] for piece in pieces)
    bottom = max(piece.box[1] + piece.box[3] for piece in pieces)
    return left, top, right - left, bottom - top


def _mask(labels: npt.NDArray[np.int32], pieces: Sequence[Piece]) -> Mask:
    chosen = np.zeros(int(labels.max()) + 1, np.bool_)
    chosen[[piece.label for piece in pieces]] = True
    return np.asarray(chosen[labels])


def _is_bar(piece: Piece, frame_height: int) -> bool:
    """Whether it is a grey scale, or a bar of controls along the upper or lower border of the screen."""
    _, y, width, height = piece.box
    fill = piece.area / (width * height)
    along_border = (y <= 1 or y + height >= frame_height - 1) and height < _BORDER_BAR_PX and width > _LONG * height
    upright = width < _UPRIGHT_PX and height > _UPRIGHT * width
    return (min(width, height) < _BAR_PX and fill > _RECTANGLE) or ((along_border or upright) and fill > _BAR_FILL)


def _is_letters(frame: ReducedFrame, labels: npt.NDArray[np.int32], piece: Piece) -> bool:
    x, y, width, height = piece.box
    if piece.area > _LETTERS_OF_FRAME * labels.size or height > _LETTERS_PX:
        return False
    inside = labels[y : y + height, x : x + width] == piece.label
    grey = frame.small[y : y + height, x : x + width].astype(np.float32)
    if np.percentile(grey[inside], 90) < _LETTERS_INK:
        return False
    both = inside[:, 1:] & inside[:, :-1]
    rough = float(np.abs(np.diff(grey, axis=1))[both].mean()) / max(float(grey[inside].mean()), 1.0)
    share = float(frame.share[y : y + height, x : x + width][inside].mean())
    return (
        rough > _LETTERS_ROUGHEST
        or (rough > _LETTERS_ROUGH and share < _LETTERS_SHARE)
        or _is_on_banner(frame, labels, piece)
    )


def _is_on_banner(frame: ReducedFrame, labels: npt.NDArray[np.int32], piece: Piece) -> bool:
    """Whether a piece lies on a plain area that is brighter than the background: echoes lie on the background."""
    x, y, width, height = piece.box
    top, left = max(y - _RING_PX, 0), max(x - _RING_PX, 0)
    window = np.s_[top : y + height + _RING_PX, left : x + width + _RING_PX]
    inside = (labels[window] == piece.label).astype(np.uint8)
    ring = (cv2.dilate(inside, np.ones((2 * _RING_PX + 1,) * 2, np.uint8)) - inside).astype(np.bool_)
    around = frame.small[window][ring].astype(np.int16)
    if not around.size:
        return False
    level = int(np.median(around))
    plain = float(np.mean(np.abs(around - level) <= _PLAIN_RANGE))
    return level > frame.background + LIT_ABOVE and plain > _PLAIN


Split = tuple[int, list[Piece], list[Piece]]


def _splits(frame: ReducedFrame, pieces: Sequence[Piece], whole: Box, axis: int) -> Iterator[Split]:
    """Gutters of background across all of the texture: (axis, pieces before, pieces after); axis 0 is along x."""
    total = sum(piece.area for piece in pieces)
    before_that: list[Piece] = []
    for at in _gutters(frame, whole, axis):
        before = [piece for piece in pieces if piece.middle[axis] < at]
        after = [piece for piece in pieces if piece.middle[axis] >= at]
        if len(before) == len(before_that):
            continue
        before_that = before
        if min(sum(piece.area for piece in group) for group in (before, after)) >= _PANEL_SHARE * total:
            yield axis, before, after


def _gutters(frame: ReducedFrame, whole: Box, axis: int) -> Iterator[float]:
    """Middles, in reduced px along ``axis``, of stripes of background across a box."""
    scale = frame.lit.shape[1] / frame.solid.shape[1], frame.lit.shape[0] / frame.solid.shape[0]
    left, top = int(whole[0] * scale[0]), int(whole[1] * scale[1])
    right, bottom = int((whole[0] + whole[2]) * scale[0]), int((whole[1] + whole[3]) * scale[1])
    lit = cv2.reduce(frame.lit[top:bottom, left:right], axis, cv2.REDUCE_AVG, dtype=cv2.CV_32F).ravel() / 255
    for place in _middles(np.flatnonzero(lit < _GUTTER_LIT)):
        yield min((place + (left if axis == 0 else top)) / scale[axis], frame.solid.shape[1 - axis] - 1)


def _middles(places: npt.NDArray[np.int64]) -> Iterator[float]:
    """Of runs of neighbouring places."""
    if len(places):
        for run in np.split(places, np.flatnonzero(np.diff(places) > 1) + 1):
            yield float(run[0] + run[-1]) / 2


def _trace(frame: ReducedFrame, splits: Sequence[Split]) -> tuple[str, list[Piece], list[Piece]] | None:
    """The split whose second panel is a trace: its kind, the sector's pieces, the trace's."""
    found: dict[str, tuple[str, list[Piece], list[Piece]]] = {}
    # The largest first: a gutter within a trace, at its baseline, leaves a part of it that looks like a trace, too.
    for axis, first, second in sorted(splits, key=lambda split: -sum(piece.area for piece in split[2])):
        box = bounds(second)
        kind = _trace_kind(frame, box) if _is_upright(frame, box) else None
        if kind == "spectral" and axis == 0 and _alike(first, second) and not _has_baseline(frame, box):
            continue
        if kind is not None and kind not in found:
            found[kind] = kind, first, second
    return found.get("m_mode", found.get("spectral"))


def _is_upright(frame: ReducedFrame, box: Box) -> bool:
    """Whether what is lit in a box of reduced px reaches from its left to its right side in most rows, as a trace does.

    Where empty rows part it, this must hold above and below them: else one part belongs to the sector.
    """
    x, y, width, height = box
    lit = frame.share[y : y + height, x : x + width] > _LIT_SHARE
    rows = np.flatnonzero(lit.any(axis=1))
    if not len(rows):
        return False
    first, last = lit[rows].argmax(axis=1), width - lit[rows, ::-1].argmax(axis=1)
    upright = (first < _TRACE_MARGIN * width) & (last > (1 - _TRACE_MARGIN) * width)
    bands = np.split(upright, np.flatnonzero(np.diff(rows) > 1) + 1)
    return float(upright.mean()) > _TRACE_ROWS and all(
        float(band.mean()) > _TRACE_BAND_ROWS for band in bands if len(band) >= _TRACE_BAND
    )


def _trace_kind(frame: ReducedFrame, box: Box) -> str | None:
    """``m_mode`` or ``spectral`` if a box of reduced px holds such a trace."""
    x, y, width, height = box
    if width < _TRACE_PX[0] or height < _TRACE_PX[1]:
        return None
    grey = cv2.blur(frame.small[y + 1 : y + height - 1, x + 1 : x + width - 1], (3, 3))
    total = float(cv2.meanStdDev(grey)[1][0, 0]) ** 2 + 1e-3
    columns, rows = (float(_means(grey, axis).var()) / total for axis in (0, 1))
    bright = grey > 0.5 * float(np.percentile(grey[::2, ::2], 95))
    ragged = float(_means(bright.view(np.uint8), 0).std())
    if columns < _STEADY_COLUMNS and rows > _M_MODE_ROWS and ragged < _STEADY:
        return "m_mode"
    if columns < _LAYERED_COLUMNS and rows > _LAYERED_ROWS and ragged < _LAYERED:
        return "m_mode"
    if _has_baseline(frame, box):
        return "spectral"
    if columns < _M_MODE_COLUMNS and rows > _M_MODE_ROWS and ragged < _M_MODE_RAGGED:
        return "m_mode"
    if rows > _SPECTRAL_ROWS and ragged > _SPECTRAL_RAGGED and height > _SPECTRAL_PX:
        return "spectral"
    return None


def _means(grey: npt.ArrayLike, axis: int) -> npt.NDArray[np.float32]:
    """Of every column for axis 0, of every row for 1."""
    return np.asarray(cv2.reduce(np.asarray(grey, np.uint8), axis, cv2.REDUCE_AVG, dtype=cv2.CV_32F), np.float32)


def _has_baseline(frame: ReducedFrame, box: Box) -> bool:
    """Whether a row in or just beside a box of reduced px is a drawn line: lit all along, in long runs of one ink."""
    x, y, width, height = (side * frame.factor for side in box)
    beside = _BASELINE_BESIDE * frame.factor
    rows = frame.brightest[max(y - beside, 0) : y + height + beside, x : x + width : 4].astype(np.int16)
    lit = (rows > frame.background + _INK_ABOVE).mean(axis=1) > _BASELINE_LIT
    same = (np.abs(np.diff(rows, axis=1)) <= _INK_RANGE).mean(axis=1) > _BASELINE
    return any(
        _has_one_or_two_inks(rows[at])
        and not _goes_on(frame, max(y - beside, 0) + at, x, x + width)
        and not _is_side_of_box(frame, max(y - beside, 0) + at, x, x + width)
        for at in np.flatnonzero(lit & same).tolist()
    )


def _goes_on(frame: ReducedFrame, row: int, left: int, right: int) -> bool:
    """Whether a line goes on at both sides of a box, as lines that part a screen do."""
    beside = [at for at in (left - _BEYOND_PX, right + _BEYOND_PX) if 0 <= at < frame.size[1]]
    return bool(beside) and all(int(frame.brightest[row, at]) > frame.background + _INK_ABOVE for at in beside)


def _is_side_of_box(frame: ReducedFrame, row: int, left: int, right: int) -> bool:
    """Whether a line turns upwards at both of its ends, or downwards, as the box does that flow is measured in."""
    top, bottom = max(row - _CORNER_PX, 0), row + _CORNER_PX + 1
    around = frame.brightest[top:bottom].astype(np.int16)
    line = around[row - top]
    levels, counts = np.unique(line[left:right], return_counts=True)
    of_ink = np.abs(around - int(levels[counts.argmax()])) <= _INK_RANGE
    starts, ends = _runs(of_ink[row - top])
    if not len(starts):
        return False
    longest = int((ends - starts).argmax())
    corners = [of_ink[:, at] for at in (starts[longest], ends[longest] - 1)]
    return any(all(corner[part].all() for corner in corners) for part in (np.s_[: row - top], np.s_[row - top + 1 :]))


def _runs(row: npt.NDArray[np.bool_]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Where runs of set pixels begin, and one after where they end."""
    steps = np.diff(np.concatenate([[0], row.astype(np.int8), [0]]))
    return np.flatnonzero(steps > 0), np.flatnonzero(steps < 0)


def _has_one_or_two_inks(row: npt.NDArray[np.int16]) -> bool:
    """Whether nearly all px of a row have one grey level, or two: a line that another one is drawn over."""
    levels, counts = np.unique(row, return_counts=True)
    first = levels[counts.argmax()]
    others = row[np.abs(row - first) > _INK_RANGE]
    if len(others) <= (1 - _BASELINE_LIT) * len(row):
        return True
    levels, counts = np.unique(others, return_counts=True)
    second = levels[counts.argmax()]
    left = np.count_nonzero(np.abs(others - second) > _INK_RANGE)
    return bool(left <= (1 - _BASELINE_LIT) * len(row) and max(first, second) < _WHITE_ECHOES)


def _lone_trace(frame: ReducedFrame, whole: Box) -> Box | None:
    """Box in reduced px of a spectrum below or right of all solid texture: thin peaks on a level baseline."""
    height, width = frame.size
    scale = width / frame.solid.shape[1]
    reach = int(_LONE_REACH * height)
    if reach <= _BESIDE_PX:
        return None  # too low to show anything beside a baseline
    # All rows, because a baseline is a px high, but few columns.
    grey = np.array(frame.brightest[:, ::_EVERY])
    grey[: int(whole[1] * scale)] = 0
    grey[: int((whole[1] + whole[3]) * scale), : int((whole[0] + whole[2]) * scale / _EVERY) + 2] = 0
    ink = (grey[:, 1:] > frame.background + _INK_ABOVE) & (cv2.absdiff(grey[:, 1:], grey[:, :-1]) <= _INK_RANGE)
    least = max(int(_LONE_BASELINE * width / _EVERY), 1)
    level = cv2.morphologyEx(ink.astype(np.uint8), cv2.MORPH_OPEN, np.ones((1, least), np.uint8))
    for row in np.flatnonzero(level.any(axis=1)).tolist():
        columns = np.flatnonzero(level[row])
        left, right = int(columns[0]), int(columns[-1]) + 2
        if (right - left) * _EVERY > _SEPARATOR * width or not reach < row < height - reach:
            continue
        lit = grey[row - reach : row + reach, left:right] > frame.background + _INK_ABOVE
        beside = lit[[reach - _BESIDE_PX, reach + _BESIDE_PX]].mean(axis=1)
        if beside.max() < _BESIDE_BASELINE and _LONE_LIT[0] < float(lit.mean()) < _LONE_LIT[1]:
            return (int(left * _EVERY / scale), int((row - reach) / scale), int((right - left) * _EVERY / scale),
                    int(2 * reach / scale))  # fmt: skip
    return None


def _alike(first: Sequence[Piece], second: Sequence[Piece]) -> bool:
    """Whether two panels are as high and as wide as each other, as those of a dual screen are."""
    one, other = bounds(first), bounds(second)
    narrow, wide = sorted((one[2], other[2]))
    small, large = sorted((sum(piece.area for piece in first), sum(piece.area for piece in second)))
    low, high = sorted((one[3], other[3]))
    level = abs(one[1] - other[1]) <= _ALIKE_PX or abs(one[1] + one[3] - other[1] - other[3]) <= _ALIKE_PX
    return level and narrow > _ALIKE * wide and low > _ALIKE_HIGH * high and small > _ALIKE_AREA * large


def _is_grid(pieces: Sequence[Piece], splits: Sequence[Split]) -> bool:
    """Whether gutters both ways leave panels of one size in at least three of four places."""
    for axis, left, _ in splits:
        for other_axis, upper, _ in splits:
            if axis != 0 or other_axis != 1:
                continue
            on_left, on_top = {piece.label for piece in left}, {piece.label for piece in upper}
            places: dict[tuple[bool, bool], list[Piece]] = {}
            for piece in pieces:
                places.setdefault((piece.label in on_left, piece.label in on_top), []).append(piece)
            boxes = [bounds(group) for group in places.values()]
            if any(sum(_same_size(box, other) for other in boxes) >= _PLANES for box in boxes):
                return True
    return False


def _same_size(one: Box, other: Box) -> bool:
    return abs(one[2] - other[2]) <= _ALIKE_PX and abs(one[3] - other[3]) <= _ALIKE_PX

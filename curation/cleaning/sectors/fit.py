"""A sector's outline from the outermost points of its solid texture: side lines, arcs around their apex, straight cuts.

Dark fields, shadows and clutter make most single points wrong. So lines and radii are chosen by votes: points on them
count for them, points outside them count more against them, and points inside count nothing, because the texture may
be dark there.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from sono.curation.images.pixels import Mask

from .geometry import Floats

_OUTSIDE_COST = 1.5  # votes that a point beyond an edge costs
_STEEPEST = math.tan(math.radians(72))  # of a side, from straight down
_LEAN = math.tan(math.radians(4))  # a side leans inwards by no more: beams do not meet below
_MOST_POINTS = 110  # of each side of the mask
_LEAST_VOTES = 0.025  # of a side's points, for a line
_TRIED_LINES = 120  # of those with the most votes
_BEST_LINES = 7  # of each side, which are combined
_BEST_PAIRS = 9  # of these, whose arcs are tried
_PARALLEL = math.radians(3)  # sides that open by less belong to a rectangle
_INSIDE = 0.94  # of the opening angle: points nearer to the sides are not counted for arcs
_LEAST_CUT = 0.12  # share of a side's points that lie on one straight line if the screen cuts the sector there
_LEAST_NEAR, _LEAST_FAR = 0.02, 0.08  # share of the points above and below that lie on near and far edge
_LEAST_CUT_POINTS, _BEYOND_CUT = 9, 0.04  # at least on a cut, and at most, as a share, beyond it
_CUT_COST = 0.02  # share of all votes that each cut costs
_CUT_SETS = ("ltrb", "lr", "tb", "b")  # which cuts are tried together: left, top, right, bottom
_WORTH = 0.7  # of the votes for an arc, a level edge is worth a try, and the other way round
_BEST_FANS = 3  # with the same sides
_MOST_UNCUT, _MOST_CUT = 3, 3  # outlines worth a closer look

Ends = tuple[float | None, float | None]
Window = tuple[float, float, float, float]
"""Left, top, right, bottom in px."""


@dataclass(frozen=True)
class Outline:
    """Edges of a sector, in px at full size.

    Attributes:
        apex: where the beams meet; None if they are parallel, and the sector is its window.
        sides: angles of the left and the right side in radians from straight down; None where the window hides a side.
        arcs: radii of the near and the far edge; None where the window hides them, or cuts them off.
        window: what the screen or the image shows; the entire image if it cuts nothing.
        votes: of all points for these edges, as a share of the points.
    """

    apex: tuple[float, float] | None
    sides: Ends
    arcs: Ends
    window: Window
    votes: float


@dataclass(frozen=True)
class _Points:
    """Outermost points of one side of a mask, in px at full size; ``bound`` where image or cut end there."""

    x: Floats
    y: Floats
    bound: Mask

    def without(self, cut: Mask) -> _Points:
        return replace(self, bound=self.bound | cut)


@dataclass(frozen=True)
class _Outermost:
    left: _Points
    right: _Points
    top: _Points
    bottom: _Points
    unit: float  # full px per reduced px
    image: Window

    @property
    def count(self) -> int:
        return len(self.left.x) + len(self.right.x) + len(self.top.x) + len(self.bottom.x)


@dataclass(frozen=True)
class _Line:
    """x = start + slope * y."""

    start: float
    slope: float
    votes: float

    @property
    def angle(self) -> float:
        return math.atan(self.slope)


def fit_outlines(mask: Mask, scale: tuple[float, float]) -> Iterator[list[Outline]]:
    """The outlines that the outermost points of ``mask`` vote for, the best first; none if the mask is empty.

    First those that nothing cuts, then, if they are asked for, those that the screen cuts.

    Args:
        mask: [height, width] at reduced size.
        scale: px at full size per reduced px, along x and y.
    """
    if not mask.any():
        return
    points = _outermost(mask, scale)
    yield _distinct(_outlines(points, points.image, 0, 0), scale[1], _MOST_UNCUT)
    cuts = _cuts(points)
    found: list[Outline] = []
    for wanted in _CUT_SETS:
        chosen = [cut for cut in cuts if cut.side in wanted]
        if chosen and (wanted == "ltrb" or len(chosen) < len(cuts)):
            found += _with_cuts(points, chosen)
    yield _distinct(found, scale[1], _MOST_CUT)


def _distinct(outlines: Iterable[Outline], unit: float, most: int) -> list[Outline]:
    """The outlines with the most votes, none like another."""
    distinct: list[Outline] = []
    for outline in sorted(outlines, key=lambda outline: -outline.votes):
        if len(distinct) == most:
            break
        if all(_differ(outline, other, unit) for other in distinct):
            distinct.append(outline)
    return distinct


def _differ(one: Outline, other: Outline, unit: float) -> bool:
    if (one.apex is None) != (other.apex is None):
        return True
    if max(abs(a - b) for a, b in zip(one.window, other.window, strict=True)) > 2 * unit:
        return True
    for a, b in ((one.sides, other.sides), (one.arcs, other.arcs)):
        for first, second in zip(a, b, strict=True):
            if (first is None) != (second is None):
                return True
            if (
                first is not None
                and second is not None
                and abs(first - second) > (0.03 if a is one.sides else 2 * unit)
            ):
                return True
    if one.apex is not None and other.apex is not None:
        return max(abs(a - b) for a, b in zip(one.apex, other.apex, strict=True)) > 3 * unit
    return False


@dataclass(frozen=True)
class _Cut:
    """A straight edge, upright or level: ``side`` is l, t, r or b; ``on`` which of the side's points lie on it."""

    side: str
    place: float
    on: Mask


def _with_cuts(points: _Outermost, cuts: Sequence[_Cut]) -> Iterator[Outline]:
    """Outlines in the window that some cuts make; points on the cuts say nothing about what is cut."""
    window = dict(zip("ltrb", points.image, strict=True))
    sides = {"l": points.left, "t": points.top, "r": points.right, "b": points.bottom}
    for cut in cuts:
        window[cut.side] = cut.place
        sides[cut.side] = sides[cut.side].without(cut.on)
    rest = replace(points, left=sides["l"], top=sides["t"], right=sides["r"], bottom=sides["b"])
    votes = sum(int(np.count_nonzero(cut.on)) for cut in cuts)
    yield from _outlines(rest, (window["l"], window["t"], window["r"], window["b"]), votes, len(cuts))


def _outermost(mask: Mask, scale: tuple[float, float]) -> _Outermost:
    height, width = mask.shape
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    rows = rows[:: max(len(rows) // _MOST_POINTS, 1)]
    columns = columns[:: max(len(columns) // _MOST_POINTS, 1)]
    first, last = _floats(mask[rows].argmax(axis=1)), width - _floats(mask[rows, ::-1].argmax(axis=1))
    upper, lower = _floats(mask[:, columns].argmax(axis=0)), height - _floats(mask[::-1, columns].argmax(axis=0))
    y, x = (_floats(rows) + 0.5) * scale[1], (_floats(columns) + 0.5) * scale[0]
    return _Outermost(
        _Points(first * scale[0], y, first <= 1),
        _Points(last * scale[0], y, last >= width - 1),
        _Points(x, upper * scale[1], upper <= 1),
        _Points(x, lower * scale[1], lower >= height - 1),
        scale[1],
        (0.0, 0.0, width * scale[0], height * scale[1]),
    )


def _floats(places: npt.NDArray[np.int64]) -> Floats:
    return places.astype(np.float64)


def _cuts(points: _Outermost) -> list[_Cut]:
    """Straight edges along which many of the outermost points lie, and beyond which few do."""
    cuts = []
    for side, where, values, outwards in (
        ("l", points.left, points.left.x, -1),
        ("t", points.top, points.top.y, -1),
        ("r", points.right, points.right.x, 1),
        ("b", points.bottom, points.bottom.y, 1),
    ):
        place, votes = _mode(values, where.bound, outwards, points.unit)
        on = (np.abs(values - place) <= points.unit) & ~where.bound
        beyond = outwards * (values - place) > 2 * points.unit
        if votes >= max(_LEAST_CUT * len(values), _LEAST_CUT_POINTS) and beyond.mean() < _BEYOND_CUT:
            cuts.append(_Cut(side, place, on))
    return cuts


def _outlines(points: _Outermost, window: Window, cut_votes: int, cuts: int) -> Iterator[Outline]:
    """Outlines within a window, each with its votes less what its cuts cost."""
    cost = cuts * _CUT_COST
    for left, right in _side_pairs(points):
        for outline in _with_arcs(left, right, points, window, cut_votes):
            yield replace(outline, votes=outline.votes - cost)


def _side_pairs(points: _Outermost) -> Iterator[tuple[_Line | None, _Line | None]]:
    """Pairs of a left and a right side that may belong together; None is a side that the window hides."""
    lefts, rights = _lines(points.left, -1, points.unit), _lines(points.right, 1, points.unit)
    pairs = []
    for left in lefts:
        for right in rights:
            tilt = abs(left.angle + right.angle)
            if left.slope > right.slope + 0.05 or tilt > math.radians(25):
                continue
            symmetric = max(1 - tilt / math.radians(3), 0)
            votes = left.votes + right.votes + 0.3 * symmetric * min(left.votes, right.votes)
            pairs.append((votes, left, right))
    pairs.sort(key=lambda pair: -pair[0])
    for _, left, right in pairs[:_BEST_PAIRS]:
        yield left, right
    if _hidden(points.left) or not pairs:
        for right in rights[:2]:
            yield None, right
    if _hidden(points.right) or not pairs:
        for left in lefts[:2]:
            yield left, None
    if (_hidden(points.left) and _hidden(points.right)) or not pairs:
        yield None, None


def _hidden(side: _Points) -> bool:
    """Whether image or cut end at enough of a side's points that the side itself may not be visible."""
    return bool(side.bound.mean() > 0.5)


def _lines(points: _Points, outwards: int, unit: float) -> list[_Line]:
    """Lines with the most votes of a side's points, none like another."""
    x, y, bound = points.x, points.y, points.bound
    firsts, seconds = _spread_pairs(len(x))
    usable = ~bound[firsts] & ~bound[seconds]
    firsts, seconds = firsts[usable], seconds[usable]
    slope = (x[seconds] - x[firsts]) / (y[seconds] - y[firsts])
    usable = (outwards * slope > -_LEAN) & (np.abs(slope) < _STEEPEST)
    slope, start = slope[usable], (x[firsts] - slope * y[firsts])[usable]
    if not len(slope):
        return []
    away = _away(x, y, start, slope, outwards)
    on = (np.abs(away) < unit) & ~bound[None, :]
    votes = on.sum(axis=1) - _OUTSIDE_COST * (away > 1.8 * unit).sum(axis=1)
    best = np.argsort(-votes, kind="stable")[:_TRIED_LINES]
    return [
        _Line(float(start[index]), float(slope[index]), float(votes[index]))
        for index in best[_different(votes[best], on[best])].tolist()
    ]


def _away(x: Floats, y: Floats, start: Floats, slope: Floats, outwards: int) -> npt.NDArray[np.float32]:
    """px by which points lie outside lines, [lines, points]; in single precision, which is enough and faster."""
    across, down, begin, lean = (values.astype(np.float32) for values in (x, y, start, slope))
    offset = across[None, :] - begin[:, None] - lean[:, None] * down[None, :]
    return np.asarray(outwards * offset / np.sqrt(1 + lean * lean)[:, None], np.float32)


def _spread_pairs(count: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Indices of pairs of points, near and far from each other."""
    firsts, seconds = [], []
    for gap in (0.08, 0.15, 0.25, 0.4, 0.6, 0.8):
        apart = max(int(gap * count), 3)
        start = np.arange(0, max(count - apart, 0), 2)
        firsts.append(start)
        seconds.append(start + apart)
    return np.concatenate(firsts), np.concatenate(seconds)


def _different(votes: Floats, on: Mask) -> list[int]:
    """Places of the lines, ordered by their votes, none of which has half of its points in common with a better one.

    ``on`` [lines, points]: which points are on which line.
    """
    points = on.astype(np.float32)
    own = points.sum(axis=1)
    least = max(_LEAST_VOTES * on.shape[1], 3)
    free = votes >= least
    taken: list[int] = []
    while free.any() and len(taken) < _BEST_LINES:
        index = int(free.argmax())
        taken.append(index)
        free &= points @ points[index] < 0.5 * own
        free[: index + 1] = False
    return taken


def _with_arcs(
    left: _Line | None, right: _Line | None, points: _Outermost, window: Window, cut_votes: int
) -> Iterator[Outline]:
    """Outlines of two sides with the near and far edges that most points vote for."""
    votes = (left.votes if left else 0.0) + (right.votes if right else 0.0) + cut_votes
    if left is None and right is None:
        yield _rectangle(window, (None, None), points, votes)
        return
    if left and right and right.angle - left.angle < _PARALLEL:
        middle = float(points.left.y.mean())
        sides = left.start + left.slope * middle, right.start + right.slope * middle
        yield _rectangle(window, sides, points, votes)
        return
    if left and right:
        y = (left.start - right.start) / (right.slope - left.slope)
        apexes = [(left.start + left.slope * y, y)]
    else:
        apexes = list(_along(left or right, window))
    angles = (left.angle if left else None), (right.angle if right else None)
    fans = [fan for apex in apexes for fan in _fans(apex, angles, points, window, votes)]
    fans.sort(key=lambda fan: -fan.votes)
    yield from fans[:_BEST_FANS]


def _along(line: _Line | None, window: Window) -> Iterator[tuple[float, float]]:
    """Places on a line, from deep in the window to far above it, where the other side may meet it."""
    assert line is not None
    height = window[3] - window[1]
    for above in (-0.3, -0.2, -0.1, -0.05, 0.0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.75, 0.9, 1.1, 1.3, 1.6):
        y = window[1] - above * height
        yield line.start + line.slope * y, y


def _rectangle(window: Window, sides: Ends, points: _Outermost, votes: float) -> Outline:
    """The window, made smaller where sides or level edges are seen within it."""
    left, top, right, bottom = window
    left, right = left if sides[0] is None else sides[0], right if sides[1] is None else sides[1]
    unit = points.unit
    ends = [top, bottom]
    for index, (side, outwards) in enumerate(((points.top, -1), (points.bottom, 1))):
        inside = (side.x > left + 2 * unit) & (side.x < right - 2 * unit)
        place, count = _mode(side.y[inside], side.bound[inside], outwards, unit)
        if count > 0.1 * len(side.x):
            ends[index] = place
            votes += count
    return Outline(None, (None, None), (None, None), (left, ends[0], right, ends[1]), votes / points.count)


def _fans(
    apex: tuple[float, float], sides: Ends, points: _Outermost, window: Window, votes: float
) -> Iterator[Outline]:
    """Beams from ``apex`` with near and far edges, each an arc or a level edge where enough points vote for it."""
    lowest, highest = (-math.pi / 2 if sides[0] is None else sides[0]), (math.pi / 2 if sides[1] is None else sides[1])
    middle, half = (lowest + highest) / 2, (highest - lowest) / 2
    choices: list[list[tuple[float | None, float | None, float]]] = []
    for index, (side, outwards) in enumerate(((points.top, -1), (points.bottom, 1))):
        dx, dy = side.x - apex[0], side.y - apex[1]
        inside = (np.abs(np.arctan2(dx, dy) - middle) < _INSIDE * half) & (dy > 0)
        bound = side.bound[inside]
        arc, arc_votes = _mode(np.hypot(dx, dy)[inside], bound, outwards, points.unit)
        level, level_votes = _mode(side.y[inside], bound, outwards, points.unit)
        least = (_LEAST_NEAR, _LEAST_FAR)[index] * len(side.x)
        ends: list[tuple[float | None, float | None, float]] = []
        if arc_votes >= max(least, _WORTH * level_votes):
            ends.append((arc, None, arc_votes))
        if level_votes >= max(least, _WORTH * arc_votes):
            ends.append((None, level, level_votes))
        choices.append(ends or [(None, None, 0.0)])
    for near, near_level, near_votes in choices[0]:
        for far, far_level, far_votes in choices[1]:
            top = window[1] if near_level is None else near_level
            bottom = window[3] if far_level is None else far_level
            total = (votes + near_votes + far_votes) / points.count
            yield Outline(apex, sides, (near, far), (window[0], top, window[2], bottom), total)


def _mode(values: Floats, bound: Mask, outwards: int, unit: float) -> tuple[float, float]:
    """The value that most points lie at and few lie beyond, and its votes."""
    if not len(values):
        return 0.0, 0.0
    bins = np.floor((outwards * values) / unit).astype(np.int64)
    bins -= bins.min()
    everything = np.bincount(bins).astype(np.float64)
    counts = np.bincount(bins[~bound], minlength=len(everything)).astype(np.float64)
    near = counts.copy()
    near[1:] += counts[:-1]
    near[:-1] += counts[1:]
    beyond = everything.sum() - np.cumsum(everything)
    beyond = np.concatenate([beyond[1:], [0.0]])  # the next bin is not beyond
    votes = near - _OUTSIDE_COST * beyond
    best = int(votes.argmax())
    close = ~bound & (np.abs(bins - best) <= 1)
    place = float(np.median(values[close])) if close.any() else float(np.median(values))
    return place, float(votes[best])

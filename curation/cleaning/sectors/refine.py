"""An outline moved onto the edges in the pixels, with what is then known of each edge."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from sono.curation.images.pixels import Mask, Pixels

from .edges import EdgeProfile, edge_profile
from .fit import Outline
from .geometry import Floats

EDGES = ("left side", "right side", "near arc", "far arc", "left cut", "upper cut", "right cut", "lower cut")
"""In the order of an outline's parameters, which are apex x and y and then one for each edge."""

_PARAMETERS = 2 + len(EDGES)
_POINTS = 56  # of each edge
_ALONG = np.linspace(0, 1, _POINTS)
_ON_EDGE_PX = 2.5  # an edge is confirmed by pixels whose edge is that close
_CORNER_PX = 4.0  # around corners nothing is looked at: there the next edge begins
_DENSE = 0.85
_FEWEST = 4  # points, for an edge to count as part of the outline
_OUTLIER_PX = 2.0  # offsets beyond weigh little
_SYMMETRY = 0.02  # rad: sides are about symmetric, unless the pixels know better
_LOOSE_PX, _LOOSE_RAD = 40.0, 0.15  # how far an edge that nothing shows may move
_LOOSE = np.array([_LOOSE_PX] * 2 + [_LOOSE_RAD] * 2 + [_LOOSE_PX] * 6)
_HELD = 1 / _LOOSE**2
_NOISE_PX = 0.7  # of an edge, at least
_CORRELATED = 5.0  # neighbouring points see the same speckle, and so do not count as often as they are
_ROUNDS = 3  # of reweighting
_FAN_OF_BOX = 0.7  # share of its box that a fan fills, about


@dataclass(frozen=True)
class EdgeEvidence:
    """What the pixels say about one edge.

    Attributes:
        seen: share of its points where pixels are lit up to the edge and dark beyond it.
        span: part of the edge, from 0 to 1, between the first and the last of these points.
        lit_beyond: share of its points with lit pixels beyond the edge.
        length: px of the edge inside the image.
        ends: x, y of the first and the last point that is seen; None if none is.
        points, outwards: x, y of all its points, and the direction away from the sector there, each [n, 2].
    """

    seen: float
    span: float
    lit_beyond: float
    length: float
    ends: tuple[tuple[float, float], tuple[float, float]] | None
    points: Floats
    outwards: Floats

    @property
    def dense(self) -> bool:
        """Whether it is seen without gaps between its first and last point."""
        return self.seen > _DENSE * self.span > 0


@dataclass(frozen=True)
class Refined:
    """``uncertain``: how much of the sector's area its edges leave open, from their scatter, as a share."""

    outline: Outline
    evidence: Mapping[str, EdgeEvidence]
    uncertain: float


@dataclass(frozen=True)
class _Points:
    """Points of all edges: ``points`` and ``outwards`` [n, 2], ``edge`` [n] index into ``EDGES``.

    ``moves`` [n, 10]: px by which the edge moves outwards per unit of each parameter; ``spacing`` [n] px to the next.
    """

    points: Floats
    outwards: Floats
    edge: npt.NDArray[np.int64]
    moves: Floats
    spacing: Floats


def refine(pixels: Pixels, level: int, outline: Outline, reaches: Sequence[int]) -> Refined:
    """Move an outline's edges onto those of the pixels, in steps from coarse to fine.

    Args:
        pixels: of the frame, at full size.
        level: grey level above which a pixel is lit.
        reaches: px from the outline in which its edges are looked for, one step after another.
    """
    for reach in reaches:
        points = _visible(outline, pixels.shape)
        if not len(points.points):
            break
        profile = edge_profile(pixels, level, points.points, points.outwards, reach)
        outline = _moved(outline, points, profile, reach)
    return confirm(pixels, level, outline)


def confirm(pixels: Pixels, level: int, outline: Outline) -> Refined:
    """What the pixels say about an outline's edges where they are."""
    points = _visible(outline, pixels.shape)
    if not len(points.points):
        return Refined(outline, {}, 1.0)
    profile = edge_profile(pixels, level, points.points, points.outwards, 3)
    on_edge = profile.seen & (np.abs(profile.offset) <= _ON_EDGE_PX)
    evidence = {
        EDGES[index]: _evidence(points, profile, on_edge, np.flatnonzero(points.edge == index))
        for index in np.unique(points.edge).tolist()
    }
    return Refined(outline, evidence, _uncertain(outline, points, profile, on_edge))


def _evidence(points: _Points, profile: EdgeProfile, on_edge: Mask, at: npt.NDArray[np.int64]) -> EdgeEvidence:
    """Of the points with indices ``at``, which are one edge's."""
    on_image = profile.on_image[at]
    count = max(int(np.count_nonzero(on_image)), 1)
    seen = np.flatnonzero(on_edge[at])
    ends = None
    if len(seen):
        (x0, y0), (x1, y1) = points.points[at[seen[[0, -1]]]].tolist()
        ends = (x0, y0), (x1, y1)
    return EdgeEvidence(
        seen=len(seen) / count,
        span=min(float(seen[-1] - seen[0] + 1) / count, 1.0) if len(seen) else 0.0,
        lit_beyond=float(np.count_nonzero((profile.lit_outside[at] > 0.5) & on_image)) / count,
        length=float(points.spacing[at[0]]) * count,
        ends=ends,
        points=points.points[at],
        outwards=points.outwards[at],
    )


def _visible(outline: Outline, size: Sequence[int]) -> _Points:
    """The points of all edges that bound the sector within the image."""
    height, width = size[:2]
    edges = _cut_edges(outline)
    if outline.apex is not None:
        edges += [*_side_edges(outline), *_arc_edges(outline)]
    values = np.empty((6, len(edges), _POINTS))
    for place, (_, *columns) in enumerate(edges):
        for row, column in zip(values, columns, strict=True):
            row[place] = column
    whole = values.reshape(6, -1)
    edge = np.repeat([index for index, *_ in edges], _POINTS)
    x, y = whole[:2]
    keep = (x > 1) & (y > 1) & (x < width - 1) & (y < height - 1)
    for index, inside in _distances(outline, x, y):
        keep &= (inside > _CORNER_PX) | (edge == index)
    keep &= (np.bincount(edge[keep], minlength=len(EDGES)) >= _FEWEST)[edge]
    edge = edge[keep]
    x, y, outwards_x, outwards_y, moved, spacing = whole[:, keep]
    outwards = np.stack([outwards_x, outwards_y], axis=1)
    moves = np.zeros((len(edge), _PARAMETERS))
    moves[:, :2] = outwards * (edge < 4)[:, None]  # cuts do not move with the apex
    moves[np.arange(len(edge)), 2 + edge] = moved
    return _Points(np.stack([x, y], axis=1), outwards, edge, moves, spacing)


def _distances(outline: Outline, x: Floats, y: Floats) -> list[tuple[int, Floats]]:
    """px by which points are inside each edge that the outline has, by index into ``EDGES``."""
    left, top, right, bottom = outline.window
    found = [(4, x - left), (5, y - top), (6, right - x), (7, bottom - y)]
    if outline.apex is not None:
        dx, dy = x - outline.apex[0], y - outline.apex[1]
        for index, sign in ((0, 1.0), (1, -1.0)):
            angle = outline.sides[index]
            if angle is not None:
                found.append((index, sign * (dx * math.cos(angle) - dy * math.sin(angle))))
        radius = np.sqrt(dx * dx + dy * dy)
        for index, sign in ((0, 1.0), (1, -1.0)):
            arc = outline.arcs[index]
            if arc is not None:
                found.append((2 + index, sign * (radius - arc)))
    return found


_Value = Floats | float
_Edge = tuple[int, _Value, _Value, _Value, _Value, _Value, float]
"""Index into ``EDGES``, and of ``_POINTS`` points x, y, x and y of the direction outwards, px by which they move that
way per unit of the edge's own parameter, and px to the next; a number holds for all of them."""


def _cut_edges(outline: Outline) -> list[_Edge]:
    left, top, right, bottom = outline.window
    x, y = left + _ALONG * (right - left), top + _ALONG * (bottom - top)
    across, down = abs(right - left) / _POINTS, abs(bottom - top) / _POINTS
    return [
        (4, left, y, -1.0, 0.0, -1.0, down),
        (5, x, top, 0.0, -1.0, -1.0, across),
        (6, right, y, 1.0, 0.0, 1.0, down),
        (7, x, bottom, 0.0, 1.0, 1.0, across),
    ]


def _side_edges(outline: Outline) -> Iterator[_Edge]:
    assert outline.apex is not None
    nearest, farthest = outline.arcs[0] or 0.0, _farthest(outline)
    distance = nearest + _ALONG * (farthest - nearest)
    for index, sign in ((0, -1.0), (1, 1.0)):
        angle = outline.sides[index]
        if angle is None:
            continue
        sin, cos = math.sin(angle), math.cos(angle)
        x, y = outline.apex[0] + distance * sin, outline.apex[1] + distance * cos
        yield index, x, y, sign * cos, -sign * sin, sign * distance, abs(farthest - nearest) / _POINTS


def _arc_edges(outline: Outline) -> Iterator[_Edge]:
    assert outline.apex is not None
    first = -1.4 if outline.sides[0] is None else outline.sides[0]
    last = 1.4 if outline.sides[1] is None else outline.sides[1]
    angles = first + _ALONG * (last - first)
    sin, cos = np.sin(angles), np.cos(angles)
    for index, sign in ((0, -1.0), (1, 1.0)):
        radius = outline.arcs[index]
        if radius is None:
            continue
        x, y = outline.apex[0] + radius * sin, outline.apex[1] + radius * cos
        yield 2 + index, x, y, sign * sin, sign * cos, sign, abs(radius * (last - first)) / _POINTS


def _farthest(outline: Outline) -> float:
    """Distance from the apex to the far end of the longest beam."""
    assert outline.apex is not None
    if outline.arcs[1] is not None:
        return outline.arcs[1]
    left, top, right, bottom = outline.window
    corners = [(x - outline.apex[0], y - outline.apex[1]) for x in (left, right) for y in (top, bottom)]
    return max(math.hypot(*corner) for corner in corners)


def _moved(outline: Outline, points: _Points, profile: EdgeProfile, reach: int) -> Outline:
    """The outline whose edges are nearest to those seen, outliers apart (iteratively reweighted least squares)."""
    moves, offset = points.moves[profile.seen], profile.offset[profile.seen]
    if not len(offset):
        return outline
    change: Floats = np.zeros(_PARAMETERS)
    scatter = reach / 2 + _OUTLIER_PX  # at first so large that no edge is an outlier
    for _ in range(_ROUNDS):
        weight = 1 / (1 + ((offset - moves @ change) / scatter) ** 2) ** 2
        change = np.asarray(np.linalg.solve(*_normal_equations(outline, moves, offset, weight)), np.float64)
        scatter = max(scatter / 2, _OUTLIER_PX)
    return _changed(outline, change)


def _normal_equations(outline: Outline, moves: Floats, offset: Floats, weight: Floats) -> tuple[Floats, Floats]:
    weighted = (moves * weight[:, None]).T
    matrix, right = weighted @ moves, weighted @ offset
    matrix.flat[:: _PARAMETERS + 1] += _HELD
    first, last = outline.sides
    if first is not None and last is not None:
        matrix[2:4, 2:4] += 1 / _SYMMETRY**2
        right[2:4] -= (first + last) / _SYMMETRY**2
    return matrix, right


def _changed(outline: Outline, change: Floats) -> Outline:
    step: list[float] = change.tolist()
    apex = outline.apex and (outline.apex[0] + step[0], outline.apex[1] + step[1])
    sides = [None if side is None else side + step[2 + index] for index, side in enumerate(outline.sides)]
    arcs = [None if arc is None else max(arc + step[4 + index], 0.0) for index, arc in enumerate(outline.arcs)]
    left, top, right, bottom = (place + step[6 + index] for index, place in enumerate(outline.window))
    return replace(outline, apex=apex, sides=(sides[0], sides[1]), arcs=(arcs[0], arcs[1]),
                   window=(left, top, right, bottom))  # fmt: skip


def _uncertain(outline: Outline, points: _Points, profile: EdgeProfile, on_edge: Mask) -> float:
    """Expected area between the outline and the true one, as a share of the sector, from the scatter of its edges."""
    noise = max(float(np.std(profile.offset[on_edge])) if on_edge.any() else _NOISE_PX, _NOISE_PX)
    matrix, _ = _normal_equations(outline, points.moves, profile.offset, on_edge / (noise**2 * _CORRELATED))
    deviation = np.sqrt(np.maximum(((points.moves @ np.linalg.inv(matrix)) * points.moves).sum(axis=1), 0))
    extent = points.points.max(axis=0) - points.points.min(axis=0)
    return float((deviation * points.spacing).sum()) / max(_FAN_OF_BOX * float(extent[0] * extent[1]), 1.0)

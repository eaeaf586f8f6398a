"""Polygons to masks and back. A mask traced along the edges of its pixels comes back bit by bit, holes included."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from sono.curation.images.bounds import check_size
from sono.curation.masks.formats.protocol import Size
from sono.curation.masks.reasons import excluded
from sono.manifests.masks import Mask, bbox

Ring = npt.NDArray[np.float64]
"""Vertices x, y in px, shape [n, 2]; pixel [row, column] covers row to row + 1 and column to column + 1."""

VERTICES_MOST = 100_000
"""Of one shape. A sonographer clicks some dozens; the outline of a mask has some thousands."""

_LENGTH_MOST_PX = 20_000_000
"""Of a polygon's boundary, along rows and columns: memory grows with it, in pycocotools too."""


def ring_of(points: object) -> Ring:
    """The vertices that a file lists.

    Raises:
        ExcludedError: they are not at least three finite points, or more than ``VERTICES_MOST``.
    """
    try:
        count = len(points)  # type: ignore[arg-type]
        if count > VERTICES_MOST:
            raise excluded("too_many_vertices")
        ring = np.asarray(points, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        raise excluded("malformed_mask") from None
    if ring.ndim != 2 or ring.shape[1:] != (2,) or not np.isfinite(ring).all():
        raise excluded("malformed_mask")
    if len(ring) < 3:
        raise excluded("not_an_area")
    return ring


def fill(ring: Ring, size: Size) -> Mask:
    """The pixels whose centers a polygon encloses, as a boolean array of shape [height, width].

    The winding number of every pixel center is counted along its row. Where a polygon's boundary only touches itself,
    as the bridge to a hole does, it is 0 or 1 everywhere; where it crosses itself, it is not.

    Raises:
        ExcludedError: the polygon crosses itself, so that it is not clear what it encloses, lies far outside, or its
            boundary is longer than any outline.
    """
    height, width = size
    check_size(height, width)
    check_place(ring, size)
    if np.abs(ring - np.roll(ring, -1, axis=0)).sum() > _LENGTH_MOST_PX:
        raise excluded("too_many_vertices")
    left, top = np.clip(np.floor(ring.min(axis=0)), 0, (width, height)).astype(np.int64).tolist()
    right, bottom = np.clip(np.ceil(ring.max(axis=0)), 0, (width, height)).astype(np.int64).tolist()
    mask = np.zeros(size, dtype=np.bool_)
    if left < right and top < bottom:
        winding = _winding(ring - np.array([left, top]), bottom - top, right - left)
        low, high = int(winding.min()), int(winding.max())
        if high - low > 1 or low < -1 or high > 1:
            raise excluded("self_intersecting")
        mask[top:bottom, left:right] = winding != 0
    return mask


def check_place(ring: Ring, size: Size) -> None:
    """Refuse a shape that reaches further beyond the image than the image is large: it was drawn on another one.

    Raises:
        ExcludedError: it does.
    """
    height, width = size
    if (ring < (-width, -height)).any() or (ring > (2 * width, 2 * height)).any():
        raise excluded("size_mismatch")


def _winding(ring: Ring, height: int, width: int) -> npt.NDArray[np.int32]:
    """The winding numbers of the pixel centers, shape [height, width]."""
    following = np.roll(ring, -1, axis=0)
    (x0, y0), (x1, y1) = ring.T, following.T
    # An edge crosses the rows whose centers lie between its ends; the upper end counts, the lower one does not.
    first = np.clip(np.ceil(np.minimum(y0, y1) - 0.5), 0, height).astype(np.int64)
    last = np.clip(np.ceil(np.maximum(y0, y1) - 0.5), 0, height).astype(np.int64)
    counts = last - first
    edge = np.repeat(np.arange(len(ring)), counts)
    rows = np.arange(edge.size) - np.repeat(np.cumsum(counts) - counts, counts) + first[edge]
    x = x0[edge] + (rows + 0.5 - y0[edge]) * (x1[edge] - x0[edge]) / (y1[edge] - y0[edge])
    columns = np.clip(np.ceil(x - 0.5), 0, width).astype(np.int64)
    turns = np.where(y1 > y0, 1, -1).astype(np.int32)[edge]
    steps = np.zeros(height * (width + 1), dtype=np.int32)
    np.add.at(steps, rows * (width + 1) + columns, turns)
    return np.cumsum(steps.reshape(height, width + 1), axis=1, dtype=np.int32)[:, :width]


def ellipse(center: tuple[float, float], radii: tuple[float, float], degrees: float, size: Size) -> Mask:
    """The pixels whose centers an ellipse encloses; ``degrees`` turn it clockwise, as images have y downwards.

    Raises:
        ExcludedError: it is not an ellipse, or reaches far outside: it was drawn on another image.
    """
    height, width = size
    check_size(height, width)
    if not np.isfinite([*center, *radii, degrees]).all() or min(radii) <= 0:
        raise excluded("malformed_mask")
    cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    reach = np.hypot(radii[0] * np.array([cosine, sine]), radii[1] * np.array([sine, cosine]))
    check_place(np.array([center - reach, center + reach]), size)
    y, x = np.ogrid[:height, :width]
    dx, dy = x + 0.5 - center[0], y + 0.5 - center[1]
    along, across = (dx * cosine + dy * sine) / radii[0], (dy * cosine - dx * sine) / radii[1]
    return np.asarray(along**2 + across**2 <= 1, dtype=np.bool_)


def trace(mask: Mask) -> list[Ring]:
    """Polygons that enclose exactly the mask's pixels, one per separate part, their corners at corners of pixels.

    A hole is joined to its surroundings by a bridge without width, because most formats know no holes.
    """
    left, top, width, height = bbox(mask)
    mask = mask[top : top + height, left : left + width]
    outer: list[list[tuple[int, int]]] = []
    holes: list[list[tuple[int, int]]] = []
    for ring in _boundaries(mask):
        x, y = min(ring)  # the uppermost of the leftmost corners: the ring's own area lies to its lower right
        (outer if mask[y, x] else holes).append(ring)
    merged = [np.asarray(_turned(ring, clockwise=True), dtype=np.float64) for ring in outer]
    for hole in sorted(holes, key=min):
        _join(merged, _turned(hole, clockwise=False), mask)
    return [ring + np.array([left, top]) for ring in merged]


def _boundaries(mask: Mask) -> Iterator[list[tuple[int, int]]]:
    """The closed lines between mask and background, as lists of corners.

    Corners in a row of the grid are the ends of its horizontal edges, one pair after another; those in a column, of its
    vertical edges. Where two pixels touch only at a corner, that corner is there twice.
    """
    padded = np.pad(mask, 1).astype(np.int8)
    a, b, c, d = padded[:-1, :-1], padded[:-1, 1:], padded[1:, :-1], padded[1:, 1:]
    odd = (a + b + c + d) % 2 == 1
    crossing = (a == d) & (b == c) & (a != b)
    y, x = np.nonzero(odd | crossing)
    repeats = 1 + crossing[y, x]
    y, x = np.repeat(y, repeats), np.repeat(x, repeats)
    across = np.arange(x.size) ^ 1  # np.nonzero goes by rows, so neighbors in a row are neighbors in the list
    by_column = np.lexsort((y, x))  # stable: the first copy of a corner stays first
    down = np.empty_like(across)
    down[by_column[0::2]], down[by_column[1::2]] = by_column[1::2], by_column[0::2]
    corners = list(zip(x.tolist(), y.tolist(), strict=True))
    beside, below = across.tolist(), down.tolist()
    seen = [False] * len(corners)
    for start in range(len(corners)):
        ring: list[tuple[int, int]] = []
        at = start
        while not seen[at]:
            other = beside[at]
            seen[at] = seen[other] = True
            ring += [corners[at], corners[other]]
            at = below[other]
        if ring:
            yield ring


def _turned(ring: list[tuple[int, int]], *, clockwise: bool) -> list[tuple[int, int]]:
    following = [*ring[1:], ring[0]]
    doubled = sum(x0 * y1 - x1 * y0 for (x0, y0), (x1, y1) in zip(ring, following, strict=True))
    return ring if (doubled > 0) == clockwise else ring[::-1]


def _join(merged: list[Ring], hole: list[tuple[int, int]], mask: Mask) -> None:
    """Join a hole to the polygon on its left, in the row of its leftmost pixel; holes further left come first."""
    x, y = corner = min(hole)
    gap = np.flatnonzero(~mask[y, :x])
    left = int(gap[-1]) + 1 if gap.size else 0
    for number, ring in enumerate(merged):
        following = np.roll(ring, -1, axis=0)
        vertical = (ring[:, 0] == left) & (following[:, 0] == left)
        spans = (np.minimum(ring[:, 1], following[:, 1]) <= y) & (np.maximum(ring[:, 1], following[:, 1]) >= y + 1)
        found = np.flatnonzero(vertical & spans)
        if found.size:
            begin = hole.index(corner)
            way = [(left, y), *hole[begin:], *hole[:begin], corner, (left, y)]
            merged[number] = np.insert(ring, found[0] + 1, np.asarray(way, dtype=np.float64), axis=0)
            return
    raise AssertionError("a hole lies within a part of the mask")

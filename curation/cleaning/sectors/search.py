"""The best outline for one piece of texture: the one whose edges the pixels show, with nothing lit beyond them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from sono.curation.images.pixels import Box, Mask

from .fit import Outline, Window, fit_outlines
from .geometry import Sector, contains, fan_kind
from .reduced_frame import ReducedFrame
from .refine import EdgeEvidence, Refined, confirm, refine

_COARSE, _FINE = (3.5, 1.4), (4, 3)  # reduced and full px from an outline in which its edges are looked for
_GOOD, _FAIR = 0.8, 0.5  # of an outline's quality: no other is tried
_SPANNED, _CERTAIN = 0.9, 0.01  # of each edge, and of the area
_BEYOND_COST, _OUTSIDE_COST = 2.0, 3.0  # quality that lit points beyond an edge cost, and texture outside the sector
_HALF_ANGLES = range(16, 61, 2)  # degrees
_NEAREST_TO_FAR = 0.9
_SAME_PX = 1.5  # between a side of a sector's box and of the box of the uncut sector
_CUT_SPAN = 0.97  # of an edge: where it is seen only within less, the screen may cut the sector
_SAME_DISTANCE = 0.04  # of it
_CUT_MARGIN = 0.03  # of the sector's width


@dataclass(frozen=True)
class FittedSector:
    """An outline on a frame, and what speaks for it.

    Attributes:
        refined: the outline, and what is known of each edge.
        sector: the outline in the words of the table.
        texture: what it was fitted to, at reduced size.
        outside: share of the texture that lies outside the sector.
        filled: share of the sector that is textured.
        quality: share of the outline that is seen, less what lies beyond and outside.
    """

    refined: Refined
    sector: Sector
    texture: Mask
    outside: float
    filled: float
    quality: float

    @property
    def outline(self) -> Outline:
        return self.refined.outline


def search_sector(frame: ReducedFrame, mask: Mask, level: int) -> FittedSector | None:
    """The sector around the texture in ``mask`` [height, width] at reduced size; None if there is none.

    ``level`` is the grey level above which a pixel is lit.
    """
    scale = frame.size[1] / mask.shape[1], frame.size[0] / mask.shape[0]
    coarse = [math.ceil(reach * scale[1]) for reach in _COARSE]
    best: FittedSector | None = None
    for outlines in fit_outlines(mask, scale):
        for outline in outlines:
            best = _better(best, _fitted(frame, mask, refine(frame.brightest, level, outline, coarse)))
            if _settled(best):
                break
        if best is not None and _settled(best):
            break
    if best is None:
        return None
    for outline in _where_edges_end(best.refined):
        best = _better(best, _fitted(frame, mask, refine(frame.brightest, level, outline, coarse)))
    return _better(best, _fitted(frame, mask, refine(frame.brightest, level, best.outline, _FINE)))


def _settled(fit: FittedSector) -> bool:
    """Whether other outlines need not be tried: all of this one is seen, or both ends of each of its edges."""
    if fit.quality > _GOOD:
        return True
    spanned = all(edge.span > _SPANNED for edge in fit.refined.evidence.values())
    return fit.quality > _FAIR and spanned and fit.refined.uncertain < _CERTAIN


def confirm_sector(frame: ReducedFrame, mask: Mask, level: int, sector: Sector) -> FittedSector:
    """What speaks for a sector that is known from elsewhere."""
    return _fitted(frame, mask, confirm(frame.brightest, level, outline_of(sector, frame.size)))


def fits_in_box(frame: ReducedFrame, mask: Mask, level: int, fit: FittedSector, box: Box) -> Iterator[FittedSector]:
    """Fits within a box of the header: the same outline, cut by it, and the fan that just fits into the box."""
    x, y, width, height = (float(value) for value in box)
    window = x, y, x + width, y + height
    yield _fitted(frame, mask, refine(frame.brightest, level, replace(fit.outline, window=window), _FINE))
    image = 0.0, 0.0, float(frame.size[1]), float(frame.size[0])
    fans = [_fitted(frame, mask, confirm(frame.brightest, level, fan)) for fan in _fans_in(window, image)]
    if fans:
        best = max(fans, key=lambda fan: fan.quality)
        yield _fitted(frame, mask, refine(frame.brightest, level, best.outline, _FINE))


def _fans_in(window: Window, image: Window) -> Iterator[Outline]:
    """Symmetric fans that touch all four sides of a window: the opening angle decides everything else."""
    left, top, right, bottom = window
    for degrees in _HALF_ANGLES:
        angle = math.radians(degrees)
        far = (right - left) / 2 / math.sin(angle)
        apex_y = bottom - far
        near = (top - apex_y) / math.cos(angle)
        if 0 < near < _NEAREST_TO_FAR * far:
            yield Outline(((left + right) / 2, apex_y), (-angle, angle), (near, far), image, 0.0)


def _better(one: FittedSector | None, other: FittedSector) -> FittedSector:
    return other if one is None or other.quality > one.quality else one


def _fitted(frame: ReducedFrame, mask: Mask, refined: Refined) -> FittedSector:
    share = shown_share(refined)
    sector = sector_of(refined.outline, frame.size, share)
    every_second = mask[::2, ::2]
    inside = reduced_mask(sector, every_second.shape, frame.size)
    textured = max(int(np.count_nonzero(every_second)), 1)
    within = int(np.count_nonzero(every_second & inside))
    outside = 1 - within / textured
    beyond = _weighted(refined, "lit_beyond")
    quality = share - _BEYOND_COST * beyond - _OUTSIDE_COST * outside if refined.evidence else -1.0
    return FittedSector(refined, sector, mask, outside, within / max(int(np.count_nonzero(inside)), 1), quality)


def shown_share(refined: Refined) -> float:
    """Share of the outline inside the image that the pixels show."""
    return _weighted(refined, "seen")


def _weighted(refined: Refined, what: str) -> float:
    edges: list[EdgeEvidence] = list(refined.evidence.values())
    length = sum(edge.length for edge in edges)
    return sum(float(getattr(edge, what)) * edge.length for edge in edges) / length if length else 0.0


def reduced_mask(sector: Sector, shape: tuple[int, ...], size: tuple[int, int]) -> Mask:
    """A sector's mask at reduced size: [height, width] of ``shape``; ``size`` is the frame's at full size."""
    step_y, step_x = size[0] / shape[0], size[1] / shape[1]
    x = (np.arange(shape[1], dtype=np.float32) + 0.5) * np.float32(step_x)
    y = (np.arange(shape[0], dtype=np.float32) + 0.5) * np.float32(step_y)
    return contains(sector, x, y)


def _where_edges_end(refined: Refined) -> Iterator[Outline]:
    """Outlines with one more edge where another edge, seen without gaps until there, is not seen any more."""
    outline = refined.outline
    if outline.apex is None:
        return
    left, top, right, bottom = outline.window
    far, near, lower = (_ends(refined, name) for name in ("far arc", "near arc", "lower cut"))
    if far is not None and outline.arcs[1] is not None:
        first, last = sorted((far[0][0], far[1][0]))
        from_x, to_x = _far_ends(outline)
        margin = _CUT_MARGIN * (to_x - from_x)
        cut_left, cut_right = (first if first > from_x + margin else left), (last if last < to_x - margin else right)
        for window in dict.fromkeys(
            ((cut_left, top, cut_right, bottom), (cut_left, top, right, bottom), (left, top, cut_right, bottom))
        ):
            if window != outline.window:
                yield replace(outline, window=window)
    if outline.arcs[1] is None:
        radius = _sides_end(refined)
        if radius is not None:
            yield replace(outline, arcs=(outline.arcs[0], radius))
    if near is not None:
        yield replace(outline, window=(left, max(top, min(near[0][1], near[1][1])), right, bottom))
    if lower is not None and outline.arcs[1] is None:
        radius = float(np.mean([math.hypot(x - outline.apex[0], y - outline.apex[1]) for x, y in lower]))
        yield replace(outline, arcs=(outline.arcs[0], radius))


def _sides_end(refined: Refined) -> float | None:
    """Distance from the apex at which both sides stop being seen, if they do so at the same distance."""
    assert refined.outline.apex is not None
    x, y = refined.outline.apex
    found = []
    for name in ("left side", "right side"):
        ends = _ends(refined, name)
        if ends is None:
            return None
        found.append(max(math.hypot(at_x - x, at_y - y) for at_x, at_y in ends))
    return sum(found) / 2 if abs(found[0] - found[1]) < _SAME_DISTANCE * max(found) else None


def _ends(refined: Refined, name: str) -> tuple[tuple[float, float], tuple[float, float]] | None:
    """Both ends of what is seen of an edge, if that is without gaps, and clearly less than the edge."""
    edge = refined.evidence.get(name)
    return None if edge is None or not edge.dense or edge.span > _CUT_SPAN else edge.ends


def _far_ends(outline: Outline) -> tuple[float, float]:
    """x of both ends of the far arc within the window."""
    assert outline.apex is not None
    assert outline.arcs[1] is not None
    radius, x = outline.arcs[1], outline.apex[0]
    first = x - radius if outline.sides[0] is None else x + radius * math.sin(outline.sides[0])
    last = x + radius if outline.sides[1] is None else x + radius * math.sin(outline.sides[1])
    return max(first, outline.window[0]), min(last, outline.window[2])


def sector_of(outline: Outline, size: tuple[int, int], confidence: float) -> Sector:
    """An outline as a sector of a frame of ``size``, height and width in px."""
    height, width = size
    left, top, right, bottom = outline.window
    window = max(left, 0.0), max(top, 0.0), min(right, float(width)), min(bottom, float(height))
    if outline.apex is None:
        apex, reach = ((window[0] + window[2]) / 2, window[1]), window[3] - window[1]
        hidden = window == (0.0, 0.0, float(width), float(height))
        return Sector("unknown" if hidden else "linear", apex, (0.0, 0.0), (0.0, reach), _box(window), confidence)
    x, y = outline.apex
    angles = _angles(outline, window)
    near, far = outline.arcs
    if near is None and far is None:
        radii = max(window[1] - y, 0.0), max(window[3] - y, 1.0)
        extent = [x + radius * math.tan(angle) for radius in radii for angle in angles]
        tight = min(extent), window[1], max(extent), window[3]
        kind = "linear"
    else:
        corners = [math.hypot(at_x - x, at_y - y) for at_x in window[::2] for at_y in window[1::2]]
        radii = max(window[1] - y, 0.0) if near is None else near, max(corners) if far is None else far
        extent = [x + radius * math.sin(angle) for radius in radii for angle in angles]
        lowest = y + radii[1] * (1.0 if angles[0] <= 0 <= angles[1] else max(math.cos(angle) for angle in angles))
        highest = y + radii[0] * min(math.cos(angle) for angle in angles)
        tight = min(extent), highest, max(extent), lowest
        kind = fan_kind(*radii)
    box = max(window[0], tight[0]), max(window[1], tight[1]), min(window[2], tight[2]), min(window[3], tight[3])
    degrees = math.degrees(angles[0]), math.degrees(angles[1])
    return Sector(kind, (x, y), degrees, radii, _box(box), confidence)


def _angles(outline: Outline, window: Window) -> tuple[float, float]:
    """Angles of both sides; of a hidden one as much as the window shows, or as the other side where an arc is seen."""
    assert outline.apex is not None
    left, right = outline.sides
    x, y = outline.apex
    seen_arc = outline.arcs[1] is not None
    if left is None:
        left = (
            -right if right is not None and seen_arc else min(math.atan2(window[0] - x, at - y) for at in window[1::2])
        )
    if right is None:
        right = -left if seen_arc else max(math.atan2(window[2] - x, at - y) for at in window[1::2])
    return left, right


def _box(window: Window) -> tuple[int, int, int, int]:
    left, top, right, bottom = (math.floor(place + 0.5) for place in window)
    return left, top, max(right - left, 1), max(bottom - top, 1)


def outline_of(sector: Sector, size: tuple[int, int]) -> Outline:
    """A sector's edges; sides of its box that only bound a fan are moved out of the way."""
    x, y, width, height = (float(value) for value in sector.box)
    box = x, y, x + width, y + height
    if sector.parallel:
        return Outline(None, (None, None), (None, None), box, 1.0)
    sides = math.radians(sector.angles[0]), math.radians(sector.angles[1])
    arcs = (sector.radii[0], sector.radii[1]) if sector.has_arcs else (None, None)
    whole = Outline(sector.apex, sides, arcs, (0.0, 0.0, float(size[1]), float(size[0])), 1.0)
    if not sector.has_arcs:
        whole = replace(whole, window=(0.0, box[1], float(size[1]), box[3]))
    bounds = sector_of(whole, size, 1.0).box
    full = float(bounds[0]), float(bounds[1]), float(bounds[0] + bounds[2]), float(bounds[1] + bounds[3])
    window = [place if abs(place - free) > _SAME_PX else limit
              for place, free, limit in zip(box, full, whole.window, strict=True)]  # fmt: skip
    return replace(whole, window=(window[0], window[1], window[2], window[3]))

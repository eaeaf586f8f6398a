"""What speaks against a sector. Confidence alone proves nothing: independent evidence has to agree."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np

from sono.curation.images.pixels import Mask

from .reduced_frame import ReducedFrame
from .refine import EdgeEvidence
from .search import FittedSector, reduced_mask, sector_of

_BEYOND = 0.12  # of an edge, beyond which the pixels are lit
_OUTSIDE = 0.045  # of the texture
_FAINT_BEYOND, _FAINT_AT = 0.25, (5, 8)  # of an edge, and reduced px beyond it: the noise of JPEG ends before
_ABOVE_MARGIN = 3  # reduced px above the near end that are let pass
_TEXTURE_PX = 30  # reduced px of texture there that are too many
_LEAST_EDGE = 0.06  # of the outline: shorter edges matter little
_SEEN, _SPAN = 0.12, 0.5  # of every longer edge
_ANCHORED_SEEN, _END_SEEN = 0.2, 0.85  # of a side, if so much of the arcs is seen
_FAR_SEEN = 0.35  # of a far end that is not only where the echoes fade
_ANCHORED_UNCERTAIN = 0.006
_SHOWN = 0.45  # of the whole outline
_UNCERTAIN = 0.03  # of the area
_BORDER_PX = 6
_TAIL = 0.06  # of a side, at its far end, that may be unseen where the image ends
_LOPSIDED = 4.0  # degrees between the middle of both sides and straight down, unless both are clearly seen:
_TURNED, _SIDE_SEEN = 20.0, 0.7  # degrees then, and share of each side
_FILLS = 0.25  # of the frame's border: a shorter outline is hardly seen


def contradictions(frame: ReducedFrame, fit: FittedSector, others: Mask | None = None) -> list[str]:
    """What no other source can excuse: ultrasound outside the sector.

    ``others`` is where another panel may be, at reduced size.
    """
    edges = _long_edges(fit)
    faint = frame.faint if others is None else frame.faint & ~others
    beyond = any(edge.lit_beyond > _BEYOND or _faint_beyond(frame, faint, edge) > _FAINT_BEYOND for edge in edges)
    if fit.outside > _OUTSIDE or beyond or _texture_above(frame, fit):
        return ["texture_outside_sector"]
    return []


def doubts(frame: ReducedFrame, fit: FittedSector, others: Mask | None = None, *, vouched: bool = False) -> list[str]:
    """All reasons that the frame itself gives.

    Args:
        others: as of ``contradictions``.
        vouched: whether another source has the same sector, so that of a fan some edges may be unseen.
    """
    reasons = set(contradictions(frame, fit, others))
    evidence = fit.refined.evidence
    height, width = frame.size
    length = sum(edge.length for edge in evidence.values())
    if length < _FILLS * (height + width) and fit.sector.box[2] * fit.sector.box[3] > 0.5 * height * width:
        reasons.add("sector_fills_frame")
    near = evidence.get("near arc", evidence.get("upper cut"))
    near_unseen = near is not None and near.seen < _SEEN and fit.sector.kind != "phased"
    seen = all(edge.seen >= _SEEN and (edge.span >= _SPAN or _anchored(fit, edge)) for edge in _long_edges(fit))
    may_be_unseen = vouched and fit.sector.has_arcs
    if near_unseen or _trails_off(fit) or not (may_be_unseen or (seen and not _open_sides(frame, fit))):
        reasons.add("sector_edge_unseen")
    if fit.sector.confidence < _SHOWN or fit.refined.uncertain > _UNCERTAIN:
        reasons.add("sector_uncertain")
    if not fit.sector.parallel and abs(sum(fit.sector.angles)) > (_TURNED if _sides_seen(fit) else _LOPSIDED):
        reasons.add("sector_lopsided")
    return sorted(reasons)


def shows_far_end(fit: FittedSector) -> bool:
    """Whether the frame shows enough of the sector's far end that it is one, and not where the echoes fade."""
    ends = [fit.refined.evidence.get(name) for name in ("far arc", "lower cut")]
    return any(end is not None and end.seen >= _FAR_SEEN for end in ends)


def lowest_place(fit: FittedSector) -> float:
    """y straight below the apex where a sector ends, in px, whatever part of its arc the frame shows."""
    outline = fit.outline
    if outline.apex is None or outline.arcs[1] is None:
        return outline.window[3]
    return min(outline.apex[1] + outline.arcs[1], outline.window[3])


def _sides_seen(fit: FittedSector) -> bool:
    sides = [fit.refined.evidence.get(name) for name in ("left side", "right side")]
    return all(side is not None and side.seen > _SIDE_SEEN for side in sides)


def _long_edges(fit: FittedSector) -> list[EdgeEvidence]:
    edges = list(fit.refined.evidence.values())
    length = sum(edge.length for edge in edges)
    return [edge for edge in edges if edge.length > _LEAST_EDGE * length]


def _open_sides(frame: ReducedFrame, fit: FittedSector) -> bool:
    """Whether the outline has no edge at all on a side where the image goes on."""
    evidence = fit.refined.evidence
    height, width = frame.size
    x, y, across, down = fit.sector.box
    inside = {
        ("left side", "left cut"): x > _BORDER_PX,
        ("right side", "right cut"): x + across < width - _BORDER_PX,
        ("near arc", "upper cut"): y > _BORDER_PX and fit.sector.kind != "phased",
        ("far arc", "lower cut"): y + down < height - _BORDER_PX,
    }
    return any(image_goes_on and not any(name in evidence for name in names) for names, image_goes_on in inside.items())


def _trails_off(fit: FittedSector) -> bool:
    """Whether a side stops being seen before it reaches its far end, and that end is not seen either."""
    evidence = fit.refined.evidence
    if any(name in evidence and evidence[name].seen > _SEEN for name in ("far arc", "lower cut")):
        return False
    for name in ("left side", "right side"):
        side = evidence.get(name)
        if side is None:
            continue
        length = side.points[-1, 1] - side.points[0, 1]
        if side.ends is None or side.points[-1, 1] - max(y for _, y in side.ends) > _TAIL * length:
            return True
    return False


def _anchored(fit: FittedSector, edge: EdgeEvidence) -> bool:
    """Whether a part of a side is enough, because near and far end, which fix the apex, are seen along all of it."""
    ends = [fit.refined.evidence.get(name) for name in ("near arc", "far arc")]
    if fit.refined.uncertain > _ANCHORED_UNCERTAIN or any(end is None or end.seen < _END_SEEN for end in ends):
        return False
    return edge.dense and edge.seen >= _ANCHORED_SEEN


def _texture_above(frame: ReducedFrame, fit: FittedSector) -> bool:
    """Whether there is texture above the near end of a fan, where its beams come from: then the fan begins there."""
    if fit.outline.apex is None or fit.outline.arcs[1] is None:
        return False
    left, _, right, bottom = fit.outline.window
    whole = replace(fit.outline, arcs=(0.0, fit.outline.arcs[1]), window=(left, 0.0, right, bottom))
    shape = frame.share.shape
    above = reduced_mask(sector_of(whole, frame.size, 0.0), shape, frame.size)
    sector = reduced_mask(fit.sector, shape, frame.size).astype(np.uint8)
    above &= cv2.dilate(sector, np.ones((2 * _ABOVE_MARGIN + 1,) * 2, np.uint8)) == 0
    return int(np.count_nonzero(above & fit.texture)) > _TEXTURE_PX


def _faint_beyond(frame: ReducedFrame, faint: Mask, edge: EdgeEvidence) -> float:
    """Share of an edge beyond which everything is a little brighter than the background: the sector may go on there."""
    height, width = faint.shape
    found = np.ones(len(edge.points), np.bool_)
    for distance in _FAINT_AT:
        at = edge.points + distance * frame.factor * edge.outwards
        x = np.floor(at[:, 0] * width / frame.size[1]).astype(np.int64)
        y = np.floor(at[:, 1] * height / frame.size[0]).astype(np.int64)
        on_image = (x >= 0) & (x < width) & (y >= 0) & (y < height)
        found &= on_image & faint[np.clip(y, 0, height - 1), np.clip(x, 0, width - 1)]
    return float(found.mean())

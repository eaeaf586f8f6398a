"""The sectors of a frame: found in its pixels, held against header and cine, and doubted where they disagree."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

from sono.curation.images.dicom.regions import Region
from sono.curation.images.pixels import Box, Mask

from .checks import contradictions, doubts, lowest_place, shows_far_end
from .geometry import Sector
from .header_boxes import disagrees, header_boxes, holds, leaves_header, trace_boxes, vouches
from .reduced_frame import LIT_ABOVE, ReducedFrame
from .screen import Screen
from .search import FittedSector, confirm_sector, fits_in_box, search_sector

_SHALLOWER = 0.04  # of a sector's height, by which a frame's own sector ends above its cine's
_BESIDE_OTHERS = 5  # reduced px around other panels that are theirs

MODES_WITH_TRACE = ("m_mode", "spectral")
MODES_WITH_SECTORS = ("b_mode", "color_doppler", "m_mode", "spectral", "dual")


@dataclass(frozen=True)
class SectorFinding:
    """The sectors of a frame; with any reason, a person has to look at it.

    Attributes:
        sectors: from left to right; none where nothing is found, or the mode shows none.
        confidence: of the least certain sector, from 0 to 1; 0 without sectors.
        reasons: why a person has to decide, sorted; ``reasons.SECTOR`` says what they mean.
    """

    sectors: Sequence[Sector]
    confidence: float
    reasons: Sequence[str]

    @property
    def accepted(self) -> bool:
        return not self.reasons


@dataclass(frozen=True)
class _Panel:
    """The texture of one sector, and where others are, both at reduced size."""

    mask: Mask
    others: Mask | None


def find_sectors(
    screen: Screen,
    mode: str,
    regions: Sequence[Region] = (),
    *,
    cine: SectorFinding | None = None,
) -> SectorFinding:
    """Find the sectors of a frame, and everything that speaks against them.

    Args:
        mode: of the frame, as ``frame_mode`` gives it; a trace, or a second panel, would ruin the fit.
        regions: of the header; none where it has no valid ones.
        cine: what was found in the maximum of the cine that the frame belongs to: it shows more of the sector than one
            frame. Its sectors are the frame's, whose pixels are only held against them.
    """
    if mode not in MODES_WITH_SECTORS:
        return SectorFinding([], 0.0, ["no_sector_in_mode"])
    panels = _panels(screen, mode, regions)
    if cine is not None:
        return _of_cine(screen.frame, panels, cine)
    if not panels:
        return SectorFinding([], 0.0, ["no_ultrasound"])
    found = _judged(screen.frame, mode, panels, regions)
    has_trace = screen.layout.trace is not None or bool(trace_boxes(regions))
    if (mode in MODES_WITH_TRACE) != has_trace:
        return replace(found, reasons=sorted({*found.reasons, "layout_unclear"}))
    return found


def _panels(screen: Screen, mode: str, regions: Sequence[Region]) -> list[_Panel]:
    """The panels that hold a sector, from left to right."""
    masks = list(screen.layout.sectors)
    boxes = header_boxes(regions)
    if mode in MODES_WITH_TRACE and screen.layout.trace is None:
        masks = [_without(mask, trace_boxes(regions), screen.frame) for mask in masks]
    if mode == "dual" and len(masks) == 1 and len(boxes) == 2:
        masks = _split(masks[0], boxes[1][0] / screen.frame.size[1])
    masks.sort(key=lambda mask: int(mask.any(axis=0).argmax()))
    return [_Panel(mask, _others(screen, [other for other in masks if other is not mask])) for mask in masks]


def _without(mask: Mask, boxes: Sequence[Box], frame: ReducedFrame) -> Mask:
    """The mask outside boxes of the frame in px."""
    rest = mask.copy()
    step_y, step_x = frame.size[0] / mask.shape[0], frame.size[1] / mask.shape[1]
    for x, y, width, height in boxes:
        rest[int(y / step_y) : math.ceil((y + height) / step_y), int(x / step_x) : math.ceil((x + width) / step_x)] = (
            False
        )
    return rest


def _split(mask: Mask, share: float) -> list[Mask]:
    """The mask left and right of a share of its width."""
    at = round(share * mask.shape[1])
    left, right = mask.copy(), mask.copy()
    left[:, at:], right[:, :at] = False, False
    return [half for half in (left, right) if half.any()]


def _others(screen: Screen, masks: Sequence[Mask]) -> Mask | None:
    """Where other panels and the trace are; None if the panel is alone."""
    if not masks and screen.layout.trace is None:
        return None
    others = np.zeros(screen.frame.solid.shape, np.uint8)
    for mask in masks:
        others[mask] = 1
    if screen.layout.trace is not None:
        x, y, width, height = screen.layout.trace
        others[y : y + height, x : x + width] = 1
    return np.asarray(cv2.dilate(others, np.ones((_BESIDE_OTHERS, _BESIDE_OTHERS), np.uint8)) > 0)


def _judged(frame: ReducedFrame, mode: str, panels: Sequence[_Panel], regions: Sequence[Region]) -> SectorFinding:
    """The fits of all panels, with the reasons against them."""
    reasons: set[str] = set()
    sectors: list[Sector] = []
    for panel in panels:
        fit, against = _best_fit(frame, panel, regions)
        if fit is None:
            continue
        sectors.append(fit.sector)
        reasons.update(against)
    if not sectors:
        return SectorFinding([], 0.0, ["no_ultrasound"])
    if len(sectors) != (2 if mode == "dual" else 1):
        reasons.add("sector_missing")
    if disagrees(regions, sectors):
        reasons.add("sector_disagrees_with_header")
    return SectorFinding(sectors, min(sector.confidence for sector in sectors), sorted(reasons))


def _best_fit(frame: ReducedFrame, panel: _Panel, regions: Sequence[Region]) -> tuple[FittedSector | None, list[str]]:
    """The fit with the fewest reasons against it, and these.

    First to lit texture; if that leaves doubts, to everything that is not background at all, and within the header's
    regions. The header vouches for edges that cannot be seen where it agrees with the fit.
    """
    found: list[tuple[tuple[int, float], FittedSector, list[str]]] = []
    for fit, independent in _fits(frame, panel, regions):
        known = vouches(regions, fit.sector)
        reasons = doubts(frame, fit, panel.others, vouched=known and independent)
        if leaves_header(regions, fit.sector):
            reasons.append("sector_disagrees_with_header")
        found.append(((len(reasons), -fit.quality), fit, reasons))
        if not reasons and (known or not regions):
            break
    if not found:
        return None, []
    _, fit, reasons = min(found, key=lambda one: one[0])
    return fit, reasons


def _fits(frame: ReducedFrame, panel: _Panel, regions: Sequence[Region]) -> Iterator[tuple[FittedSector, bool]]:
    """Fits, each with whether it knows nothing of the header: only then can the header vouch for it."""
    lit = search_sector(frame, panel.mask, frame.background + LIT_ABOVE)
    if lit is None:
        return
    yield lit, True
    faint = search_sector(frame, _faint(frame, panel), frame.background)
    if faint is not None:
        yield faint, True
    for box in header_boxes(regions):
        if holds(box, panel.mask, frame.size):
            for fit in fits_in_box(frame, panel.mask, frame.background + LIT_ABOVE, lit, box):
                yield fit, False


def _faint(frame: ReducedFrame, panel: _Panel) -> Mask:
    """Everything brighter than the background that is connected with the panel's texture."""
    everything = frame.faint | panel.mask
    if panel.others is not None:
        everything &= ~panel.others
    _, labels = cv2.connectedComponents(everything.astype(np.uint8), connectivity=4)
    lit = np.bincount(labels[panel.mask], minlength=int(labels.max()) + 1)
    lit[0] = 0
    return np.asarray(lit[labels] > 0)


def _of_cine(frame: ReducedFrame, panels: Sequence[_Panel], cine: SectorFinding) -> SectorFinding:
    """The sectors of the cine's maximum; this frame's pixels must not contradict them."""
    reasons = set(cine.reasons)
    if not panels:
        reasons.add("no_ultrasound")
    elif len(panels) != len(cine.sectors):
        reasons.add("sector_disagrees_with_cine")
    else:
        for sector, panel in zip(cine.sectors, panels, strict=True):
            fit = confirm_sector(frame, panel.mask, frame.background + LIT_ABOVE, sector)
            if contradictions(frame, fit, panel.others) or _is_shallower(frame, panel, fit):
                reasons.add("sector_disagrees_with_cine")
    return replace(cine, reasons=sorted(reasons))


def _is_shallower(frame: ReducedFrame, panel: _Panel, of_cine: FittedSector) -> bool:
    """Whether a frame that does not show the far end of its cine's sector has another one, of less depth.

    Most of these frames are only dark there: what is left of the sector fades, and has no far end of its own.
    """
    deep = lowest_place(of_cine) - _SHALLOWER * of_cine.sector.box[3]
    lowest_texture = (np.flatnonzero(panel.mask.any(axis=1))[-1] + 1) * frame.size[0] / panel.mask.shape[0]
    if shows_far_end(of_cine) or lowest_texture > deep:
        return False
    own = search_sector(frame, panel.mask, frame.background + LIT_ABOVE)
    if own is None or lowest_place(own) > deep:
        return False
    return shows_far_end(own) or not doubts(frame, own, panel.others)

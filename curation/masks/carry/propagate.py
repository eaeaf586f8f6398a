"""Carries masks of some frames of a cine to the others, for as long as the flow can be trusted."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass

from sono.curation.cleaning.sectors.geometry import iou
from sono.curation.images.pixels import Pixels
from sono.manifests.masks import Mask, area_px

from .flow import SMALLEST_PX, follow

MIN_CONFIDENCE = 0.8
"""Chosen on phantom cines of seeds below 100: nine in ten masks carried across a cut have less than 0.62, nineteen in
twenty of the others more than 0.91."""

MIN_LIKENESS = 0.6
"""Chosen on the same cines: across a cut, nine in ten have less than 0.53; of the others, nineteen in twenty have more
than 0.83."""

MAX_LEFT = 0.1
"""Of the mask's area, that may be carried out of the sectors."""

AREA_RATIOS = (0.5, 2.0)
"""Of a carried mask to the one it comes from. In a cine the probe may turn, but an organ does not halve."""

MESSAGES: Mapping[str, str] = {
    "flow_inconsistent": "from here on, the mask carried there and back does not return to itself",
    "looks_different": "from here on, the frames look too different from the one with the accepted mask",
    "left_sector": "from here on, part of the mask is carried out of the ultrasound",
    "area_changed": "from here on, the mask is carried to less than half or more than twice its area",
    "frame_differs": "from here on, the frames have another size or crop, or cannot be decoded",
    "frame_too_small": f"frames of less than {SMALLEST_PX} px are not carried to",
}
"""Why masks are not carried further, by reason."""


@dataclass(frozen=True, eq=False)
class Anchor:
    """A mask that a person accepted; ``position`` is that of its frame in the cine."""

    region_id: str
    structure: str
    position: int
    mask: Mask


@dataclass(frozen=True, eq=False)
class Carried:
    """A mask carried to the frame at ``position``.

    Attributes:
        steps: frames between, 1 for a neighbour.
        confidence: from 0 to 1: the intersection over union of the anchor's mask with itself, carried there and back.
            It applies to masks what Kalal et al., Forward-Backward Error (ICPR 2010), apply to points.
        likeness: from -1 to 1: of grey levels, as ``Flow.likeness``.
        area_ratio: its area by that of the anchor's mask.
    """

    anchor: Anchor
    position: int
    mask: Mask
    steps: int
    confidence: float
    likeness: float
    area_ratio: float


@dataclass(frozen=True)
class Stop:
    """A structure is not carried to the frame at ``position`` and beyond; ``reason`` is a key of ``MESSAGES``."""

    structure: str
    position: int
    reason: str


@dataclass(frozen=True, eq=False)
class Cine:
    """Frames in order.

    Attributes:
        image: of the frame at a position; None if it cannot be had in the size and crop of ``shown``.
        shown: where the frames show ultrasound, [height, width].
    """

    length: int
    image: Callable[[int], Pixels | None]
    shown: Mask


def carry(cine: Cine, anchors: Sequence[Anchor], settled: Set[tuple[int, str]]) -> tuple[list[Carried], list[Stop]]:
    """The masks of the frames that have none: of several that could be carried to a frame, the most confident.

    Args:
        anchors: at most one for each position and structure.
        settled: positions and structures that nothing is carried to, those of the anchors among them.

    Returns:
        The masks, and the stops beyond which no other anchor's mask was carried.
    """
    best: dict[tuple[int, str], Carried] = {}
    stops: list[Stop] = []
    for position in sorted({anchor.position for anchor in anchors}):
        here = [anchor for anchor in anchors if anchor.position == position]
        for direction in (1, -1):
            for found in _walk(cine, here, direction, _ends(cine, here, anchors, direction), settled):
                if isinstance(found, Stop):
                    stops.append(found)
                    continue
                key = found.position, found.anchor.structure
                if key not in settled and (key not in best or best[key].confidence < found.confidence):
                    best[key] = found
    unreached = {
        (stop.position, stop.structure): stop for stop in stops
        if (stop.position, stop.structure) not in best.keys() | settled
    }  # fmt: skip
    return [best[key] for key in sorted(best)], [unreached[key] for key in sorted(unreached)]


def _ends(cine: Cine, here: Sequence[Anchor], anchors: Sequence[Anchor], direction: int) -> dict[str, int]:
    """For each structure the position before which to stop: where another mask of it is nearer, or the cine ends."""
    ends: dict[str, int] = {}
    for anchor in here:
        others = [
            other.position for other in anchors
            if other.structure == anchor.structure and (other.position - anchor.position) * direction > 0
        ]  # fmt: skip
        ends[anchor.structure] = min(
            others, key=lambda at: abs(at - anchor.position), default=(-1, 0, cine.length)[direction + 1]
        )
    return ends


def _walk(
    cine: Cine, here: Sequence[Anchor], direction: int, ends: Mapping[str, int], settled: Set[tuple[int, str]]
) -> Iterator[Carried | Stop]:
    """What becomes of the masks of one frame on the way to one end of the cine."""
    start = here[0].position
    going = [
        anchor for anchor in here
        if any((position, anchor.structure) not in settled
               for position in range(start + direction, ends[anchor.structure], direction))
    ]  # fmt: skip
    if not going:
        return
    unusable = (
        "frame_too_small" if min(cine.shown.shape) < SMALLEST_PX
        else "frame_differs" if cine.image(start) is None else None
    )  # fmt: skip
    if unusable:
        yield from (Stop(anchor.structure, start + direction, unusable) for anchor in going)
        return
    last = {anchor.structure: ends[anchor.structure] - direction for anchor in going}
    reached = start
    for flow in follow(_images(cine, start, direction)):
        reached += direction
        for anchor in tuple(going):
            mask = flow.carried(anchor.mask) & cine.shown
            returned = flow.returned(mask)
            found = Carried(
                anchor, reached, mask, abs(reached - start), iou(returned, anchor.mask), flow.likeness(mask),
                area_px(mask) / (area_px(anchor.mask) or 1),
            )  # fmt: skip
            reason = _fault(found, flow.left(anchor.mask, cine.shown))
            yield found if reason is None else Stop(anchor.structure, reached, reason)
            if reason is not None or reached == last[anchor.structure]:
                going.remove(anchor)
        if not going:
            return
    yield from (Stop(anchor.structure, reached + direction, "frame_differs") for anchor in going)


def _images(cine: Cine, start: int, direction: int) -> Iterator[Pixels]:
    position = start
    while 0 <= position < cine.length and (image := cine.image(position)) is not None:
        yield image
        position += direction


def _fault(found: Carried, outside: float) -> str | None:
    """Why a mask is not to be trusted; ``outside`` is the share of the anchor's mask that left the ultrasound."""
    if outside > MAX_LEFT:
        return "left_sector"
    if not AREA_RATIOS[0] <= found.area_ratio <= AREA_RATIOS[1]:
        return "area_changed"
    if found.confidence < MIN_CONFIDENCE:
        return "flow_inconsistent"
    return None if found.likeness >= MIN_LIKENESS else "looks_different"

"""The prompts for a structure that nobody has pointed at: from the neighbouring frame, or from where it is expected."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sono.curation.masks.backends.protocol import Box, Prompts
from sono.manifests import masks
from sono.manifests.masks import Mask

_GROWN = 0.08  # of a box's sides, on every side: the second opinion about the same place
_GROWN_PER_FRAME = 0.02  # from one frame of a cine to the next the structure may move by this
_GROWN_MOST = 0.12


@dataclass(frozen=True, eq=False)
class Asked:
    """Several prompts for one structure, which should lead to one mask.

    Attributes:
        origin: neighbour, learned, default, or name: the backend is asked by the structure's name alone.
        record: where the prompts come from, as the column ``prompt`` keeps it, without the box.
    """

    origin: str
    prompts: Sequence[Prompts]
    record: Mapping[str, object]


def ask_by_name(structure: str) -> Asked:
    """All that a backend needs which has learned what the structure looks like."""
    return Asked("name", [Prompts(structure)], {})


def ask_for(request: Mapping[str, Any], field: Box, size: tuple[int, int], neighbour: Mask | None) -> Asked | None:
    """The prompts that say where a structure of a frame may be; None if nobody knows.

    Args:
        request: a member of the column ``requests`` of ``propose.plan.INPUT``.
        field: of the frame: the box of its largest sector.
        size: height and width of the frame in px.
        neighbour: the accepted mask in the nearest frame of the cine; None if there is none, or if it has another size.
    """
    structure = request["structure"]
    if neighbour is not None and neighbour.any():
        box = masks.bbox(neighbour)
        moved = _grown(box, min(_GROWN_PER_FRAME * request["distance"], _GROWN_MOST), size)
        prompts = [Prompts(structure, moved, mask=neighbour), Prompts(structure, _grown(moved, _GROWN, size))]
        return Asked("neighbour", prompts, {"region_id": request["region_id"], "frames_away": request["distance"]})
    if request["typical"] is None:
        return None
    typical = _within(request["typical"], field, size)
    other = _within(request["wide"], field, size) if request["wide"] is not None else None
    if other is None or other == typical:
        other = _grown(typical, _GROWN, size)
    return Asked(request["origin"], [Prompts(structure, typical), Prompts(structure, other)], {})


def _within(shares: Sequence[float], field: Box, size: tuple[int, int]) -> Box:
    """A box given as left, top, right, bottom in shares of the field, in px of the frame."""
    x, y, width, height = field
    left, top, right, bottom = shares
    return _clipped((x + left * width, y + top * height, (right - left) * width, (bottom - top) * height), size)


def _grown(box: Box, share: float, size: tuple[int, int]) -> Box:
    x, y, width, height = box
    across, down = share * width, share * height
    return _clipped((x - across, y - down, width + 2 * across, height + 2 * down), size)


def _clipped(box: Box, size: tuple[int, int]) -> Box:
    """The box in whole pixels within the frame, at least one pixel large."""
    left, top = (min(max(round(start), 0), side - 1) for start, side in zip(box[:2], size[::-1], strict=True))
    right, bottom = (
        min(max(round(box[0] + box[2]), left + 1), size[1]),
        min(max(round(box[1] + box[3]), top + 1), size[0]),
    )
    return left, top, right - left, bottom - top

"""What the checks have to know about the masks of one frame: specks, holes, overlaps, and how far masks agree."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import cv2
import numpy as np
from pycocotools import mask as coco

from sono.curation.cleaning.sectors.geometry import Sector, sector_mask
from sono.manifests import masks

from .containment import may_overlap

SPECK_SHARE = 0.02
"""Of the largest part's area, below which another part is a speck."""

UNDECODABLE = "undecodable"

Region = Mapping[str, Any]


@dataclass
class Measures:
    """A row of ``mask_checks``, less the key: areas in px; None where it could not be measured."""

    problem: str | None = None
    specks: int | None = None
    speck_px: int | None = None
    holes: int | None = None
    hole_px: int | None = None
    outside_px: int | None = None
    overlaps: list[dict[str, object]] = field(default_factory=list)
    agreement: list[dict[str, object]] = field(default_factory=list)


def measure(
    regions: Sequence[Region],
    height: int,
    width: int,
    sectors: Sequence[Sector],
    *,
    wanted: Collection[str] | None = None,
) -> list[dict[str, object]]:
    """The rows of ``mask_checks`` for the masks of one frame of height x width px, in their order.

    Masks of another size than the frame's are not compared with anything.

    Args:
        regions: with ``region_id``, ``structure`` and ``mask``.
        sectors: where the frame shows ultrasound; empty if that is not known.
        wanted: the ids of those to measure; all, if omitted. Of the others only what they have in common with these.
    """
    is_wanted = [wanted is None or region["region_id"] in wanted for region in regions]
    measured = [
        _shape(region["mask"]) if chosen else Measures(problem=_problem(region["mask"]))
        for region, chosen in zip(regions, is_wanted, strict=True)
    ]
    codes = [
        _code(region["mask"]) if each.problem is None and list(region["mask"]["size"]) == [height, width] else None
        for region, each in zip(regions, measured, strict=True)
    ]
    shown = _code(masks.encode(sector_mask(sectors, height, width))) if sectors else None
    for each, code, chosen in zip(measured, codes, is_wanted, strict=True):
        if code is not None and shown is not None and chosen:
            each.outside_px = int(coco.area(code)) - _shared_px(code, shown)
    for index, code in enumerate(codes):
        for other in range(index):
            if code is not None and codes[other] is not None and (is_wanted[index] or is_wanted[other]):
                _compare(regions[index], measured[index], code, regions[other], measured[other], codes[other])
    return [{"region_id": region["region_id"], **asdict(each)} for region, each in zip(regions, measured, strict=True)]


def _shape(rle: masks.Rle) -> Measures:
    """Specks and holes, counted within the mask's box."""
    try:
        mask = masks.decode(rle)
    except (ValueError, KeyError, TypeError, MemoryError):
        return Measures(problem=UNDECODABLE)
    x, y, width, height = masks.bbox(mask)
    within = np.pad(mask[y : y + height, x : x + width].astype(np.uint8), 1)
    _, _, parts, _ = cv2.connectedComponentsWithStats(within, connectivity=8)
    areas = parts[1:, cv2.CC_STAT_AREA]
    specks = areas[areas < SPECK_SHARE * areas.max()] if areas.size else areas
    # The padding joins all that surrounds the mask. What touches it at a corner only is a hole: the mask encloses it.
    _, labels, gaps, _ = cv2.connectedComponentsWithStats(1 - within, connectivity=4)
    holes = np.delete(gaps[:, cv2.CC_STAT_AREA], [0, labels[0, 0]])
    return Measures(specks=len(specks), speck_px=int(specks.sum()), holes=len(holes), hole_px=int(holes.sum()))


def _problem(rle: masks.Rle) -> str | None:
    """What ``_shape`` finds wrong with a mask, without decoding it."""
    try:
        masks.runs_of(rle)
    except (ValueError, KeyError, TypeError):
        return UNDECODABLE
    return None


def _code(rle: masks.Rle) -> dict[str, Any]:
    return {"size": list(rle["size"]), "counts": rle["counts"].encode("ascii")}


def _shared_px(one: Mapping[str, Any], other: Mapping[str, Any]) -> int:
    return int(coco.area(coco.merge([one, other], intersect=True)))


def _compare(
    one: Region, of_one: Measures, code: Mapping[str, Any],
    other: Region, of_other: Measures, other_code: Mapping[str, Any] | None,
) -> None:  # fmt: skip
    """Note in both what two masks have in common: of the same structure how far they agree, else what they share."""
    assert other_code is not None
    shared = _shared_px(code, other_code)
    areas = int(coco.area(code)), int(coco.area(other_code))
    if one["structure"] == other["structure"]:
        union = sum(areas) - shared
        of_one.agreement.append({"region_id": other["region_id"], "iou": shared / union if union else 1.0})
    elif shared and not may_overlap(one["structure"], other["structure"]):
        for mine, theirs in ((of_one, other), (of_other, one)):
            mine.overlaps.append(
                {"region_id": theirs["region_id"], "structure": theirs["structure"], "share": shared / min(areas)}
            )

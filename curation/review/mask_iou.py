"""How far two masks agree, as they are stored."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pycocotools import mask as coco

from sono.manifests import masks


def mask_iou(one: Mapping[str, Any], other: Mapping[str, Any]) -> float:
    """IoU of two encoded masks: 1 if both are empty, 0 if they are of different sizes.

    Raises:
        ValueError: one of them is damaged.
    """
    for rle in (one, other):
        masks.runs_of(masks.Rle(size=list(rle["size"]), counts=rle["counts"]))
    if list(one["size"]) != list(other["size"]):
        return 0.0
    codes = [{"size": list(rle["size"]), "counts": rle["counts"].encode("ascii")} for rle in (one, other)]
    union = int(coco.area(coco.merge(codes)))
    return int(coco.area(coco.merge(codes, intersect=True))) / union if union else 1.0

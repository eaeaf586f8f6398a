"""The row of ``regions`` that one mask file gives."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sono.curation.masks.formats.registry import reader
from sono.manifests import masks
from sono.manifests.pseudonyms import Pseudonymizer

from .reasons import excluded


def region_row(file: Mapping[str, Any], keys: Pseudonymizer, *, mask_format: str, source: str) -> dict[str, object]:
    """The mask of a file, on the frame it belongs to.

    Args:
        file: an input row; its columns are those of ``targets.INPUT``.
        mask_format: one of ``formats.registry.FORMATS``.
        source: who made the mask, as the column ``source`` has it.

    Raises:
        ExcludedError: the mask cannot be used.
    """
    if file["problem"]:
        raise excluded(file["problem"])
    frame = json.loads(file["frame"])
    mask = _on_frame(Path(os.fsdecode(file["path"])), frame, mask_format=mask_format)
    return {
        "region_id": keys.region(frame["frame_id"], file["structure"], source),
        "frame_id": frame["frame_id"],
        "pixel_digest": frame["pixel_digest"],
        "structure": file["structure"],
        "mask": masks.encode(mask),
        "area_px": masks.area_px(mask),
        "bbox": list(masks.bbox(mask)),
        "source": source,
        "status": "accepted",
    }


def _on_frame(path: Path, frame: Mapping[str, Any], *, mask_format: str) -> masks.Mask:
    """The mask in the frame's size; it may be drawn on the frame, or on the image that the frame was cropped from."""
    mask = reader(mask_format)(path)
    frame_size = frame["height"], frame["width"]
    if mask.shape not in ((frame["source_height"], frame["source_width"]), frame_size):
        raise excluded("size_mismatch")
    if not mask.any():
        raise excluded("empty_mask")
    if mask.shape != frame_size:
        x, y, width, height = frame["crop"]
        mask = mask[y : y + height, x : x + width]
        if not mask.any():
            raise excluded("outside_crop")
    return mask

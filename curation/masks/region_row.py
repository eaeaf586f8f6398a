"""The row of ``regions`` that one planned mask gives."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from sono.manifests import masks
from sono.manifests.pseudonyms import Pseudonymizer

from .formats.protocol import ReadMask, Size
from .reasons import excluded


def region_row(
    planned: Mapping[str, Any], read: ReadMask, keys: Pseudonymizer, *, source: str
) -> dict[str, object] | None:
    """A mask on the frame it belongs to; None if it is a value that a label map does not have.

    Args:
        planned: an input row; its columns are those of ``plan.INPUT``.
        read: reads the file of the mask.
        source: who made the mask, as the column ``source`` has it.

    Raises:
        ExcludedError: the mask cannot be used.
    """
    frame = planned["frame"]
    if planned["problem"] and not planned["may_be_absent"]:
        raise excluded(planned["problem"])
    drawn = _union(planned, read)
    if planned["may_be_absent"] and not drawn.any():
        return None
    if planned["problem"]:
        raise excluded(planned["problem"])
    mask = _on_frame(drawn, frame)
    return {
        "region_id": keys.region(frame["frame_id"], planned["structure"], source),
        "frame_id": frame["frame_id"],
        "pixel_digest": frame["pixel_digest"],
        "structure": planned["structure"],
        "mask": masks.encode(mask),
        "area_px": masks.area_px(mask),
        "bbox": list(masks.bbox(mask)),
        "source": source,
        "status": "accepted",
    }


def _union(planned: Mapping[str, Any], read: ReadMask) -> masks.Mask:
    """The mask that a file's shapes make up together."""
    first, *others = (read(place, _drawn_size(planned)) for place in planned["places"])
    for other in others:
        if other.shape != first.shape:
            raise excluded("size_mismatch")
        first = np.asarray(first | other, dtype=np.bool_)
    return first


def _drawn_size(planned: Mapping[str, Any]) -> Size:
    """The size of the image that a mask was drawn on, where its file does not say: see ``plan.INPUT``."""
    frame = planned["frame"]
    if frame is None:
        return 1, 1
    if planned["by_frame_id"]:
        return frame["height"], frame["width"]
    return frame["source_height"], frame["source_width"]


def _on_frame(mask: masks.Mask, frame: Mapping[str, Any]) -> masks.Mask:
    """The mask in the frame's size; it may be drawn on the frame, or on the image that the frame was cropped from."""
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

"""One row of a dataset from a frame of the workspace: scaled, encoded, coarsened, and with the dataset's own keys."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from sono.curation.dataset.disclosure import Disclosure
from sono.manifests import masks
from sono.manifests.dataset_keys import DatasetKeys, Kind

from .images import ImageFormat

_KEYS: Mapping[Kind, str] = {"frame": "frame_id", "patient": "patient_key", "study": "study_key"}


@dataclass(frozen=True)
class RowOptions:
    """``max_side_px``: frames with a longer side are scaled down to it."""

    keys: DatasetKeys
    disclosure: Disclosure
    image_format: ImageFormat
    max_side_px: int | None

    def scale(self, height: int, width: int) -> float:
        """By which a frame is scaled, at most 1."""
        return min(1.0, self.max_side_px / max(height, width)) if self.max_side_px else 1.0

    def as_json(self) -> dict[str, object]:
        """Everything that decides what becomes of a frame, without secrets."""
        return {
            "keys": self.keys.id,
            "disclosure": self.disclosure.as_json(),
            "image_format": [self.image_format.name, self.image_format.quality],
            "max_side_px": self.max_side_px,
        }


def dataset_row(frame: dict[str, Any], options: RowOptions) -> dict[str, Any]:
    """A frame of ``joined_rows`` as the dataset has it, with its ``width`` and ``height``.

    Regions have their masks as ``pixels``, too. Those of which scaling leaves no pixel are kept, with an area of 0.

    Raises:
        UserError: a mask has another size than its image.
    """
    height, width = frame["height"], frame["width"]
    x_mm, y_mm = frame.pop("pixel_mm_x"), frame.pop("pixel_mm_y")
    frame["pixel_mm"] = [x_mm, y_mm] if x_mm and y_mm else None
    for region in frame["regions"]:
        region["pixels"] = masks.decode(region["mask"], (height, width))
    scale = options.scale(height, width)
    if scale < 1:
        _scale(frame, scale, options.image_format)
    else:
        frame["image"] = {"bytes": options.image_format.convert(frame["image"]["bytes"]), "path": None}
    for kind, column in _KEYS.items():
        frame[column] = options.keys.derive(kind, frame[column])
    for captioned in (frame, *frame["regions"]):
        captioned["caption_id"] = options.keys.derive("caption", captioned["caption_id"])
    options.disclosure.apply(frame, options.keys)
    return frame


def _scale(row: dict[str, Any], scale: float, image_format: ImageFormat) -> None:
    """Scale image, masks, boxes, sectors and pixel size in place."""
    import cv2

    from sono.curation.images.stored_png import decode_png

    height, width = row["height"], row["width"]
    size = max(1, round(width * scale)), max(1, round(height * scale))
    ratio_x, ratio_y = size[0] / width, size[1] / height
    pixels = cv2.resize(decode_png(row["image"]["bytes"]), size, interpolation=cv2.INTER_AREA)
    row |= {"width": size[0], "height": size[1]}
    row["image"] = {"bytes": image_format.encode(np.asarray(pixels, dtype=np.uint8)), "path": None}
    for region in row["regions"]:
        shares = cv2.resize(region["pixels"].astype(np.float32), size, interpolation=cv2.INTER_AREA)
        mask = np.asarray(shares >= 0.5, dtype=np.bool_)
        region["pixels"] = mask
        region |= {"mask": masks.encode(mask), "area_px": masks.area_px(mask), "bbox": list(masks.bbox(mask))}
    if row["pixel_mm"]:
        row["pixel_mm"] = [row["pixel_mm"][0] / ratio_x, row["pixel_mm"][1] / ratio_y]
    row["sectors"] = [_scaled_sector(sector, ratio_x, ratio_y, scale) for sector in row["sectors"] or ()]


def _scaled_sector(sector: Mapping[str, Any], ratio_x: float, ratio_y: float, scale: float) -> dict[str, Any]:
    x, y, width, height = sector["box"]
    box = [round(value) for value in (x * ratio_x, y * ratio_y, width * ratio_x, height * ratio_y)]
    scaled = {**sector, "box": box}
    if sector["apex"]:
        scaled["apex"] = [sector["apex"][0] * ratio_x, sector["apex"][1] * ratio_y]
    if sector["radii"]:
        scaled["radii"] = [radius * scale for radius in sector["radii"]]
    return scaled

"""One row of a dataset from a frame of the workspace: scaled, encoded, coarsened, and with the dataset's own keys."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

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


class Image(NamedTuple):
    """One of a few images that lie together in Arrow's memory; ``size`` is in bytes."""

    images: pa.Array
    number: int
    size: int


def dataset_images(
    frames: Sequence[Mapping[str, Any]], images: pa.Array, numbers: Sequence[int], options: RowOptions
) -> list[Image]:
    """The images of ``JoinedFrames`` as the dataset has them: scaled, and in its format.

    PNGs that stay as they are stay where they are.
    """
    sizes = [_size(frame, options) for frame in frames]
    if options.image_format.name != "png" or any(sizes):
        stored = zip(images.take(pa.array(numbers)).to_pylist(), sizes, strict=True)
        images = pa.array([_image(png, size, options.image_format) for png, size in stored], pa.binary())
        numbers = range(len(images))
    lengths = pc.binary_length(images).to_pylist()
    return [Image(images, number, lengths[number]) for number in numbers]


def dataset_rows(frames: Sequence[dict[str, Any]], options: RowOptions) -> Iterator[dict[str, Any]]:
    """Frames of ``joined_frames`` as the dataset has them, with their ``width`` and ``height``, without their images.

    Regions have their masks as ``pixels``, too. Those of which scaling leaves no pixel are kept, with an area of 0.

    Raises:
        UserError: a mask has another size than its image.
    """
    regions = [region for frame in frames for region in frame["regions"]]
    for region, runs in zip(regions, masks.runs_of_all([region["mask"] for region in regions]), strict=True):
        region["runs"] = runs
    derive = functools.cache(options.keys.derive)  # frames of one study come together
    for frame in frames:
        yield _dataset_row(frame, options, derive)


def _dataset_row(frame: dict[str, Any], options: RowOptions, derive: Callable[[Kind, str], str]) -> dict[str, Any]:
    x_mm, y_mm = frame.pop("pixel_mm_x"), frame.pop("pixel_mm_y")
    frame["pixel_mm"] = [x_mm, y_mm] if x_mm and y_mm else None
    for region in frame["regions"]:
        masks.check_size(region["mask"], (frame["height"], frame["width"]))
        region["pixels"] = masks.drawn(region.pop("runs"), region["mask"]["size"])
    size = _size(frame, options)
    if size:
        _scale(frame, size, options.scale(frame["height"], frame["width"]))
    for kind, column in _KEYS.items():
        frame[column] = derive(kind, frame[column])
    for captioned in (frame, *frame["regions"]):
        captioned["caption_id"] = derive("caption", captioned["caption_id"])
    options.disclosure.apply(frame, options.keys)
    return frame


def _size(frame: Mapping[str, Any], options: RowOptions) -> tuple[int, int] | None:
    """The width and height that a frame is scaled to; None if it is not."""
    scale = options.scale(frame["height"], frame["width"])
    return (max(1, round(frame["width"] * scale)), max(1, round(frame["height"] * scale))) if scale < 1 else None


def _image(png: bytes, size: tuple[int, int] | None, image_format: ImageFormat) -> bytes:
    if size is None:
        return image_format.convert(png)
    import cv2

    from sono.curation.images.stored_png import decode_png

    pixels = cv2.resize(decode_png(png), size, interpolation=cv2.INTER_AREA)
    return image_format.encode(np.asarray(pixels, dtype=np.uint8))


def _scale(row: dict[str, Any], size: tuple[int, int], scale: float) -> None:
    """Scale masks, boxes, sectors and pixel size in place."""
    import cv2

    ratio_x, ratio_y = size[0] / row["width"], size[1] / row["height"]
    row |= {"width": size[0], "height": size[1]}
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

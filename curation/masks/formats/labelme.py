"""LabelMe JSON (https://github.com/wkentaro/labelme), one file per image: all of its shapes with an area."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from sono.curation.images import raster
from sono.curation.images.bounds import check_size
from sono.curation.images.pixels import ExcludedError
from sono.curation.masks.reasons import excluded
from sono.manifests.masks import Mask
from sono.manifests.vocabulary import Vocabulary

from .encodings import polygons, shapes
from .protocol import ExportedFrame, Found, ReadMask, Size, Writer

_VERSION = "5.5.0"  # of the layout that is written
_PIXELS = "pixels:"  # the place of a shape that is drawn with the brush


@dataclass(frozen=True)
class LabelMe:
    """``NAME.json``. Several shapes of one label are parts of one mask."""

    structures_from_folders = False
    with_images = False

    def is_beside(self, relative: str) -> bool:
        return not relative.casefold().endswith(".json")  # the images, which lie beside their files

    def find(self, path: Path) -> Iterator[Found]:
        content = shapes.read_json(path)
        if not isinstance(content, dict) or not isinstance(content.get("shapes"), list):
            raise excluded("not_this_format")
        size = shapes.size_of(content.get("imageHeight"), content.get("imageWidth"))
        for number, shape in enumerate(content["shapes"]):
            yield _found(shape, number, size)

    def reader(self, path: Path) -> ReadMask:
        content = cache(partial(shapes.read_json, path))  # polygons do not need it

        def read(place: str, size: Size) -> Mask:
            if place.startswith(_PIXELS):
                return _pixels(content(), int(place.removeprefix(_PIXELS)))
            return shapes.draw(place, size)

        return read

    def writer(self, folder: Path, vocabulary: Vocabulary, structures: Sequence[str]) -> Writer:
        return _Writer(folder)


def _found(shape: Any, number: int, size: Size | None) -> Found:
    if not isinstance(shape, dict) or not isinstance(shape.get("label"), str):
        return Found(labels=("",), problem="malformed_mask")
    label = (shape["label"],)
    try:
        return Found(labels=label, place=_place(shape, number, size))
    except ExcludedError as error:
        return Found(labels=label, problem=error.reason)


def _place(shape: dict[str, Any], number: int, size: Size | None) -> str:
    kind, points = shape.get("shape_type", "polygon"), shape.get("points")
    if kind == "polygon":
        return shapes.polygon_place(points, size)
    if kind == "mask":
        if size is None:
            raise excluded("malformed_mask")
        return f"{_PIXELS}{number}"
    if kind not in ("rectangle", "circle"):
        raise excluded("not_an_area")
    try:
        (x0, y0), (x1, y1) = np.asarray(points, dtype=float).tolist()
    except (TypeError, ValueError):
        raise excluded("malformed_mask") from None
    if kind == "rectangle":
        return shapes.rectangle_place(min(x0, x1), min(y0, y1), abs(x1 - x0), abs(y1 - y0), size)
    radius = float(np.hypot(x1 - x0, y1 - y0))  # the second point lies on the circle
    return shapes.ellipse_place((x0, y0), (radius, radius), 0, size)


def _pixels(content: dict[str, Any], number: int) -> Mask:
    """A shape of type ``mask``: a PNG in base64, and the box whose upper left corner it begins at."""
    shape = content["shapes"][number]
    try:
        height, width = int(content["imageHeight"]), int(content["imageWidth"])
        left, top = (int(value) for value in shape["points"][0])
        png = base64.b64decode(shape["mask"], validate=True)
    except (KeyError, TypeError, ValueError, IndexError, OverflowError, binascii.Error):
        raise excluded("malformed_mask") from None
    drawn = next(raster.read_frames(png, "png"))
    drawn = drawn if drawn.ndim == 2 else drawn.max(axis=2)
    check_size(height, width)
    bottom, right = top + drawn.shape[0], left + drawn.shape[1]
    if left < 0 or top < 0 or bottom > height or right > width:
        raise excluded("size_mismatch")
    mask = np.zeros((height, width), dtype=np.bool_)
    mask[top:bottom, left:right] = drawn != 0
    return mask


@dataclass(frozen=True)
class _Writer:
    folder: Path

    def add(self, frame: ExportedFrame) -> Sequence[Mask]:
        traced = [polygons.trace(region.mask) for region in frame.regions]
        content: dict[str, Any] = {
            "version": _VERSION,
            "flags": {},
            "shapes": [
                {
                    "label": region.structure,
                    "points": ring.tolist(),
                    "group_id": number,
                    "description": "",
                    "shape_type": "polygon",
                    "flags": {},
                    "mask": None,
                }
                for number, (region, rings) in enumerate(zip(frame.regions, traced, strict=True))
                for ring in rings
            ],
            "imagePath": f"{frame.frame_id}.png",
            "imageData": None,
            "imageHeight": frame.height,
            "imageWidth": frame.width,
        }
        (self.folder / f"{frame.frame_id}.json").write_text(json.dumps(content, indent=1), encoding="utf-8")
        return [seen_by_labelme(rings, region.mask.shape) for region, rings in zip(frame.regions, traced, strict=True)]

    def close(self) -> None:
        """Nothing is left to do."""


def seen_by_labelme(rings: Sequence[polygons.Ring], size: tuple[int, ...]) -> Mask:
    """What LabelMe's own ``shape_to_mask`` makes of polygons: Pillow also draws the pixels on the line."""
    image = Image.new("1", (size[1], size[0]))
    for ring in rings:
        ImageDraw.Draw(image).polygon([(x, y) for x, y in ring.tolist()], outline=1, fill=1)
    return np.asarray(image, dtype=np.bool_)

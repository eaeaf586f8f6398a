"""COCO object detection JSON (https://cocodataset.org/#format-data), with masks as run lengths or as polygons."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
from pycocotools import mask as pycocotools_mask

from sono.curation.images.bounds import check_size
from sono.curation.masks.reasons import excluded
from sono.manifests import masks
from sono.manifests.masks import Mask
from sono.manifests.vocabulary import Vocabulary

from .encodings import polygons
from .encodings.json_stream import item_at, read_items
from .encodings.rle import mask_of_coco
from .protocol import ExportedFrame, Found, ReadMask, Size, Writer

_FILE = "annotations.json"


@dataclass(frozen=True)
class Coco:
    """One JSON file for all frames. Several annotations of one category in an image are parts of one mask."""

    as_polygons: bool = False  # what an export has; an import takes both

    structures_from_folders = False
    with_images = False

    def is_beside(self, relative: str) -> bool:
        return False

    def find(self, path: Path) -> Iterator[Found]:
        images, names = _read_header(path)
        for item in read_items(path, ["annotations"]):
            if item.array == "annotations":
                yield _found(item.value, images, names, f"{item.offset}:{item.length}")

    def reader(self, path: Path) -> ReadMask:
        def read(place: str, size: Size) -> Mask:
            offset, length, height, width = (int(number) for number in place.split(":"))
            return segmentation_mask(item_at(path, offset, length)["segmentation"], (height, width))

        return read

    def writer(self, folder: Path, vocabulary: Vocabulary, structures: Sequence[str]) -> Writer:
        return _Writer(folder, structures, self.as_polygons)


def segmentation_mask(segmentation: object, size: Size) -> Mask:
    """A value of ``segmentation`` as pycocotools reads it: RLE, or the union of polygons.

    Raises:
        ExcludedError: it is malformed, or a polygon crosses itself.
    """
    if isinstance(segmentation, dict):
        return mask_of_coco(segmentation)
    if not isinstance(segmentation, list) or not segmentation:
        raise excluded("malformed_mask")
    rings = []
    for flat in segmentation:
        if not isinstance(flat, list) or len(flat) % 2:
            raise excluded("malformed_mask")
        ring = polygons.ring_of([flat[i : i + 2] for i in range(0, min(len(flat), 2 * polygons.VERTICES_MOST + 2), 2)])
        polygons.fill(ring, size)  # says whether it crosses itself
        rings.append(ring.ravel().tolist())
    return polygon_mask(rings, size)


def polygon_mask(rings: Sequence[Sequence[float]], size: Size) -> Mask:
    """The union of polygons x, y, x, y, ... by pycocotools' rule, which is not quite that of pixel centers."""
    height, width = size
    check_size(height, width)
    encoded = pycocotools_mask.merge(pycocotools_mask.frPyObjects(list(rings), height, width))
    return np.asarray(pycocotools_mask.decode(encoded), dtype=np.bool_)


def _read_header(path: Path) -> tuple[Mapping[Any, tuple[str, int, int]], Mapping[Any, str]]:
    """Name, height and width of images by id, and names of categories by id; they may follow the annotations.

    Raises:
        ExcludedError: there are none, they are malformed, or one id stands for two, as in files that were just joined.
    """
    images: dict[Any, tuple[str, int, int]] = {}
    names: dict[Any, str] = {}
    try:
        for item in read_items(path, ["images", "categories"]):
            if item.array == "images":
                value = item.value
                image = str(value["file_name"]), int(value["height"]), int(value["width"])
                if images.setdefault(value["id"], image) != image:
                    raise excluded("not_this_format")
            elif item.array == "categories":
                name = str(item.value["name"])
                if names.setdefault(item.value["id"], name) != name:
                    raise excluded("not_this_format")
    except (KeyError, TypeError, ValueError):
        raise excluded("not_this_format") from None
    if not images:
        raise excluded("not_this_format")
    return images, names


def _found(annotation: Any, images: Mapping[Any, tuple[str, int, int]], names: Mapping[Any, str], place: str) -> Found:
    if not isinstance(annotation, dict):
        return Found(image="", problem="malformed_mask")
    try:
        image, category = images.get(annotation.get("image_id")), names.get(annotation.get("category_id"))
    except TypeError:  # an id that is a list
        return Found(image="", problem="malformed_mask")
    if image is None:
        return Found(image="", problem="no_frame")
    name, height, width = image
    if category is None:
        return Found(image=name, labels=("",), problem="unknown_structure")
    problem = None
    if not annotation.get("segmentation"):
        problem = "not_an_area"  # a box alone
    return Found(image=name, labels=(category,), place=f"{place}:{height}:{width}", problem=problem)


@dataclass
class _Writer:
    """Annotations go straight to the file; the images, a line each, are kept until the end in a file of their own."""

    folder: Path
    structures: Sequence[str]
    as_polygons: bool
    _annotations: IO[str] = field(init=False)
    _images: IO[str] = field(init=False)
    _frames: int = 0
    _regions: int = 0

    def __post_init__(self) -> None:
        self._categories = {structure: number for number, structure in enumerate(self.structures, 1)}
        self._annotations = (self.folder / ".annotations").open("w", encoding="utf-8")
        self._images = (self.folder / _FILE).open("w", encoding="utf-8")
        categories = [{"id": number, "name": name, "supercategory": ""} for name, number in self._categories.items()]
        self._images.write(
            '{\n"info": {"description": "masks of sono-curate; file_name is the frame_id"},\n"licenses": [],\n'
            f'"categories": {json.dumps(categories)},\n"images": ['
        )

    def add(self, frame: ExportedFrame) -> Sequence[Mask]:
        self._frames += 1
        image = {"id": self._frames, "file_name": f"{frame.frame_id}.png", "height": frame.height, "width": frame.width}
        self._images.write(f"{',' if self._frames > 1 else ''}\n{json.dumps(image)}")
        return [self._add(region.structure, region.mask) for region in frame.regions]

    def _add(self, structure: str, mask: Mask) -> Mask:
        self._regions += 1
        segmentation: object = masks.encode(mask)
        seen = mask
        if self.as_polygons:
            rings = [ring.ravel().astype(int).tolist() for ring in polygons.trace(mask)]
            segmentation, seen = rings, polygon_mask(rings, mask.shape)
        annotation = {
            "id": self._regions,
            "image_id": self._frames,
            "category_id": self._categories[structure],
            "iscrowd": 0,  # 1 would also say run lengths, but evaluators and trainers leave crowds out
            "area": masks.area_px(mask),
            "bbox": list(masks.bbox(mask)),
            "segmentation": segmentation,
        }
        self._annotations.write(f"{',' if self._regions > 1 else ''}\n{json.dumps(annotation)}")
        return seen

    def close(self) -> None:
        self._annotations.close()
        self._images.write('\n],\n"annotations": [')
        with (self.folder / ".annotations").open(encoding="utf-8") as file:
            while chunk := file.read(2**20):
                self._images.write(chunk)
        self._images.write("\n]\n}\n")
        self._images.close()
        (self.folder / ".annotations").unlink()

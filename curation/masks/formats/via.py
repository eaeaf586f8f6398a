"""VGG Image Annotator 2 (https://www.robots.ox.ac.uk/~vgg/software/via/): regions of many images, in JSON or CSV."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from sono.curation.images.pixels import ExcludedError
from sono.curation.masks.reasons import excluded
from sono.manifests.masks import Mask
from sono.manifests.vocabulary import Vocabulary

from .encodings import polygons, shapes
from .protocol import ExportedFrame, Found, ReadMask, Writer

_COLUMNS = (
    *("filename", "file_size", "file_attributes", "region_count", "region_id"),
    *("region_shape_attributes", "region_attributes"),
)
_ATTRIBUTE = "structure"
_CELL_MOST = 16 * 2**20  # characters


@dataclass(frozen=True)
class Via:
    """A JSON export, a saved project or a CSV export. Regions of one label in an image are parts of one mask."""

    as_csv: bool = False  # what an export is; an import takes both

    structures_from_folders = False
    with_images = False

    def is_beside(self, relative: str) -> bool:
        return False

    def find(self, path: Path) -> Iterator[Found]:
        if path.suffix.casefold() == ".csv":
            yield from _find_in_csv(path)
        else:
            yield from _find_in_json(path)

    def reader(self, path: Path) -> ReadMask:
        return shapes.draw

    def writer(self, folder: Path, vocabulary: Vocabulary, structures: Sequence[str]) -> Writer:
        return _CsvWriter(folder) if self.as_csv else _JsonWriter(folder)


def _find_in_json(path: Path) -> Iterator[Found]:
    content = shapes.read_json(path)
    if isinstance(content, dict) and "_via_img_metadata" in content:
        content = content["_via_img_metadata"]
    if not isinstance(content, dict):
        raise excluded("not_this_format")
    for image in content.values():
        if not isinstance(image, dict) or not isinstance(image.get("filename"), str) or "regions" not in image:
            raise excluded("not_this_format")
        regions = image["regions"]
        for region in regions.values() if isinstance(regions, dict) else regions:  # VIA 1 had an object
            if not isinstance(region, dict):
                raise excluded("not_this_format")
            yield _found(image["filename"], region.get("shape_attributes"), region.get("region_attributes"))


def _find_in_csv(path: Path) -> Iterator[Found]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            csv.field_size_limit(_CELL_MOST)
            rows = csv.DictReader(file)
            if not set(_COLUMNS) <= set(rows.fieldnames or ()) | {"file_size", "file_attributes", "region_id"}:
                raise excluded("not_this_format")
            for row in rows:
                shape, attributes = json.loads(row["region_shape_attributes"]), json.loads(row["region_attributes"])
                if shape or row["region_count"] != "0":  # an image without regions has one line, too
                    yield _found(row["filename"], shape, attributes)
    except OSError:
        raise excluded("unreadable") from None
    except (ValueError, TypeError, RecursionError, csv.Error):
        raise excluded("not_this_format") from None


def _found(image: str, shape: Any, attributes: Any) -> Found:
    labels = _labels(attributes)
    try:
        return Found(image=image, labels=labels, place=_place(shape))
    except ExcludedError as error:
        return Found(image=image, labels=labels, problem=error.reason)


def _labels(attributes: Any) -> tuple[str, ...]:
    """The values of a region's attributes; of checkboxes, the names of the boxes that are checked."""
    found: list[str] = []
    for value in attributes.values() if isinstance(attributes, dict) else ():
        if isinstance(value, str) and value.strip():
            found.append(value)
        elif isinstance(value, dict):
            found += [str(name) for name, checked in value.items() if checked]
    return tuple(found)


def _place(shape: Any) -> str:
    if not isinstance(shape, dict):
        raise excluded("malformed_mask")
    kind = shape.get("name")
    try:
        if kind == "polygon":
            xs, ys = shape["all_points_x"], shape["all_points_y"]
            if len(xs) > polygons.VERTICES_MOST:
                raise excluded("too_many_vertices")
            return shapes.polygon_place(list(zip(xs, ys, strict=True)), None)
        if kind == "rect":
            return shapes.rectangle_place(shape["x"], shape["y"], shape["width"], shape["height"], None)
        if kind == "circle":
            return shapes.ellipse_place((shape["cx"], shape["cy"]), (shape["r"], shape["r"]), 0, None)
        if kind == "ellipse":
            degrees = float(shape.get("theta") or 0) * 180 / 3.141592653589793  # VIA has radians
            return shapes.ellipse_place((shape["cx"], shape["cy"]), (shape["rx"], shape["ry"]), degrees, None)
    except (KeyError, TypeError, ValueError):
        raise excluded("malformed_mask") from None
    raise excluded("not_an_area")


def _regions(frame: ExportedFrame) -> Iterator[tuple[Mapping[str, Any], Mapping[str, str]]]:
    """Shape and attributes of every polygon of a frame."""
    for region in frame.regions:
        for ring in polygons.trace(region.mask):
            xs, ys = ring.astype(int).T.tolist()
            shape = {"name": "polygon", "all_points_x": xs, "all_points_y": ys}
            yield shape, {_ATTRIBUTE: region.structure}


@dataclass
class _JsonWriter:
    folder: Path
    _file: IO[str] = field(init=False)
    _frames: int = 0

    def __post_init__(self) -> None:
        self._file = (self.folder / "via_annotations.json").open("w", encoding="utf-8")
        self._file.write("{")

    def add(self, frame: ExportedFrame) -> Sequence[Mask]:
        name = f"{frame.frame_id}.png"
        regions = [{"shape_attributes": shape, "region_attributes": labels} for shape, labels in _regions(frame)]
        image = {"filename": name, "size": -1, "regions": regions, "file_attributes": {}}
        self._file.write(f"{',' if self._frames else ''}\n{json.dumps(f'{name}-1')}: {json.dumps(image)}")
        self._frames += 1
        return [region.mask for region in frame.regions]

    def close(self) -> None:
        self._file.write("\n}\n")
        self._file.close()


@dataclass
class _CsvWriter:
    folder: Path
    _file: IO[str] = field(init=False)

    def __post_init__(self) -> None:
        self._file = (self.folder / "via_annotations.csv").open("w", newline="", encoding="utf-8")
        self._rows = csv.writer(self._file)
        self._rows.writerow(_COLUMNS)

    def add(self, frame: ExportedFrame) -> Sequence[Mask]:
        regions = list(_regions(frame))
        for number, (shape, labels) in enumerate(regions):
            row = (f"{frame.frame_id}.png", -1, "{}", len(regions), number, json.dumps(shape), json.dumps(labels))
            self._rows.writerow(row)
        return [region.mask for region in frame.regions]

    def close(self) -> None:
        self._file.close()

"""CVAT's XML 1.1 for images: brush masks as run lengths, and polygons (https://docs.cvat.ai, "CVAT for image")."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, cast
from xml.etree import ElementTree
from xml.sax.saxutils import quoteattr

import numpy as np

from sono.curation.images.bounds import check_size
from sono.curation.images.pixels import ExcludedError
from sono.curation.masks.reasons import excluded
from sono.manifests.masks import Mask, bbox
from sono.manifests.vocabulary import Vocabulary

from .encodings import polygons, shapes
from .encodings.rle import counts_of_mask, mask_of_counts, whole_numbers
from .protocol import ExportedFrame, Found, ReadMask, Size, Writer

_FILE = "annotations.xml"
_SHAPES = ("box", "polygon", "polyline", "points", "cuboid", "ellipse", "mask", "skeleton")
_PIXELS = "pixels;"  # begins the place of a brush mask
_ELEMENT_MOST = 64 * 2**20  # bytes
_CHUNK = 2**18


@dataclass(frozen=True)
class Cvat:
    """One XML file for all frames. Several shapes of one label in an image are parts of one mask."""

    structures_from_folders = False
    with_images = False

    def is_beside(self, relative: str) -> bool:
        return False

    def find(self, path: Path) -> Iterator[Found]:
        for image in _images(path):
            name = image.get("name")
            if not name:
                raise excluded("not_this_format")
            try:
                size = shapes.size_of(image.get("height"), image.get("width"))
            except ExcludedError:
                raise excluded("not_this_format") from None
            for shape in image:
                if shape.tag in _SHAPES:
                    yield _found(name, shape, size)

    def reader(self, path: Path) -> ReadMask:
        def read(place: str, size: Size) -> Mask:
            return _pixels(place) if place.startswith(_PIXELS) else shapes.draw(place, size)

        return read

    def writer(self, folder: Path, vocabulary: Vocabulary, structures: Sequence[str]) -> Writer:
        return _Writer(folder, structures)


def _images(path: Path) -> Iterator[ElementTree.Element]:
    """The elements ``image`` of a file, one in memory at a time."""
    parser: ElementTree.XMLPullParser[ElementTree.Element] = ElementTree.XMLPullParser(["start", "end"])
    since = depth = 0
    before = b""
    root: ElementTree.Element | None = None
    try:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                since += len(chunk)
                if b"<!DOCTYPE" in before + chunk:  # CVAT writes none, and its entities could grow without bounds
                    raise excluded("not_this_format")
                before = chunk[-len(b"<!DOCTYPE") :]
                parser.feed(chunk)
                for event, element in _elements(parser):
                    root = element if root is None else root
                    depth += 1 if event == "start" else -1
                    if event == "end" and depth == 1:
                        if element.tag == "track":  # of "CVAT for video", which has no images
                            raise excluded("not_this_format")
                        if element.tag == "image":
                            yield element
                        if root is not None:
                            root.clear()
                        since = 0
                if since > _ELEMENT_MOST:
                    raise excluded("item_too_large")
        parser.close()
    except OSError:
        raise excluded("unreadable") from None
    except ElementTree.ParseError:
        raise excluded("not_this_format") from None
    if root is None or root.tag != "annotations":
        raise excluded("not_this_format")


def _elements(parser: ElementTree.XMLPullParser[ElementTree.Element]) -> Iterator[tuple[str, ElementTree.Element]]:
    """The elements that began or ended in what was fed to the parser."""
    for event in parser.read_events():
        yield cast("tuple[str, ElementTree.Element]", event)  # others were not asked for


def _found(image: str, shape: ElementTree.Element, size: Size | None) -> Found:
    labels = (shape.get("label") or "",)
    try:
        return Found(image=image, labels=labels, place=_place(shape, size))
    except ExcludedError as error:
        return Found(image=image, labels=labels, problem=error.reason)


def _place(shape: ElementTree.Element, size: Size | None) -> str:
    if shape.tag == "mask":
        if size is None:
            raise excluded("malformed_mask")
        box = [shape.get(name) or "" for name in ("left", "top", "width", "height")]
        return f"{_PIXELS}{size[0]},{size[1]};{','.join(box)};{shape.get('rle')}"
    if shape.tag == "polygon":
        text = shape.get("points") or ""
        if text.count(";") >= polygons.VERTICES_MOST:
            raise excluded("too_many_vertices")
        try:
            return shapes.polygon_place([[float(x) for x in point.split(",")] for point in text.split(";")], size)
        except ValueError:
            raise excluded("malformed_mask") from None
    if shape.tag == "ellipse":
        center, radii = (shape.get("cx"), shape.get("cy")), (shape.get("rx"), shape.get("ry"))
        return shapes.ellipse_place(center, radii, shape.get("rotation"), size)
    raise excluded("not_an_area")


def _pixels(place: str) -> Mask:
    """A brush mask: run lengths by rows within a box, background first."""
    _, size, box, rle = place.split(";")
    height, width = whole_numbers(size)
    left, top, box_width, box_height = whole_numbers(box)
    check_size(height, width)
    if min(left, top) < 0 or min(box_width, box_height) < 1 or left + box_width > width or top + box_height > height:
        raise excluded("size_mismatch")
    mask = np.zeros((height, width), dtype=np.bool_)
    try:
        counts = np.asarray(whole_numbers(rle), dtype=np.int64)
    except OverflowError:
        raise excluded("malformed_mask") from None
    mask[top : top + box_height, left : left + box_width] = mask_of_counts(counts, box_height, box_width)
    return mask


@dataclass
class _Writer:
    folder: Path
    structures: Sequence[str]
    _file: IO[str] = field(init=False)
    _frames: int = 0

    def __post_init__(self) -> None:
        self._file = (self.folder / _FILE).open("w", encoding="utf-8")
        labels = "".join(f"<label><name>{structure}</name><type>mask</type></label>" for structure in self.structures)
        self._file.write('<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n<version>1.1</version>\n')
        self._file.write(f"<meta><job><mode>annotation</mode><labels>{labels}</labels></job></meta>\n")

    def add(self, frame: ExportedFrame) -> Sequence[Mask]:
        name = quoteattr(f"{frame.frame_id}.png")
        self._file.write(f'<image id="{self._frames}" name={name} width="{frame.width}" height="{frame.height}">\n')
        for region in frame.regions:
            left, top, width, height = bbox(region.mask)
            rle = ", ".join(map(str, counts_of_mask(region.mask[top : top + height, left : left + width])))
            self._file.write(
                f'<mask label={quoteattr(region.structure)} source="{"auto" if region.by_program else "manual"}" '
                f'occluded="0" rle="{rle}" left="{left}" top="{top}" width="{width}" height="{height}" z_order="0"/>\n'
            )
        self._file.write("</image>\n")
        self._frames += 1
        return [region.mask for region in frame.regions]

    def close(self) -> None:
        self._file.write("</annotations>\n")
        self._file.close()

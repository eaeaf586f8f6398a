"""Images whose values are labels, one image per frame, beside a list of the labels. Structures cannot overlap."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from sono.curation.images.bounds import check_size
from sono.curation.images.codestreams import png
from sono.curation.images.codestreams.stream import DamagedStreamError
from sono.curation.masks.reasons import excluded
from sono.manifests.errors import UserError
from sono.manifests.masks import Mask
from sono.manifests.vocabulary import Vocabulary

from .encodings import labels
from .protocol import ExportedFrame, Found, ReadMask, Size, Writer

_VALUES_MOST = 255


@dataclass(frozen=True)
class IndexPng:
    """``NAME.png`` with a palette or in grey, and ``labels.json`` or ``labels.txt`` beside or above it."""

    structures_from_folders = False
    with_images = False

    def is_beside(self, relative: str) -> bool:
        return labels.is_labels(relative)

    def find(self, path: Path) -> Iterator[Found]:
        yield from labels.found_values(labels.read_labels(path.parent))

    def reader(self, path: Path) -> ReadMask:
        values = _read_values(path)

        def read(place: str, size: Size) -> Mask:
            return mask_of_value(values, place)

        return read

    def writer(self, folder: Path, vocabulary: Vocabulary, structures: Sequence[str]) -> Writer:
        if len(structures) > _VALUES_MOST:
            raise UserError("an index PNG holds up to 255 structures", fix="choose with --structure")
        return _Writer(folder, labels.write_json(folder, structures))


@dataclass(frozen=True)
class _Writer:
    folder: Path
    values: Mapping[str, int]

    def add(self, frame: ExportedFrame) -> Sequence[Mask]:
        image = Image.fromarray(label_map(frame, self.values).astype(np.uint8), mode="P")
        palette = [channel for value in range(1, len(self.values) + 1) for channel in labels.color(value)]
        image.putpalette([0, 0, 0, *palette])
        image.save(self.folder / f"{frame.frame_id}.png")
        return [region.mask for region in frame.regions]

    def close(self) -> None:
        """Nothing is left to do."""


def label_map(frame: ExportedFrame, values: Mapping[str, int]) -> npt.NDArray[np.int64]:
    """The value of the structure that each pixel shows, 0 where none does; shape [height, width].

    Raises:
        UserError: two structures overlap: the map would lose a part of one of them.
    """
    result = np.zeros((frame.height, frame.width), dtype=np.int64)
    for region in frame.regions:
        if result[region.mask].any():
            under = {value: structure for structure, value in values.items()}[int(result[region.mask].max())]
            raise UserError(
                f"{under} and {region.structure} overlap in frame {frame.frame_id}, which a label map cannot hold",
                fix="choose structures that do not overlap with --structure, or another format, such as coco",
            )
        result[region.mask] = values[region.structure]
    return result


def mask_of_value(values: npt.NDArray[np.int64], place: str) -> Mask:
    """The pixels of a label map at a place of ``labels.found_values``."""
    name, _, listed = place.partition(":")
    if name == labels.OTHER_VALUES:
        known = [0, *(int(value) for value in listed.split(","))]
        return np.asarray(~np.isin(values, known), dtype=np.bool_)
    return np.asarray(values == int(name), dtype=np.bool_)


def _read_values(path: Path) -> npt.NDArray[np.int64]:
    """Pixel values as they are stored: palette indices, not colors."""
    try:
        content = path.read_bytes()
    except OSError:
        raise excluded("unreadable") from None
    if not content.startswith(png.SIGNATURE):
        raise excluded("not_this_format")
    try:
        header = png.read_header(content)
        check_size(header.height, header.width)
        inflated = png.inflate(content, header)
    except DamagedStreamError:
        raise excluded("unreadable") from None
    with Image.open(io.BytesIO(inflated), formats=["PNG"]) as image:
        if image.mode not in ("P", "L", "1", "I;16", "I"):
            raise excluded("not_labels")
        return np.asarray(image, dtype=np.int64)

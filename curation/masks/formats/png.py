"""Images of filled areas, one structure per folder, in PNG or any other format that frames are read from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from sono.curation.images import raster
from sono.curation.images.pixels import Pixels
from sono.curation.images.signatures import raster_kind
from sono.curation.masks.reasons import excluded
from sono.manifests.masks import Mask
from sono.manifests.vocabulary import Vocabulary

from .protocol import ExportedFrame, Found, ReadMask, Size, Writer


@dataclass(frozen=True)
class PngFolders:
    """``STRUCTURE/NAME.png``; what is not black is the mask."""

    structures_from_folders = True
    with_images = False

    def is_beside(self, relative: str) -> bool:
        return False

    def find(self, path: Path) -> Iterator[Found]:
        yield Found()

    def reader(self, path: Path) -> ReadMask:
        def read(place: str, size: Size) -> Mask:
            return read_mask(path)

        return read

    def writer(self, folder: Path, vocabulary: Vocabulary, structures: Sequence[str]) -> Writer:
        return _Writer(folder)


@dataclass(frozen=True)
class _Writer:
    folder: Path

    def add(self, frame: ExportedFrame) -> Sequence[Mask]:
        for region in frame.regions:
            write_mask(self.folder / region.structure / f"{frame.frame_id}.png", region.mask)
        return [region.mask for region in frame.regions]

    def close(self) -> None:
        """Nothing is left to do."""


def read_mask(path: Path) -> Mask:
    """The drawn pixels of a mask image, as a boolean array of shape [height, width].

    Raises:
        ExcludedError: the file cannot be read, is not an image, or has more than two grey levels.
    """
    try:
        content = path.read_bytes()
    except OSError:
        raise excluded("unreadable") from None
    kind = raster_kind(content)
    if kind is None:
        raise excluded("not_an_image")
    pixels: Pixels = next(raster.read_frames(content, kind))
    grey = pixels if pixels.ndim == 2 else pixels.max(axis=2)
    top = int(grey.max())
    if np.any((grey != 0) & (grey != top)):
        raise excluded("not_binary")
    return np.asarray(grey != 0, dtype=np.bool_)


def write_mask(path: Path, mask: Mask) -> None:
    """An image of one bit per pixel, the mask in white."""
    done, encoded = cv2.imencode(".png", mask.astype(np.uint8) * 255, [cv2.IMWRITE_PNG_BILEVEL, 1])
    assert done
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encoded.tobytes())

"""Where the pixels of a training pair come from: anything that is a ``PixelSource``, such as the dataset itself."""

from __future__ import annotations

from typing import Protocol

from sono.training.model.transforms import PadToSquare, Pixels

from .dataset import Frames, decode_image, decode_mask


class PixelSource(Protocol):
    """Images and masks at the training size: from the cache, or from the dataset."""

    def pair(self, row: int, region: int | None) -> tuple[Pixels, Pixels]:
        """The frame's image, [1 or 3, size, size], and the mask of one of its regions, [size, size].

        For ``None`` the mask is one everywhere.

        Raises:
            UserError: dataset or cache are damaged; the text names the frame or the file.
        """
        ...


class DecodedPixels:
    """Pixels that are decoded from the dataset every time."""

    def __init__(self, frames: Frames, transform: PadToSquare) -> None:
        self.frames, self.transform = frames, transform

    def pair(self, row: int, region: int | None) -> tuple[Pixels, Pixels]:
        """See ``PixelSource``."""
        content = self.frames.row(row)
        image = decode_image(content)
        if region is None:
            return self.transform.compact(image), self.transform.all_one()
        mask = decode_mask(content, content["regions"][region], image)
        return self.transform.compact(image), self.transform.mask(mask)

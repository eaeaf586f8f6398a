"""How a cine's frames lie on one of them: dense optical flow there and back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from sono.curation.images.pixels import Pixels
from sono.manifests.masks import Mask

Floats = npt.NDArray[np.float32]

_SURROUNDINGS_PX = 8
_SPECKLE_PX = 2.0
"""Standard deviation of the blur under which speckle disappears: it differs in every frame."""

SMALLEST_PX = 32
"""Of the shorter side of a frame: below it there is no coarser scale to begin with."""


@dataclass(frozen=True, eq=False)
class Flow:
    """Displacements in px, each of shape [height, width, 2], x before y.

    Attributes:
        back: from every pixel of a frame to where it was in the first one.
        forth: from every pixel of the first frame to where it is now.
        first: grey levels of the first frame, [height, width].
        now: those of this frame.
    """

    back: Floats
    forth: Floats
    first: Pixels
    now: Pixels

    def carried(self, mask: Mask) -> Mask:
        """A mask of the first frame where it is now; what has left the image is lost."""
        return _moved(mask, self.back, self.forth)

    def returned(self, mask: Mask) -> Mask:
        """A mask of this frame where it was in the first one."""
        return _moved(mask, self.forth, self.back)

    def left(self, mask: Mask, shown: Mask) -> float:
        """The share of a mask of the first frame that is now where ``shown`` is false, or outside the image."""
        rows, columns = np.nonzero(mask)
        moved = np.rint(self.forth[rows, columns] + np.stack([columns, rows], axis=1)).astype(np.int64)
        x, y = moved.T
        within = (x >= 0) & (y >= 0) & (x < mask.shape[1]) & (y < mask.shape[0])
        within[within] = shown[y[within], x[within]]
        return 1 - np.count_nonzero(within) / max(len(within), 1)

    def likeness(self, mask: Mask) -> float:
        """From -1 to 1: the correlation of grey levels in and around a mask of this frame with where they came from.

        Without speckle. A flow between different images may well be consistent, where there is little to follow.
        """
        x, y, width, height = cv2.boundingRect(mask.view(np.uint8))
        rows = slice(max(y - _SURROUNDINGS_PX, 0), y + height + _SURROUNDINGS_PX)
        columns = slice(max(x - _SURROUNDINGS_PX, 0), x + width + _SURROUNDINGS_PX)
        came_from = cv2.remap(
            self.first, *_sampled_at(self.back, rows, columns), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )
        before, after = (
            cv2.GaussianBlur(image.astype(np.float32), (0, 0), _SPECKLE_PX)
            for image in (came_from, self.now[rows, columns])
        )
        before, after = before - before.mean(), after - after.mean()
        norm = float(np.linalg.norm(before) * np.linalg.norm(after))
        return float(np.sum(before * after)) / norm if norm else 0.0


def follow(images: Iterable[Pixels]) -> Iterator[Flow]:
    """The flow from the first image to each of the others, which have its size and come in order.

    Dense inverse search (Kroeger et al., ECCV 2016) as OpenCV has it, with its preset "medium". Every frame is compared
    with the first one, not with the one before it, so that errors do not add up; the search begins at the flow of the
    frame before. On phantoms, adding up the flows between neighbours lost 0.03 of Dice in ten frames, this 0.005.
    """
    search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    rest = iter(images)
    first = _grey(next(rest))
    back = forth = np.zeros((*first.shape, 2), np.float32)
    for image in rest:
        grey = _grey(image)
        back = np.asarray(search.calc(grey, first, back.copy()), np.float32)
        forth = np.asarray(search.calc(first, grey, forth.copy()), np.float32)
        yield Flow(back, forth, first, grey)


def _grey(image: Pixels) -> Pixels:
    return image if image.ndim == 2 else np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.uint8)


def _moved(mask: Mask, back: Floats, forth: Floats) -> Mask:
    """``back`` is sampled only where ``forth`` can take the mask, which saves most of the time."""
    moved = np.zeros_like(mask)
    x, y, width, height = cv2.boundingRect(mask.view(np.uint8))
    if not width:
        return moved
    by = forth[y : y + height, x : x + width].reshape(-1, 2)
    (left, up), (right, down) = np.floor(by.min(axis=0)).astype(int) - 1, np.ceil(by.max(axis=0)).astype(int) + 1
    rows, columns = slice(max(y + up, 0), max(y + height + down, 0)), slice(max(x + left, 0), max(x + width + right, 0))
    at = _sampled_at(back, rows, columns)
    if at[0].size:
        shares = cv2.remap(
            mask.astype(np.float32), *at, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=0
        )
        moved[rows, columns] = shares > 0.5
    return moved


def _sampled_at(displacement: Floats, rows: slice, columns: slice) -> tuple[Floats, Floats]:
    """Where the pixels of a window come from: x and y in px of the whole image."""
    height, width = displacement.shape[:2]
    x, y = np.arange(width, dtype=np.float32)[columns], np.arange(height, dtype=np.float32)[rows]
    within = displacement[rows, columns]
    return within[..., 0] + x[None, :], within[..., 1] + y[:, None]

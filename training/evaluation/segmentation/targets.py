"""The true masks that a segmentation is trained on and scored by: those that no program made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image
from torch.utils.data import Dataset

from sono.manifests.errors import UserError
from sono.manifests.masks import Mask
from sono.training.arrays import Booleans
from sono.training.data.dataset import Frames, Row, decode_image, decode_mask
from sono.training.data.visible_regions import are_visible
from sono.training.features.predicted_masks import are_drawn, drawn
from sono.training.model.transforms import PadToSquare, Pixels

FOREGROUND = "foreground"
"""The only structure if all regions of a frame are taken together."""


@dataclass(frozen=True)
class Target:
    """A frame's image, [3, size, size], and its true masks by number of their structure, in the image's own pixels.

    ``square_KS2`` are the same masks as the transform makes them, [structures outlined, size, size].
    """

    position: int
    image: Pixels
    masks: dict[int, Mask]
    square_KS2: Pixels


class OutlinedFrames(Dataset[Target | UserError]):
    """The frames of a split that have drawn regions. An error in the data is returned, not raised.

    A mask without a pixel is no truth: scaling wiped out what it marked. To train on, nor is a mask of which nothing is
    left at the size of the model's input.

    Args:
        structures: those that are outlined; ``(FOREGROUND,)`` is all of them together.
        transform: of the model's input.
        to_train_on: leave out masks of which nothing is left there.
    """

    def __init__(
        self, frames: Frames, structures: Sequence[str], transform: PadToSquare, *, to_train_on: bool = False
    ) -> None:
        self.frames, self.structures, self.transform = frames, tuple(structures), transform
        self.to_train_on = to_train_on
        self.has_regions, self.vanished = self._count()
        self.indices = np.flatnonzero(self.has_regions)
        if not len(self.indices):
            raise UserError(
                f"no frame of the {frames.split} split has drawn regions"
                + ("" if self._all_together else " of a structure that the train split has"),
                where=frames.description.source,
                fix="import masks with sono-curate masks import, then build again",
            )

    @property
    def _all_together(self) -> bool:
        return self.structures == (FOREGROUND,)

    def _count(self) -> tuple[Booleans, int]:
        """For every frame whether it has a mask to compare with, and how many masks of the split are none."""
        has_mask, vanished = [], 0
        for lists in self.frames.column("regions").chunks:
            wanted_M = are_drawn(lists)
            if not self._all_together:
                named = pc.is_in(_structures_of(lists), value_set=pa.array(self.structures, pa.string()))
                wanted_M &= named.to_numpy(zero_copy_only=False)
            visible_M = are_visible(lists, self.transform if self.to_train_on else None)
            parents_M = pc.list_parent_indices(lists).to_numpy()
            has_mask.append(np.bincount(parents_M[wanted_M & visible_M], minlength=len(lists)) > 0)
            vanished += int((wanted_M & ~visible_M).sum())
        return np.concatenate(has_mask), vanished

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, position: int) -> Target | UserError:
        row = self.frames.row(int(self.indices[position]))
        try:
            image = decode_image(row)
            masks = self._masks(row, image)
        except UserError as error:
            return error
        pixels = self.transform.image(image)
        square = {number: self.transform.mask(mask) for number, mask in masks.items()}
        if self.to_train_on:
            masks = {number: mask for number, mask in masks.items() if square[number].any()}
        square_KS2 = np.stack([square[number] for number in masks])
        return Target(position, np.broadcast_to(pixels, (3, *pixels.shape[1:])), masks, square_KS2)

    def _masks(self, row: Row, image: Image.Image) -> dict[int, Mask]:
        """The frame's true masks by number of their structure, those of one structure joined."""
        masks: dict[int, Mask] = {}
        for region in drawn(row["regions"]):
            name = FOREGROUND if self._all_together else region["structure"]
            if name in self.structures:
                number, mask = self.structures.index(name), decode_mask(row, region, image)
                masks[number] = masks[number] | mask if number in masks else mask
        return {number: mask for number, mask in masks.items() if mask.any()}


def drawn_structures(frames: Frames) -> tuple[str, ...]:
    """The structures that a split has drawn regions of, in alphabetical order; masks without a pixel do not count."""
    names = {
        name
        for lists in frames.column("regions").chunks
        for name in pc.unique(
            _structures_of(lists).filter(pa.array(are_drawn(lists) & are_visible(lists, None)))
        ).to_pylist()
    }
    return tuple(sorted(name for name in names if name))


def _structures_of(lists: pa.ListArray) -> pa.Array:
    return pc.struct_field(pc.list_flatten(lists), "structure")

"""One geometry for an image and its mask, in training and in evaluation."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from sono.manifests.masks import Mask

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class PadToSquare:
    """Pad to a centred square with black, then resize to ``size`` px: images bicubic, masks by area.

    ``compact`` and ``mask`` return 8-bit arrays, cheap to keep and to send to a device; ``normalise`` turns a batch of
    them into the tower's input there. Every checkpoint holds its transform.

    Args:
        size: side of the square in px.
        mean: of each channel of the image, on a scale of 0 to 1; CLIP's by default.
        std: likewise.
        mask_mean: the mask, 1 inside and 0 outside, enters as (mask - mask_mean) / mask_std.
        mask_std: see there.
    """

    size: int
    mean: tuple[float, float, float] = (0.48145466, 0.4578275, 0.40821073)
    std: tuple[float, float, float] = (0.26862954, 0.26130258, 0.27577711)
    mask_mean: float = 0.5
    mask_std: float = 0.26

    def image(self, image: Image.Image) -> Pixels:
        """An image of any size and mode as an array of shape [3, size, size]."""
        return np.broadcast_to(self.compact(image), (3, self.size, self.size))

    def compact(self, image: Image.Image) -> Pixels:
        """As ``image``, but [1, size, size] if the image is grey, even if it is stored in colour."""
        plain = image if image.mode in ("L", "RGB") else image.convert("RGB")
        square = self._square(plain, Image.Resampling.BICUBIC)
        if square.ndim == 2:
            return square[None]
        if (square == square[..., :1]).all():
            return np.ascontiguousarray(square[None, ..., 0])
        return np.ascontiguousarray(np.moveaxis(square, 2, 0))

    def mask(self, mask: Mask) -> Pixels:
        """A boolean mask, [height, width], as covered area from 0 to 255, [size, size]; padding is outside."""
        return self._square(Image.fromarray(mask.astype(np.uint8) * 255), Image.Resampling.BOX)

    def all_one(self) -> Pixels:
        """The mask of a whole image, [size, size]: 255 everywhere, padding included."""
        return np.full((self.size, self.size), 255, dtype=np.uint8)

    def image_area(self, width: int, height: int) -> Pixels:
        """The mask of a whole image of this size without its padding, [size, size]."""
        return self.mask(np.ones((height, width), dtype=bool))

    def normalise(self, image_BCHW: torch.Tensor, mask_BHW: torch.Tensor) -> torch.Tensor:
        """8-bit images and masks of a batch as the tower's input, float32 of shape [batch, 4, size, size].

        Grey images may be [batch, 1, size, size]: they become three channels here, on the device.
        """
        mean = image_BCHW.new_tensor(self.mean, dtype=torch.float32).view(1, 3, 1, 1)
        std = image_BCHW.new_tensor(self.std, dtype=torch.float32).view(1, 3, 1, 1)
        x_B3HW = (image_BCHW.float() / 255 - mean) / std
        m_B1HW = (mask_BHW.unsqueeze(1).float() / 255 - self.mask_mean) / self.mask_std
        return torch.cat([x_B3HW, m_B1HW], dim=1)

    def geometry(self) -> dict[str, Any]:
        """Everything that decides the 8-bit pixels: two transforms that agree here return the same."""
        return {"shape": "pad to a centred square", "size": self.size, "image": "bicubic", "mask": "area"}

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for a checkpoint."""
        return {**dataclasses.asdict(self), "mean": list(self.mean), "std": list(self.std)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> PadToSquare:
        """The inverse of ``to_dict``."""
        return cls(**{**values, "mean": tuple(values["mean"]), "std": tuple(values["std"])})

    def _square(self, image: Image.Image, resampling: Image.Resampling) -> Pixels:
        side = max(image.size)
        square = Image.new(image.mode, (side, side))
        square.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
        return np.asarray(square.resize((self.size, self.size), resampling))


class CropToSquare(PadToSquare):
    """The square in the centre of image and mask alike, and nothing outside it: how SonoCLIP's released test sees them.

    Training never uses it: a structure at the edge is lost, and the mask of a region may be empty.
    """

    @classmethod
    def like(cls, transform: PadToSquare) -> CropToSquare:
        """With the size and the numbers of ``transform``."""
        return cls(**dataclasses.asdict(transform))

    def geometry(self) -> dict[str, Any]:
        """See ``PadToSquare``."""
        return {**super().geometry(), "shape": "crop to the centred square"}

    def _square(self, image: Image.Image, resampling: Image.Resampling) -> Pixels:
        side = min(image.size)
        left, top = image.width // 2 - side // 2, image.height // 2 - side // 2
        square = image.crop((left, top, left + side, top + side))
        return np.asarray(square.resize((self.size, self.size), resampling))

"""Images and masks as a mask-guided CLIP takes them.

Exported models carry a copy of this file, so it needs numpy, Pillow and torch and nothing else. It computes what
``PadToSquare`` computes in training, to the bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image


def prepare(
    image: Image.Image,
    mask: Any = None,
    *,
    size: int,
    mean: Sequence[float],
    std: Sequence[float],
    mask_mean: float = 0.5,
    mask_std: float = 0.26,
) -> torch.Tensor:
    """An image and its mask as the image tower's input, float32 of shape [3 + 1, size, size].

    Both are padded to a centred square (the image with black, the mask with "outside") and resized, images bicubic,
    masks by area.

    Args:
        image: of any size and mode.
        mask: [height, width] of the image; not zero is inside. None is the whole image: inside everywhere, in the
            padding too.
        size: side of the square in px.
        mean: of each channel, on a scale of 0 to 1.
        std: likewise.
        mask_mean: the mask, 1 inside and 0 outside, enters as (mask - mask_mean) / mask_std.
        mask_std: see there.

    Raises:
        ValueError: the mask has another size than the image.
    """
    plain = image if image.mode in ("L", "RGB") else image.convert("RGB")
    pixels_HWC = np.atleast_3d(_square(plain, size, Image.Resampling.BICUBIC))
    image_CHW = torch.from_numpy(np.moveaxis(pixels_HWC, 2, 0).copy()).expand(3, size, size)
    mask_HW = torch.from_numpy(_mask_pixels(image, mask, size))
    mean_311, std_311 = torch.tensor(list(mean)).view(3, 1, 1), torch.tensor(list(std)).view(3, 1, 1)
    x_3HW = (image_CHW.float() / 255 - mean_311) / std_311
    m_1HW = (mask_HW.unsqueeze(0).float() / 255 - mask_mean) / mask_std
    return torch.cat([x_3HW, m_1HW])


def _mask_pixels(image: Image.Image, mask: Any, size: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    if mask is None:
        return np.full((size, size), 255, dtype=np.uint8)
    inside = np.asarray(mask) != 0
    if inside.shape != (image.height, image.width):
        raise ValueError(f"the mask has the shape {inside.shape} and the image {(image.height, image.width)}")
    return _square(Image.fromarray(inside.astype(np.uint8) * 255), size, Image.Resampling.BOX)


def _square(image: Image.Image, size: int, resampling: Image.Resampling) -> np.ndarray[Any, np.dtype[np.uint8]]:
    side = max(image.size)
    square = Image.new(image.mode, (side, side))
    square.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
    return np.array(square.resize((size, size), resampling))

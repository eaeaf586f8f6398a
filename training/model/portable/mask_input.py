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
        image: one of Pillow, of any size, with 8 bits per channel.
        mask: [height, width] of the image, boolean, or 8-bit with 0 outside and either 1 or 255 inside. None is the
            whole image: inside everywhere, in the padding too.
        size: side of the square in px.
        mean: of each channel, on a scale of 0 to 1.
        std: likewise.
        mask_mean: the mask, 1 inside and 0 outside, enters as (mask - mask_mean) / mask_std.
        mask_std: see there.

    Raises:
        ValueError: image or mask are none of these, which is never guessed at: brighter pixels would be cut off at
            255, and a probability or a label's number would count as inside. Or they differ in size.
    """
    _check_image(image)
    plain = image if image.mode in ("L", "RGB") else image.convert("RGB")
    pixels_HWC = np.atleast_3d(_square(plain, size, Image.Resampling.BICUBIC))
    image_CHW = torch.from_numpy(np.moveaxis(pixels_HWC, 2, 0).copy()).expand(3, size, size)
    mask_HW = torch.from_numpy(_mask_pixels(image, mask, size))
    mean_311, std_311 = torch.tensor(list(mean)).view(3, 1, 1), torch.tensor(list(std)).view(3, 1, 1)
    x_3HW = (image_CHW.float() / 255 - mean_311) / std_311
    m_1HW = (mask_HW.unsqueeze(0).float() / 255 - mask_mean) / mask_std
    return torch.cat([x_3HW, m_1HW])


def _check_image(image: Any) -> None:
    if not isinstance(image, Image.Image):
        raise ValueError(f"an image is of type {type(image).__name__}; give Image.fromarray(pixels) of 8-bit pixels")
    if image.mode.startswith(("I", "F")):
        raise ValueError(
            f"the image's pixels are not 8-bit (Pillow's mode {image.mode}); scale them to 0 to 255 first, in the same "
            "way for all images, and give Image.fromarray(scaled.astype('uint8'))"
        )


def _check_binary(mask: np.ndarray[Any, Any]) -> None:
    if mask.dtype == np.bool_:
        return
    if mask.dtype != np.uint8:
        raise ValueError(
            f"the mask's numbers are {mask.dtype}, neither boolean nor 8-bit; say what is inside: mask > 0.5 for "
            "probabilities, mask == number for labels"
        )
    values = set(np.flatnonzero(np.bincount(mask.ravel())).tolist())
    if not (values <= {0, 1} or values <= {0, 255}):
        shown = ", ".join(map(str, sorted(values)[:4]))
        raise ValueError(
            f"the mask is not binary: it contains {shown}{', ...' if len(values) > 4 else ''}; say what is inside, "
            "such as mask == number for a label, or mask > 127 for a drawing with soft edges"
        )


def _mask_pixels(image: Image.Image, mask: Any, size: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    if mask is None:
        return np.full((size, size), 255, dtype=np.uint8)
    given = np.asarray(mask)
    if given.shape != (image.height, image.width):
        raise ValueError(f"the mask has the shape {given.shape} and the image {(image.height, image.width)}")
    _check_binary(given)
    inside = given != 0
    return _square(Image.fromarray(inside.astype(np.uint8) * 255), size, Image.Resampling.BOX)


def _square(image: Image.Image, size: int, resampling: Image.Resampling) -> np.ndarray[Any, np.dtype[np.uint8]]:
    side = max(image.size)
    square = Image.new(image.mode, (side, side))
    square.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
    return np.array(square.resize((size, size), resampling))

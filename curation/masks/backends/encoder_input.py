"""What the encoders of SAM's family take, and how points and masks travel between a frame and a model's square."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from sono.curation.images.pixels import Pixels
from sono.manifests.masks import Mask

Floats = npt.NDArray[np.float32]

_MEAN = np.array([123.675, 116.28, 103.53], np.float32)
_STD = np.array([58.395, 57.12, 57.375], np.float32)

_MASK_LOGIT = 10.0  # of the inside of a mask that is given as a prompt; about as sure as SAM's own answers are


@dataclass(frozen=True)
class Preprocessing:
    """How a frame becomes the input of an encoder.

    Attributes:
        stretched: to the square; else the longer side is scaled, and the rest padded with 0 at the right and below.
        values: ``imagenet``: less the mean, over the standard deviation, by channel. ``min_max``: the frame's own range
            as 0 to 1. ``bytes``: 0 to 255, the model does the rest.
        resampling: of the image.
    """

    stretched: bool
    values: Literal["imagenet", "min_max", "bytes"]
    resampling: Image.Resampling


PREPROCESSING: Mapping[str, Preprocessing] = {
    # segment_anything/predictor.py and utils/transforms.py; MobileSAM and EdgeSAM keep to it
    "sam": Preprocessing(False, "imagenet", Image.Resampling.BILINEAR),
    # bowang-lab/MedSAM, MedSAM_Inference.py
    "medsam": Preprocessing(True, "min_max", Image.Resampling.BICUBIC),
    # bowang-lab/MedSAM, CVPR24_LiteMedSAM_infer.py
    "litemedsam": Preprocessing(False, "min_max", Image.Resampling.BOX),
    # facebookresearch/sam2, sam2/utils/transforms.py
    "sam2": Preprocessing(True, "imagenet", Image.Resampling.BILINEAR),
    # vietanhdev/samexporter, onnx_utils.py with --use-preprocess: normalised and padded inside the model
    "inside": Preprocessing(False, "bytes", Image.Resampling.BILINEAR),
}

CHOICES = ("sam", "medsam", "litemedsam")
"""Models whose files look the same although their encoders were trained on other values: the user has to say which."""


def encoder_input(pixels: Pixels, side: int, preprocessing: Preprocessing) -> Floats:
    """Shape [3, side, side]; with ``bytes`` [3, height, width] of the scaled frame.

    Args:
        side: of the model's square, in px.
    """
    rgb = pixels if pixels.ndim == 3 else np.repeat(pixels[:, :, None], 3, axis=2)
    height, width = Placement(side, (rgb.shape[0], rgb.shape[1]), preprocessing.stretched).resized
    scaled = np.asarray(Image.fromarray(rgb).resize((width, height), preprocessing.resampling), np.float32)
    if preprocessing.values == "bytes":
        return np.ascontiguousarray(scaled.transpose(2, 0, 1))
    if preprocessing.values == "imagenet":
        scaled = (scaled - _MEAN) / _STD
    else:
        scaled = (scaled - scaled.min()) / max(float(scaled.max() - scaled.min()), 1e-8)
    square = np.zeros((3, side, side), np.float32)
    square[:, :height, :width] = scaled.transpose(2, 0, 1)
    return square


@dataclass(frozen=True)
class Placement:
    """Where a frame lies in a model's square.

    Attributes:
        size: height and width of the frame in px.
    """

    side: int
    size: tuple[int, int]
    stretched: bool

    @property
    def resized(self) -> tuple[int, int]:
        """Height and width of the frame within the square."""
        if self.stretched:
            return self.side, self.side
        scale = self.side / max(self.size)
        return max(int(self.size[0] * scale + 0.5), 1), max(int(self.size[1] * scale + 0.5), 1)

    def into(self, points: npt.NDArray[np.float32]) -> Floats:
        """Points of the frame, shape [n, 2], in the square."""
        height, width = self.resized
        return np.asarray(points * np.array([width / self.size[1], height / self.size[0]], np.float32), np.float32)

    def mask_into(self, mask: Mask, side: int) -> Floats:
        """A mask of the frame as logits in a square of ``side`` px, shape [side, side]."""
        if mask.shape != self.size:
            raise ValueError(f"a mask of {mask.shape} for a frame of {self.size}")
        height, width = (max(round(length * side / self.side), 1) for length in self.resized)
        shares = cv2.resize(mask.astype(np.float32), (width, height), interpolation=cv2.INTER_AREA)
        logits = np.full((side, side), -_MASK_LOGIT, np.float32)
        logits[:height, :width] = (2 * shares - 1) * _MASK_LOGIT
        return logits

    def out_of(self, logits: Floats) -> Floats:
        """Logits of the whole square, in any resolution, at the frame's size: as ``Sam.postprocess_masks`` does it."""
        if not self.stretched:
            whole = cv2.resize(logits, (self.side, self.side), interpolation=cv2.INTER_LINEAR)
            height, width = self.resized
            logits = np.ascontiguousarray(whole[:height, :width])
        return np.asarray(cv2.resize(logits, self.size[::-1], interpolation=cv2.INTER_LINEAR), np.float32)

"""Random changes to a frame and its masks that leave them what they are: flips, turns, sizes, places and gains."""

from __future__ import annotations

import math

import cv2
import numpy as np
import numpy.typing as npt

from sono.curation.images.pixels import Pixels

_DEGREES = 20.0
_SCALE = 1.25
_SHIFT = 0.08  # of the side
_GAMMA = 1.5
_GAIN = 1.3
_OFFSET = 12.0  # grey levels

Masks = npt.NDArray[np.uint8]


def augment(image: Pixels, masks: Masks, random: np.random.Generator) -> tuple[Pixels, Masks]:
    """A frame of shape [size, size] and the coverage of its masks, [masks, size, size], changed alike."""
    matrix = _geometry(image.shape[0], random)
    levels = _gain(random)
    return _warp(levels[image], matrix), np.stack([_warp(mask, matrix) for mask in masks]) if len(masks) else masks


def _geometry(size: int, random: np.random.Generator) -> npt.NDArray[np.float64]:
    angle = math.radians(random.uniform(-_DEGREES, _DEGREES))
    scale = math.exp(random.uniform(-1, 1) * math.log(_SCALE))
    mirror = -1.0 if random.random() < 0.5 else 1.0
    shift = random.uniform(-_SHIFT, _SHIFT, 2) * size
    cos, sin, centre = scale * math.cos(angle), scale * math.sin(angle), (size - 1) / 2
    linear = np.array([[cos * mirror, -sin], [sin * mirror, cos]])
    offset = centre - linear @ np.array([centre, centre]) + shift
    return np.column_stack([linear, offset])


def _gain(random: np.random.Generator) -> npt.NDArray[np.uint8]:
    """New grey levels for the 256 old ones; black stays black, because it is what surrounds a sector."""
    old = np.arange(256) / 255
    gamma = math.exp(random.uniform(-1, 1) * math.log(_GAMMA))
    gain = math.exp(random.uniform(-1, 1) * math.log(_GAIN))
    new = 255 * gain * old**gamma + random.uniform(-_OFFSET, _OFFSET)
    new[0] = 0
    return np.asarray(np.clip(new, 0, 255), dtype=np.uint8)


def _warp(values: npt.NDArray[np.uint8], matrix: npt.NDArray[np.float64]) -> npt.NDArray[np.uint8]:
    size = values.shape[1], values.shape[0]
    return np.asarray(cv2.warpAffine(values, matrix, size, flags=cv2.INTER_LINEAR), dtype=np.uint8)

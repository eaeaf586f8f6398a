"""What the networks that find text and marks are given: a frame's brightest and darkest channel and their strokes."""

from __future__ import annotations

import cv2
import numpy as np

from sono.curation.images.pixels import Pixels

STROKE_PX = 4
"""What is drawn is at most as wide."""

_WIDER_THAN_STROKES = np.ones((STROKE_PX + 1,) * 2, np.uint8)


def network_input(pixels: Pixels, granularity: int = 1, *, once: bool = False) -> Pixels:
    """The largest and the smallest channel of [height, width] or [height, width, 3], each with its strokes: 6 x those.

    White ink over flow in colour stands out in the smallest channel alone, coloured ink over grey in the largest or as
    dark in the smallest. Strokes are what is thinner than ``STROKE_PX``, bright and dark (white and black top-hat):
    small networks learn that badly. Zeros are added below and on the right, up to multiples of ``granularity`` px.

    ``once``: 3 x a grey frame's, whose largest and smallest channel are one.
    """
    height, width = pixels.shape[:2]
    channels = (pixels,) if pixels.ndim == 2 else largest_and_smallest(pixels)
    views = [view for grey in channels for view in (grey, bright_strokes(grey), _dark_strokes(grey))]
    if len(channels) == 1 and not once:
        views *= 2
    image = np.zeros((len(views), height + -height % granularity, width + -width % granularity), np.uint8)
    for channel, view in zip(image, views, strict=True):
        channel[:height, :width] = view
    return image


def brightness_and_colorfulness(rgb: Pixels) -> tuple[Pixels, Pixels]:
    """The largest channel of [height, width, 3], and the largest less the smallest."""
    largest, smallest = largest_and_smallest(rgb)
    return largest, np.asarray(cv2.subtract(largest, smallest), np.uint8)


def largest_and_smallest(rgb: Pixels) -> tuple[Pixels, Pixels]:
    """The largest and the smallest channel of [height, width, 3]."""
    red, green, blue = cv2.split(rgb)  # by OpenCV: numpy takes a hundred times as long over an axis of three
    largest = cv2.max(cv2.max(red, green), blue)
    return np.asarray(largest, np.uint8), np.asarray(cv2.min(cv2.min(red, green), blue), np.uint8)


def bright_strokes(grey: Pixels) -> Pixels:
    """By how many levels thinner things than ``STROKE_PX`` are brighter than what is around them: the white top-hat."""
    return np.asarray(cv2.morphologyEx(grey, cv2.MORPH_TOPHAT, _WIDER_THAN_STROKES), np.uint8)


def _dark_strokes(grey: Pixels) -> Pixels:
    return np.asarray(cv2.morphologyEx(grey, cv2.MORPH_BLACKHAT, _WIDER_THAN_STROKES), np.uint8)

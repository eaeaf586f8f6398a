"""Where text and marks of measurements are drawn over a frame, as a small convolutional network sees it.

The network (``text_detector.onnx``) was trained by ``python -m tools.text_detector``; the file's metadata says on
what. It reads the brightest and the darkest channel and their strokes at full resolution and gives two probabilities
for each cell of 4 x 4 px. In grey frames both channels are one: there ``text_detector_grey.onnx``, whose first weights
are sums of the other's, gives the same in less time.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np
import numpy.typing as npt

from sono.curation.cleaning.required import missing
from sono.curation.images.pixels import Box, Mask, Pixels

from .detector_file import detector_bytes

if TYPE_CHECKING:
    import onnxruntime

STRIDE = 4
"""px of a cell's side."""

STROKE_PX = 4
"""What is drawn is at most as wide."""

_WIDER_THAN_STROKES = np.ones((STROKE_PX + 1,) * 2, np.uint8)

GRANULARITY = 16
"""px: the network takes sizes that are multiples of it."""


LARGEST_PX = 4_000_000
"""px that the network is given at once; it takes 60 bytes of memory for each."""

SEEN_PX = 160
"""px around a cell that the network may look at, rounded up to ``GRANULARITY``."""


@dataclass(frozen=True)
class Threshold:
    """What is there: pieces of cells that reach ``possible``, if one reaches ``sure`` and they are ``fewest_cells``."""

    sure: float
    possible: float
    fewest_cells: int


TEXT = Threshold(sure=0.65, possible=0.12, fewest_cells=3)
POSSIBLE_TEXT = Threshold(sure=0.3, possible=0.12, fewest_cells=2)
MARKS = Threshold(sure=0.8, possible=0.5, fewest_cells=4)
POSSIBLE_MARKS = Threshold(sure=0.4, possible=0.35, fewest_cells=4)

SMALL_PX = 480
"""Frames whose long side is shorter are looked at in twice their size: their text is smaller than any trained on."""


@dataclass(frozen=True)
class Overlays:
    """What is drawn over a frame: [height, width] each, in whole cells.

    Attributes:
        text: in any script.
        marks: of measurements.
        possible_text, possible_marks: these, and pieces of which the network is less sure.
    """

    text: Mask
    marks: Mask
    possible_text: Mask
    possible_marks: Mask


def find_overlays(pixels: Pixels, sector_mask: Mask) -> Overlays:
    """Find text, in any script, and marks of measurements within the sector.

    Args:
        pixels: [height, width] grey, or [height, width, 3] RGB.
        sector_mask: [height, width], where the frame shows ultrasound; the rest is not looked at.
    """
    rows, columns = np.flatnonzero(sector_mask.any(axis=1)), np.flatnonzero(sector_mask.any(axis=0))
    if not len(rows):
        return Overlays(*(np.zeros(sector_mask.shape, np.bool_) for _ in range(4)))
    window = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    inside = np.ascontiguousarray(sector_mask[window])
    part = np.asarray(cv2.copyTo(pixels[window], inside.view(np.uint8)), np.uint8)
    factor = 2 if max(pixels.shape[:2]) < SMALL_PX else 1
    if factor > 1:
        part = np.asarray(cv2.resize(part, None, fx=factor, fy=factor, interpolation=cv2.INTER_LINEAR), np.uint8)
    text, marks = probabilities(part)

    def whole(probability: npt.NDArray[np.float32], threshold: Threshold) -> Mask:
        mask = np.zeros(sector_mask.shape, np.bool_)
        if probability.max() > threshold.sure:
            side = STRIDE // factor
            cells = _pieces(probability, threshold)
            enlarged = cv2.resize(cells, None, fx=side, fy=side, interpolation=cv2.INTER_NEAREST)
            mask[window] = enlarged[: inside.shape[0], : inside.shape[1]].view(np.bool_) & inside
        return mask

    return Overlays(whole(text, TEXT), whole(marks, MARKS), whole(text, POSSIBLE_TEXT), whole(marks, POSSIBLE_MARKS))


def boxes_of(mask: Mask) -> tuple[Box, ...]:
    """The box of each connected piece, from the top."""
    left, top, across, down = cv2.boundingRect(mask.view(np.uint8))
    if not across:
        return ()
    part = mask[top : top + down, left : left + across].view(np.uint8)
    count, _, stats, _ = cv2.connectedComponentsWithStats(part, connectivity=8)
    boxes = [(left + int(x), top + int(y), int(width), int(height)) for x, y, width, height, _ in stats[1:count]]
    return tuple(sorted(boxes, key=lambda box: (box[1], box[0])))


def probabilities(pixels: Pixels) -> npt.NDArray[np.float32]:
    """That each cell of 4 x 4 px shows text, and marks: [2, ceil(height / 4), ceil(width / 4)].

    Of large frames in bands, which saves gigabytes; cells see nothing beyond what is looked at around a band.
    """
    height, width = pixels.shape[:2]
    rows = max(LARGEST_PX // width, GRANULARITY) // GRANULARITY * GRANULARITY
    if height <= rows:
        return _seen(pixels)
    bands = []
    for top in range(0, height, rows):
        first = max(top - SEEN_PX, 0)
        found = _seen(np.ascontiguousarray(pixels[first : top + rows + SEEN_PX]))
        skipped = (top - first) // STRIDE
        bands.append(found[:, skipped : skipped + -(-min(rows, height - top) // STRIDE)])
    return np.concatenate(bands, axis=1)


def _seen(pixels: Pixels) -> npt.NDArray[np.float32]:
    height, width = pixels.shape[:2]
    grey = pixels.ndim == 2
    (found,) = _session(grey=grey).run(None, {"image": network_input(pixels, GRANULARITY, once=grey)[None]})
    return np.asarray(found[0, :, : -(-height // STRIDE), : -(-width // STRIDE)], np.float32)


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


def _pieces(probability: npt.NDArray[np.float32], threshold: Threshold) -> Pixels:
    """1 for the cells of pieces that pass, and for their neighbours."""
    possible = (probability > threshold.possible).view(np.uint8)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(possible, connectivity=8)
    passed = np.zeros(count, np.bool_)
    passed[labels[probability > threshold.sure]] = True
    passed &= stats[:, cv2.CC_STAT_AREA] >= threshold.fewest_cells
    passed[0] = False
    return np.asarray(cv2.dilate(passed[labels].view(np.uint8), np.ones((3, 3), np.uint8)), np.uint8)


@functools.cache
def _session(*, grey: bool) -> onnxruntime.InferenceSession:
    """The network, read once per process; on one thread, since a process per core cleans frames."""
    try:
        import onnxruntime
    except ModuleNotFoundError as error:
        raise missing("onnxruntime") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(detector_bytes(grey=grey), options, providers=["CPUExecutionProvider"])

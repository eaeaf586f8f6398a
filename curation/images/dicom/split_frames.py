"""The frames of a DICOM file as bytes, counted by what is there; the header's count is only compared with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sono.curation.images.pixels import ExcludedError

from .image_pixel import ImagePixel
from .pixel_data import fragments, native_frames, streams

FRAMES_MISSING = ("frames_missing", "the header counts more frames than the file holds")
_WRONG_LENGTH = ("size_mismatch", "the pixel data is longer or shorter than the header's rows and columns")


@dataclass(frozen=True)
class FrameBytes:
    """The complete frames of a file, compressed or not; ``missing`` if the header counts more, or one is cut short."""

    frames: Sequence[bytes]
    missing: bool


def encapsulated(content: bytes, image: ImagePixel, *, rle: bool) -> FrameBytes:
    """Frames of encapsulated pixel data. A frame whose fragments are cut short is left out.

    Raises:
        ExcludedError: there is no frame.
    """
    items, cut = fragments(content)
    frames = streams(items, image.frames)
    if rle and len(items) > 1 and (image.frames or 1) == 1 and _is_one_rle_frame(items):
        frames = [b"".join(items)]
    if not frames:
        raise ExcludedError("no_pixels", "the DICOM object has no pixel data, or ends before it")
    return FrameBytes(frames, missing=cut or len(frames) < (image.frames or 1))


def uncompressed(content: bytes, image: ImagePixel) -> FrameBytes:
    """Frames of native pixel data; one byte of padding may follow the last.

    More data than the header counts is taken as further frames only where the header does not count at all and the
    rows fit each other: otherwise Rows or Columns are as likely to be wrong as the count.

    Raises:
        ExcludedError: the length fits no number of frames, or not the header's.
    """
    size = image.frame_bytes
    frames, rest = native_frames(content, size)
    counted = image.frames or 1
    if len(frames) < counted:
        if not frames:
            raise ExcludedError("undecodable", "the DICOM pixel data is damaged or truncated")
        return FrameBytes(frames, missing=True)
    if rest > 1 or (rest == 1 and (size * len(frames)) % 2 == 0):
        raise ExcludedError(*_WRONG_LENGTH)
    if len(frames) > counted and (image.frames is not None or not image.multi_frame or not _rows_fit(frames[0], image)):
        raise ExcludedError(*_WRONG_LENGTH)
    return FrameBytes(frames, missing=False)


def _is_one_rle_frame(items: Sequence[bytes]) -> bool:
    """Whether only the first item has the header of an RLE frame: some writers split a frame (PS3.5 forbids it)."""
    return not any(_has_rle_header(item) for item in items[1:])


def _has_rle_header(item: bytes) -> bool:
    words = np.frombuffer(item[:64], "<u4") if len(item) >= 64 else np.zeros(0, np.uint32)
    return bool(words.size and 0 < words[0] <= 15 and words[1] == 64)


def _rows_fit(frame: bytes, image: ImagePixel) -> bool:
    """Whether each row is more like the next one than like the one after it.

    Where Columns is half of what was stored, every other row holds the left halves, and the opposite is true.
    """
    values = np.frombuffer(frame, np.uint8).astype(np.int16).reshape(image.rows, -1)
    next_row = np.abs(values[1:-1] - values[:-2]).mean()
    row_after = np.abs(values[2:] - values[:-2]).mean()
    return image.rows < 4 or bool(next_row <= row_after * 1.2)

"""Frames of PNG, JPEG, TIFF and BMP files."""

from __future__ import annotations

import cv2
import numpy as np

from .pixels import ExcludedError, Pixels


def read_frames(content: bytes, kind: str) -> list[Pixels]:
    """Decode a file of ``kind``, as ``raster_kind`` gives it; a TIFF with several pages gives several frames.

    Raises:
        ExcludedError: the file is truncated or damaged, or its pixels are not 8-bit grey or colour.
    """
    buffer = np.frombuffer(content, np.uint8)
    # Orientation tags are ignored: masks of such a file were drawn on its pixels as they are stored.
    flags = cv2.IMREAD_UNCHANGED
    try:
        decoded = cv2.imdecodemulti(buffer, flags)[1] if kind == "tiff" else [cv2.imdecode(buffer, flags)]
    except cv2.error:
        decoded = []
    frames = [frame for frame in decoded if frame is not None]
    if not frames or len(frames) < len(decoded) or _is_cut_short(content, kind):
        raise ExcludedError("undecodable", "the image file is damaged or truncated")
    return [_grey_or_rgb(frame) for frame in frames]


def _is_cut_short(content: bytes, kind: str) -> bool:
    """Some releases of OpenCV silently fill the missing rest of a file with grey, so look for the end marker."""
    if kind == "png":
        return b"IEND" not in content[-4096:]
    if kind == "jpeg":
        return b"\xff\xd9" not in content[-4096:]
    return False


def _grey_or_rgb(frame: cv2.typing.MatLike) -> Pixels:
    if frame.dtype != np.uint8:
        raise ExcludedError(
            "unsupported_pixels", "the image has more than 8 bits a channel; convert it to 8 bits first"
        )
    if frame.ndim == 2:
        return np.asarray(frame, dtype=np.uint8)
    if frame.shape[2] == 4:
        if frame[..., 3].min() < 255:
            raise ExcludedError("unsupported_pixels", "the image has transparent pixels; flatten it first")
        return np.asarray(cv2.cvtColor(frame, cv2.COLOR_BGRA2RGB), dtype=np.uint8)
    return np.asarray(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB), dtype=np.uint8)

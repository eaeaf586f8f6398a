"""What one file may cost, known before anything of it is decoded: a small file can claim any size."""

from __future__ import annotations

from .pixels import ExcludedError

PIXELS_MOST = 64 * 1024 * 1024
"""Of one frame: twice an 8K screen."""

FRAMES_MOST = 100_000
"""Half an hour of cine."""

_FREE_PIXELS = 256 * 1024 * 1024
_PIXELS_PER_BYTE = 256
TOO_LARGE = ("too_large", "the file claims more pixels than any scanner's image or cine of its size has")


def check_size(height: int, width: int) -> None:
    """Refuse one frame.

    Raises:
        ExcludedError: it has no pixels, or more than ``PIXELS_MOST``.
    """
    if height < 1 or width < 1:
        raise ExcludedError("undecodable", "the image has no pixels")
    if height * width > PIXELS_MOST:
        raise ExcludedError(*TOO_LARGE)


def check_total(pixels: int, file_bytes: int) -> None:
    """Refuse all frames of a file together: no compressed ultrasound has 256 pixels per byte.

    Raises:
        ExcludedError: there are more pixels than a file of this size can honestly hold.
    """
    if pixels > max(_FREE_PIXELS, _PIXELS_PER_BYTE * file_bytes):
        raise ExcludedError(*TOO_LARGE)

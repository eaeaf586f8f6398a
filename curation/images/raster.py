"""Frames of PNG, JPEG, TIFF and BMP files: costs are bounded before anything is decoded, and no damage passes."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Iterator

import cv2
import numpy as np
from PIL import Image
from PIL.TiffImagePlugin import BITSPERSAMPLE, TiffImageFile

from .bounds import TOO_LARGE, check_size, check_total
from .codestreams import jpeg, png
from .codestreams.stream import DamagedStreamError
from .pixels import ExcludedError, Pixels

_DAMAGED = ("undecodable", "the image file is damaged or truncated")
_TOO_DEEP = ("unsupported_pixels", "the image has more than 8 bits a channel; convert it to 8 bits first")
_PILLOW = {"tiff": "TIFF", "bmp": "BMP"}


def count_frames(content: bytes, kind: str) -> int:
    """Pages of a TIFF, else 1.

    Raises:
        ExcludedError: the file is damaged, or its pages are more than it could hold.
    """
    if kind != "tiff":
        return 1
    with _open(content, kind) as image:
        return _count_pages(image)


def read_frames(content: bytes, kind: str) -> Iterator[Pixels]:
    """Decode a file of ``kind``, as ``image_kind`` gives it, page by page.

    Orientation tags are ignored: masks of such a file were drawn on its pixels as they are stored.

    Raises:
        ExcludedError: the file is truncated, damaged or too large, or its pixels are not 8-bit grey or colour.
    """
    if kind == "png":
        yield _read_png(content)
    elif kind == "jpeg":
        yield _read_jpeg(content)
    else:
        yield from _read_pages(content, kind)


def _read_png(content: bytes) -> Pixels:
    """By OpenCV's libpng."""
    try:
        header = png.read_header(content)
        check_size(header.height, header.width)
        if header.bits > 8:
            raise ExcludedError(*_TOO_DEEP)
        inflated = png.inflate(content, header)
    except DamagedStreamError:
        raise ExcludedError(*_DAMAGED) from None
    decoded = cv2.imdecode(np.frombuffer(inflated, np.uint8), cv2.IMREAD_UNCHANGED)
    if decoded is None or decoded.shape[:2] != (header.height, header.width):
        raise ExcludedError(*_DAMAGED)
    return _grey_or_rgb(decoded)


def _read_jpeg(content: bytes) -> Pixels:
    """By libjpeg-turbo with its warnings as errors: others fill what is missing with grey."""
    import simplejpeg

    try:
        stream = jpeg.inspect(content)
        check_size(stream.height, stream.width)
        if content[stream.length :].strip(b"\0"):
            raise ExcludedError(*_DAMAGED)
        if stream.bits != 8:
            raise ExcludedError(*_TOO_DEEP)
        if stream.components not in (1, 3):
            raise ExcludedError("unsupported_pixels", "the image is neither grey nor RGB")
        decoded = simplejpeg.decode_jpeg(content, colorspace="GRAY" if stream.components == 1 else "RGB", strict=True)
    except (DamagedStreamError, ValueError):
        raise ExcludedError(*_DAMAGED) from None
    return np.asarray(decoded[..., 0] if stream.components == 1 else decoded)


def _read_pages(content: bytes, kind: str) -> Iterator[Pixels]:
    """By Pillow, one page in memory at a time."""
    with _open(content, kind) as image:
        pages = range(_count_pages(image))
        total = 0
        for number in pages:  # the sizes first: nothing is decoded of a file that claims too much
            with _strict():
                image.seek(number)
            check_size(image.height, image.width)
            total += image.height * image.width
        check_total(total, len(content))
        for number in pages:
            with _strict():
                image.seek(number)
                image.load()
            yield _eight_bits(image)


@contextlib.contextmanager
def _strict() -> Iterator[None]:
    """Whatever Pillow stumbles over, or only warns of, is damage."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            yield
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        raise ExcludedError(*TOO_LARGE) from None
    except Exception:  # noqa: BLE001 - a damaged directory can make Pillow raise anything
        raise ExcludedError(*_DAMAGED) from None


def _open(content: bytes, kind: str) -> Image.Image:
    with _strict():
        return Image.open(io.BytesIO(content), formats=[_PILLOW[kind]])


def _count_pages(image: Image.Image) -> int:
    with _strict():
        return int(getattr(image, "n_frames", 1))


def _eight_bits(image: Image.Image) -> Pixels:
    """The pixels of a loaded page.

    Raises:
        ExcludedError: they are not 8-bit grey or colour.
    """
    # Of 16-bit colour Pillow gives the upper bytes, without a word.
    deep = isinstance(image, TiffImageFile) and max(image.tag_v2.get(BITSPERSAMPLE, (1,))) > 8
    if deep or image.mode in ("I", "I;16", "I;16B", "I;16L", "F"):
        raise ExcludedError(*_TOO_DEEP)
    if image.mode in ("LA", "PA", "RGBA") and image.getchannel("A").getextrema() != (255, 255):
        raise ExcludedError("unsupported_pixels", "the image has transparent pixels; flatten it first")
    if image.mode in ("1", "L", "LA"):
        return np.asarray(image.convert("L"), dtype=np.uint8)
    if image.mode in ("P", "PA", "RGB", "RGBA", "YCbCr"):
        return np.asarray(image.convert("RGB"), dtype=np.uint8)
    raise ExcludedError("unsupported_pixels", "the image is neither grey nor RGB")


def _grey_or_rgb(frame: cv2.typing.MatLike) -> Pixels:
    if frame.dtype != np.uint8:
        raise ExcludedError(*_TOO_DEEP)
    if frame.ndim == 2:
        return np.asarray(frame, dtype=np.uint8)
    if frame.shape[2] == 4:
        if frame[..., 3].min() < 255:
            raise ExcludedError("unsupported_pixels", "the image has transparent pixels; flatten it first")
        return np.asarray(cv2.cvtColor(frame, cv2.COLOR_BGRA2RGB), dtype=np.uint8)
    return np.asarray(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB), dtype=np.uint8)

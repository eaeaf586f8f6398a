"""One decoder for each DICOM transfer syntax, and what it gives checked against header and stream.

Decoders disagree on some files, and most of them fill a damaged frame with grey and say so in a warning at best. So the
decoder is fixed for each syntax, the stream's own size is compared with the header's, and a warning is an error.
"""

from __future__ import annotations

import warnings
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pydicom.encaps
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    UID,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from sono.curation.images.codestreams import jpeg, jpeg2000
from sono.curation.images.codestreams.stream import Colour, DamagedStreamError, Stream
from sono.curation.images.pixels import ExcludedError, Pixels

from .colour import space_of
from .image_pixel import ImagePixel

_JPEG = {JPEGBaseline8Bit, JPEGExtended12Bit}
_PLUGINS: dict[UID, str] = {
    JPEGBaseline8Bit: "pillow",  # only for streams that do not say their colour; all others go to simplejpeg
    JPEGExtended12Bit: "gdcm",
    JPEGLossless: "gdcm",
    JPEGLosslessSV1: "gdcm",
    JPEGLSLossless: "pyjpegls",
    JPEGLSNearLossless: "pyjpegls",
    JPEG2000Lossless: "pylibjpeg",
    JPEG2000: "pylibjpeg",
    HTJ2KLossless: "pylibjpeg",
    HTJ2KLosslessRPCL: "pylibjpeg",
    HTJ2K: "pylibjpeg",
    RLELossless: "pydicom",
}
_JPEG_2000 = {JPEG2000Lossless, JPEG2000, HTJ2KLossless, HTJ2KLosslessRPCL, HTJ2K}
_DAMAGED = ("undecodable", "the DICOM pixel data is damaged or truncated")
_WRONG_SIZE = ("size_mismatch", "the stream has another size, depth or number of components than the header")

Values = npt.NDArray[np.generic]


def is_supported(syntax: UID) -> bool:
    """Whether frames of this transfer syntax can be decoded; an unknown one cannot."""
    return syntax in _PLUGINS or syntax in _UNCOMPRESSED


_UNCOMPRESSED = {
    UID("1.2.840.10008.1.2"),
    UID("1.2.840.10008.1.2.1"),
    UID("1.2.840.10008.1.2.1.99"),
    UID("1.2.840.10008.1.2.2"),
}


def decode(frame: bytes, image: ImagePixel, syntax: UID) -> tuple[Values, int]:
    """Values of one frame and the bits that each has; colour as RGB, other frames as stored.

    Returns:
        Shape [rows, columns] or [rows, columns, 3].

    Raises:
        ExcludedError: the frame is damaged, or it contradicts the header.
    """
    stream = _inspect(frame, image, syntax)
    values, space = _values(frame, image, syntax, stream)
    if values.shape[:2] != (image.rows, image.columns):
        raise ExcludedError(*_WRONG_SIZE)
    if values.ndim == 3:
        values = _as_rgb(values, space, image)
    return values, stream.bits if stream else image.bits_stored


def _inspect(frame: bytes, image: ImagePixel, syntax: UID) -> Stream | None:
    """What the stream says, once its size has been compared with the header; None for streams without a header."""
    if syntax == RLELossless or syntax in _UNCOMPRESSED:
        return None
    try:
        stream = jpeg2000.inspect(frame) if syntax in _JPEG_2000 else jpeg.inspect(frame)
    except DamagedStreamError:
        raise ExcludedError(*_DAMAGED) from None
    if (stream.height, stream.width, stream.components) != (image.rows, image.columns, image.samples):
        raise ExcludedError(*_WRONG_SIZE)
    # What is deeper than a screen is scaled to it by its bits, of which stream and header have to say the same.
    if stream.bits > image.bits_allocated or (stream.bits > 8 and stream.bits != image.bits_stored):
        raise ExcludedError(*_WRONG_SIZE)
    if frame[stream.length :].strip(b"\0") and len(frame) > stream.length + 1:  # one byte of padding may be anything
        raise ExcludedError("size_mismatch", "more follows the end of a frame's stream")
    return stream


def _values(frame: bytes, image: ImagePixel, syntax: UID, stream: Stream | None) -> tuple[Values, Colour]:
    """Decoded values, and the space they are in as far as it is known."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a decoder that warns has lost or made up pixels
        try:
            if syntax in _JPEG and stream is not None and stream.bits == 8:
                if stream.colour != "unknown":
                    return _decode_jpeg(frame, stream), "rgb" if stream.components == 3 else "grey"
                return _decode_plugin(frame, image, JPEGBaseline8Bit), "unknown"
            return _decode_plugin(frame, image, syntax), stream.colour if stream else "unknown"
        except ExcludedError:
            raise
        except Exception:  # noqa: BLE001 - decoders raise whatever a damaged stream makes them stumble over
            raise ExcludedError(*_DAMAGED) from None


def _decode_jpeg(frame: bytes, stream: Stream) -> Values:
    """libjpeg-turbo, which knows by the stream's markers whether to convert, with its warnings as errors."""
    import simplejpeg

    decoded = simplejpeg.decode_jpeg(frame, colorspace="GRAY" if stream.components == 1 else "RGB", strict=True)
    return np.asarray(decoded[..., 0] if stream.components == 1 else decoded)


def _decode_plugin(frame: bytes, image: ImagePixel, syntax: UID) -> Values:
    """Pixel values by pydicom, without any conversion of colour."""
    uncompressed = syntax in _UNCOMPRESSED
    subsampled = uncompressed and image.photometric_interpretation == "YBR_FULL_422"
    colour = "YBR_FULL_422" if subsampled else "YBR_FULL" if syntax == JPEGBaseline8Bit else "RGB"
    options: dict[str, Any] = {
        "rows": image.rows,
        "columns": image.columns,
        "samples_per_pixel": image.samples,
        "photometric_interpretation": colour if image.samples == 3 else "MONOCHROME2",
        "planar_configuration": image.planar_configuration if uncompressed and not subsampled else 0,
        "bits_allocated": image.bits_allocated,
        "bits_stored": image.bits_stored,
        "pixel_representation": int(image.signed),
        "number_of_frames": 1,
        "pixel_keyword": "PixelData",
    }
    content = frame if uncompressed else pydicom.encaps.encapsulate([frame])
    plugin = "" if uncompressed else _PLUGINS[syntax]
    values, _ = get_decoder(syntax).as_array(content, index=0, raw=True, decoding_plugin=plugin, **options)
    return values


def _as_rgb(values: Values, space: Colour, image: ImagePixel) -> Pixels:
    if values.dtype != np.uint8:
        raise ExcludedError("unsupported_pixels", "a colour image of other than 8 bits a channel")
    pixels: Pixels = values.astype(np.uint8, copy=False)
    found = space_of(pixels, space, image.photometric_interpretation)
    if found is None:
        raise ExcludedError("unknown_colour", "neither the header nor the stream says what the colours mean")
    if found == "rgb":
        return pixels
    # OpenCV's order is Y, Cr, Cb; its conversion is that of JFIF, which DICOM's YBR_FULL is (PS3.3 C.7.6.3.1.2).
    return np.asarray(cv2.cvtColor(np.ascontiguousarray(pixels[..., [0, 2, 1]]), cv2.COLOR_YCrCb2RGB), dtype=np.uint8)

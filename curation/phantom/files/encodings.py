"""Compressed transfer syntaxes: from a frame's pixels to its fragment."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image
from pydicom.pixels.encoders.base import get_encoder
from pydicom.uid import (
    UID,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

Pixels = npt.NDArray[np.uint8]

_JPEG_QUALITY = 92
_JPEG_SUBSAMPLING = "4:2:2"  # PS3.3 C.7.6.3.1.2: YBR_FULL_422


def _jpeg(frame: Pixels) -> bytes:
    """JPEG Baseline; Pillow converts RGB to YCbCr."""
    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, "JPEG", quality=_JPEG_QUALITY, subsampling=_JPEG_SUBSAMPLING)
    return buffer.getvalue()


def _jpeg_lossless(frame: Pixels) -> bytes:
    """JPEG Lossless, which pydicom cannot encode, by GDCM."""
    import gdcm

    writer = gdcm.ImageWriter()
    image = writer.GetImage()  # owned by the writer, which must not go out of scope first
    kind = gdcm.PhotometricInterpretation
    image.SetNumberOfDimensions(2)
    image.SetDimensions((frame.shape[1], frame.shape[0], 1))
    image.SetPhotometricInterpretation(kind(kind.RGB if frame.ndim == 3 else kind.MONOCHROME2))
    image.SetPixelFormat(gdcm.PixelFormat(3 if frame.ndim == 3 else 1, 8, 8, 7, 0))
    image.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.ExplicitVRLittleEndian))
    raw = gdcm.DataElement(gdcm.Tag(0x7FE0, 0x0010))
    raw.SetByteStringValue(frame.tobytes())
    image.SetDataElement(raw)
    change = gdcm.ImageChangeTransferSyntax()
    change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.JPEGLosslessProcess14_1))
    change.SetInput(image)
    if not change.Change():
        raise RuntimeError("GDCM does not encode JPEG Lossless")
    fragments = change.GetOutput().GetDataElement().GetSequenceOfFragments()
    assert fragments.GetNumberOfFragments() == 1
    # The Python binding returns bytes as text.
    text: str = fragments.GetFragment(0).GetByteValue().GetBuffer()
    return text.encode("utf-8", "surrogateescape")


def _by_pydicom(syntax: UID, plugin: str, color: str = "RGB") -> Callable[[Pixels], bytes]:
    """An encoder by pydicom's plugin; ``color`` is the Photometric Interpretation to encode colour in."""

    def encode(frame: Pixels) -> bytes:
        colored = frame.ndim == 3
        return get_encoder(syntax).encode(
            frame,
            encoding_plugin=plugin,
            rows=frame.shape[0],
            columns=frame.shape[1],
            number_of_frames=1,
            samples_per_pixel=3 if colored else 1,
            planar_configuration=0,
            photometric_interpretation=color if colored else "MONOCHROME2",
            bits_allocated=8,
            bits_stored=8,
            pixel_representation=0,
        )

    return encode


@dataclass(frozen=True)
class Encoding:
    """How one frame becomes one fragment; ``color`` is the Photometric Interpretation of encoded colour images."""

    encode: Callable[[Pixels], bytes]
    color: str
    lossy_method: str = ""


# As in the reader, the encoder is fixed, not whichever is installed: bytes must be the same everywhere. GDCM's RLE
# takes a quarter of pylibjpeg's time and a thirtieth of pydicom's.
ENCODINGS: Mapping[UID, Encoding] = {
    RLELossless: Encoding(_by_pydicom(RLELossless, "gdcm"), "RGB"),
    JPEGBaseline8Bit: Encoding(_jpeg, "YBR_FULL_422", lossy_method="ISO_10918_1"),
    JPEGLosslessSV1: Encoding(_jpeg_lossless, "RGB"),
    JPEGLSLossless: Encoding(_by_pydicom(JPEGLSLossless, "pyjpegls"), "RGB"),
    JPEG2000Lossless: Encoding(_by_pydicom(JPEG2000Lossless, "pylibjpeg", "YBR_RCT"), "YBR_RCT"),
}

TRANSFER_SYNTAXES: tuple[UID, ...] = (ExplicitVRLittleEndian, ImplicitVRLittleEndian, *ENCODINGS)
"""Transfer syntaxes that can be written."""

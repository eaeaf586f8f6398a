"""Compressed frames of a known picture, and DICOM files around them whose headers tests may falsify."""

from __future__ import annotations

import io
from collections.abc import Sequence

import cv2
import jpeg_ls
import numpy as np
import numpy.typing as npt
import pydicom
import pydicom.encaps
from openjpeg.utils import encode_array
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.pixels.encoders.base import get_encoder
from pydicom.uid import (
    UID,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

Picture = npt.NDArray[np.uint8]

SINGLE, MULTI = "1.2.840.10008.5.1.4.1.1.6.1", "1.2.840.10008.5.1.4.1.1.3.1"


def picture(seed: int = 0, height: int = 60, width: int = 80, colour: bool = True) -> Picture:
    """Grey speckle in a fan on black, with a patch of colour flow: most pixels are grey, as in real frames."""
    random = np.random.default_rng(seed)
    grey = cv2.GaussianBlur(random.rayleigh(70, (height, width)).clip(0, 255).astype(np.uint8), (0, 0), 1.5)
    y, x = np.mgrid[:height, :width]
    grey = np.where(np.hypot(y + 10, x - width / 2) < height * 0.95, grey, 0).astype(np.uint8)
    if not colour:
        return grey
    pixels = np.dstack([grey, grey, grey])
    pixels[20:30, 30:45] = (200, 30, 20)
    return pixels


def ycbcr(pixels: Picture) -> Picture:
    """The same picture as Y, Cb, Cr (JFIF)."""
    return np.ascontiguousarray(cv2.cvtColor(pixels, cv2.COLOR_RGB2YCrCb)[..., [0, 2, 1]], dtype=np.uint8)


def jpeg(pixels: Picture, *, colour: str = "jfif") -> bytes:
    """Baseline JPEG of RGB or grey pixels.

    Args:
        colour: ``jfif`` (YCbCr with an APP0 marker), ``bare`` (YCbCr without any marker that says so), ``rgb`` (stored
            as RGB, with Adobe's marker), ``rgb_ids`` (stored as RGB, component ids R, G and B, no marker).
    """
    buffer = io.BytesIO()
    image = Image.fromarray(pixels)
    image.save(buffer, "JPEG", quality=95, subsampling=0, **({"keep_rgb": True} if colour.startswith("rgb") else {}))
    content = buffer.getvalue()
    if colour in ("bare", "rgb_ids"):
        content = without_segments(content, (0xE0, 0xEE))
    return content


def without_segments(content: bytes, markers: Sequence[int]) -> bytes:
    """A JPEG stream without some marker segments before its first scan."""
    kept, position = [content[:2]], 2
    while content[position + 1] != 0xDA:
        length = 2 + int.from_bytes(content[position + 2 : position + 4], "big")
        if content[position + 1] not in markers:
            kept.append(content[position : position + length])
        position += length
    return b"".join([*kept, content[position:]])


def jpeg2000(pixels: Picture, *, transform: bool) -> bytes:
    """Lossless JPEG 2000, with or without the multiple component transform."""
    colour = 1 if pixels.ndim == 3 and transform else 0
    encoded: bytes = encode_array(pixels, photometric_interpretation=colour, use_mct=transform)
    return encoded


def lossless(pixels: Picture, syntax: UID) -> bytes:
    """RLE or JPEG-LS: values as they are."""
    if syntax == JPEGLSLossless:
        return bytes(jpeg_ls.encode_array(pixels))
    samples = 3 if pixels.ndim == 3 else 1
    return bytes(
        get_encoder(syntax).encode(
            pixels,
            rows=pixels.shape[0],
            columns=pixels.shape[1],
            samples_per_pixel=samples,
            photometric_interpretation="RGB" if samples == 3 else "MONOCHROME2",
            planar_configuration=0,
            bits_allocated=8,
            bits_stored=8,
            pixel_representation=0,
            number_of_frames=1,
            transfer_syntax_uid=ExplicitVRLittleEndian,
        )
    )


def dicom(
    frames: Sequence[bytes],
    syntax: UID,
    *,
    rows: int = 60,
    columns: int = 80,
    samples: int = 3,
    label: str = "RGB",
    sop_class: str = SINGLE,
    **attributes: object,
) -> Dataset:
    """An ultrasound data set around frames that are compressed already, or around native bytes."""
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = syntax
    data.file_meta.MediaStorageSOPClassUID = UID(sop_class)
    data.file_meta.MediaStorageSOPInstanceUID = UID("1.2.3.4")
    data.SOPClassUID, data.SOPInstanceUID = UID(sop_class), UID("1.2.3.4")
    data.Modality, data.PatientID, data.StudyInstanceUID = "US", "P1", "1.2.3"
    data.Rows, data.Columns, data.SamplesPerPixel = rows, columns, samples
    data.PhotometricInterpretation = label
    data.BitsAllocated = data.BitsStored = 8
    data.HighBit, data.PixelRepresentation = 7, 0
    if samples == 3:
        data.PlanarConfiguration = 0
    compressed = syntax.is_encapsulated
    data.PixelData = pydicom.encaps.encapsulate(list(frames)) if compressed else b"".join(frames)
    if len(data.PixelData) % 2:
        data.PixelData += b"\0"
    data["PixelData"].VR = "OB"
    data["PixelData"].is_undefined_length = compressed
    for name, value in attributes.items():
        setattr(data, name, value)
    return data


def content(data: Dataset) -> bytes:
    """The file's bytes."""
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, data, enforce_file_format=True)
    return buffer.getvalue()


SYNTAXES = {
    "native": ExplicitVRLittleEndian,
    "rle": RLELossless,
    "jpeg": JPEGBaseline8Bit,
    "jpeg_lossless": JPEGLosslessSV1,
    "jpeg_ls": JPEGLSLossless,
    "jpeg_2000": JPEG2000Lossless,
}

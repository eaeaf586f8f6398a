"""What kind of image a file is, by its first bytes and not by its name."""

from __future__ import annotations

SIGNATURE_BYTES = 132
"""How many bytes of a file are enough to tell."""

_MAGIC = {b"\x89PNG": "png", b"\xff\xd8\xff": "jpeg", b"II*\0": "tiff", b"MM\0*": "tiff", b"BM": "bmp"}


def image_kind(content: bytes) -> str | None:
    """``dicom``, ``png``, ``jpeg``, ``tiff`` or ``bmp``; None for anything else."""
    # DICOM first: the preamble of a DICOM file (PS3.10 7.1) may be a TIFF header.
    return "dicom" if content[128:132] == b"DICM" else raster_kind(content)


def raster_kind(content: bytes) -> str | None:
    """``png``, ``jpeg``, ``tiff`` or ``bmp``; None for anything else."""
    return next((kind for magic, kind in _MAGIC.items() if content.startswith(magic)), None)

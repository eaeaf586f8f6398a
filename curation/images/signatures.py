"""What kind of image a file is, by its first bytes and not by its name."""

from __future__ import annotations

from pathlib import Path

SIGNATURE_BYTES = 132
"""How many bytes of a file are enough to tell."""

_MAGIC = {b"\x89PNG": "png", b"\xff\xd8\xff": "jpeg", b"II*\0": "tiff", b"MM\0*": "tiff", b"BM": "bmp"}


def image_kind(content: bytes) -> str | None:
    """``dicom``, ``png``, ``jpeg``, ``tiff`` or ``bmp``; None for anything else."""
    # DICOM first: the preamble of a DICOM file (PS3.10 7.1) may be a TIFF header.
    return raster_kind(content) if content[128:132] != b"DICM" and not _is_old_dicom(content) else "dicom"


def read_image_file(path: Path) -> tuple[bytes, str | None]:
    """A file's content and its ``image_kind``; of a file of no kind only the first bytes, however large it is.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        head = file.read(SIGNATURE_BYTES)
        kind = image_kind(head)
        return (head + file.read() if kind else head), kind


def raster_kind(content: bytes) -> str | None:
    """``png``, ``jpeg``, ``tiff`` or ``bmp``; None for anything else."""
    return next((kind for magic, kind in _MAGIC.items() if content.startswith(magic)), None)


def _is_old_dicom(content: bytes) -> bool:
    """Files of before 1995 have neither preamble nor file meta: they begin with an element of group 0002 or 0008.

    Its length is one that an identifying element may have.
    """
    if content[:2] not in (b"\x08\x00", b"\x02\x00") or len(content) < 16:
        return False
    explicit = content[4:6].isalpha() and content[4:6].isupper()
    length = int.from_bytes(content[6:8] if explicit else content[4:8], "little")
    return content[3] < 0x20 and length <= 1024

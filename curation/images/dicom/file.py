"""A DICOM file taken apart: its header as a data set, its transfer syntax, and its pixel data still as bytes.

The pixel data is not left to pydicom, which gives nothing at all of a file that ends within it. A deflated file is
inflated here, because pydicom inflates whatever it is given.
"""

from __future__ import annotations

import io
import zlib
from typing import NamedTuple

import pydicom
from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset
from pydicom.tag import BaseTag
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from sono.curation.images.pixels import ExcludedError

INFLATED_MOST = 1 << 30
"""Bytes of a deflated file: more than any cine of a scanner."""

_PREAMBLE = 128
_PIXEL_DATA = BaseTag(0x7FE00010)
_UNDEFINED = 0xFFFFFFFF
_LONG_VR = (b"OB", b"OW", b"OF", b"OD", b"OL", b"OV", b"UN")
_DAMAGED = ("damaged_dicom", "the DICOM header is damaged or truncated")
_UNSUPPORTED = ("unsupported_transfer_syntax", "no decoder for the DICOM transfer syntax")


class DicomFile(NamedTuple):
    """``pixels`` is the value of Pixel Data, up to the end of the file where it is cut short; None without one.

    ``encapsulated``: the element has no length, as compressed pixel data (PS3.5 A.4).
    """

    dataset: Dataset
    syntax: UID
    pixels: bytes | None
    encapsulated: bool
    words: bool  # the element is OW: big-endian files store its bytes in pairs


def read_dicom_file(content: bytes) -> DicomFile:
    """Take a file apart.

    Raises:
        ExcludedError: the header is damaged, the transfer syntax unknown, or the file inflates beyond all bounds.
    """
    try:
        dataset, syntax, rest = _read_header(content)
    except ExcludedError:
        raise
    except Exception:  # noqa: BLE001 - pydicom raises whatever a damaged header makes it stumble over
        raise ExcludedError(*_DAMAGED) from None
    element = _pixel_element(rest, implicit=syntax == ImplicitVRLittleEndian, big=syntax == ExplicitVRBigEndian)
    return DicomFile(dataset, syntax, *element)


def _read_header(content: bytes) -> tuple[Dataset, UID, bytes]:
    """The data set before Pixel Data, the transfer syntax, and the bytes from Pixel Data on."""
    if content[_PREAMBLE : _PREAMBLE + 4] != b"DICM":
        return _read_without_meta(content)
    meta_end, syntax = _file_meta(content)
    if syntax == DeflatedExplicitVRLittleEndian:
        inflated = _inflate(content[meta_end:])
        file = io.BytesIO(inflated)
        deflated = read_dataset(file, is_implicit_VR=False, is_little_endian=True, stop_when=_at_pixel_data)
        return deflated, syntax, inflated[file.tell() :]
    file = io.BytesIO(content)
    dataset = pydicom.dcmread(file, stop_before_pixels=True)
    return dataset, syntax, content[file.tell() :]


def _read_without_meta(content: bytes) -> tuple[Dataset, UID, bytes]:
    """An old file: nothing compressed, and pydicom finds out whether it names its value representations."""
    file = io.BytesIO(content)
    dataset = pydicom.dcmread(file, stop_before_pixels=True, force=True)
    named = str(dataset.file_meta.get("TransferSyntaxUID", "")) if dataset.file_meta else ""
    implicit = dataset.original_encoding[0]
    syntax = UID(named) if named else ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian
    return dataset, syntax, content[file.tell() :]


def _file_meta(content: bytes) -> tuple[int, UID]:
    """Where the file meta information ends (PS3.10 7.1: explicit VR, little endian), and its transfer syntax.

    Raises:
        ExcludedError: it names no transfer syntax.
    """
    position, syntax = _PREAMBLE + 4, ""
    while content[position : position + 2] == b"\x02\x00":
        number, vr = content[position + 2 : position + 4], content[position + 4 : position + 6]
        if vr in _LONG_VR:
            start, length = position + 12, int.from_bytes(content[position + 8 : position + 12], "little")
        else:
            start, length = position + 8, int.from_bytes(content[position + 6 : position + 8], "little")
        if start + length > len(content):
            raise ExcludedError(*_DAMAGED)
        if number == b"\x10\x00":
            syntax = content[start : start + length].decode("ascii", "replace").strip("\0 ")
        position = start + length
    if not syntax:
        raise ExcludedError(*_UNSUPPORTED)
    return position, UID(syntax)


def _inflate(content: bytes) -> bytes:
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    inflated = inflater.decompress(content, INFLATED_MOST)
    if inflater.unconsumed_tail:
        raise ExcludedError("too_large", "the deflated file inflates to more than any ultrasound image holds")
    return inflated


def _at_pixel_data(tag: BaseTag, vr: str | None, length: int) -> bool:
    return bool(tag == _PIXEL_DATA)


def _pixel_element(content: bytes, *, implicit: bool, big: bool) -> tuple[bytes | None, bool, bool]:
    """The value of the element that ``content`` begins with, if it is Pixel Data; encapsulated or not; OW or not."""
    order = "big" if big else "little"
    if content[:4] != (b"\x7f\xe0\x00\x10" if big else b"\xe0\x7f\x10\x00"):
        return None, False, False
    vr = b"OW" if implicit else content[4:6]
    start = 8 if implicit else 12
    length = int.from_bytes(content[start - 4 : start], order)  # type: ignore[arg-type]
    encapsulated = length == _UNDEFINED
    return content[start:] if encapsulated else content[start : start + length], encapsulated, vr == b"OW"

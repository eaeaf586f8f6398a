"""PNG files (ISO/IEC 15948): size, chunks, and whether they hold exactly the rows that the header promises."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from isal import isal_zlib

from .stream import DamagedStreamError

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by colour type
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
_BLOCK = 1 << 20


class Header(NamedTuple):
    """IHDR, the first chunk."""

    width: int
    height: int
    bits: int
    channels: int
    interlaced: bool


def read_header(content: bytes) -> Header:
    """Width and height before anything is inflated.

    Raises:
        DamagedStreamError: the signature or the first chunk is damaged.
    """
    if content[:8] != SIGNATURE or content[8:16] != b"\0\0\0\rIHDR" or len(content) < 33:
        raise DamagedStreamError("no PNG header")
    width, height = int.from_bytes(content[16:20], "big"), int.from_bytes(content[20:24], "big")
    bits, colour, interlace = content[24], content[25], content[28]
    if not width or not height or colour not in _CHANNELS or interlace > 1:
        raise DamagedStreamError("the PNG header is damaged")
    return Header(width, height, bits, _CHANNELS[colour], interlace == 1)


def check_complete(content: bytes, header: Header) -> None:
    """Inflate the rows without keeping them. Decoders only warn of what follows the last row, and fill what is missing.

    Raises:
        DamagedStreamError: a chunk is cut short, rows are missing or left over, or something follows the end.
    """
    inflater, length = isal_zlib.decompressobj(), 0
    wanted = _row_bytes(header)
    for data in _image_data(content):
        pending = data
        while pending and not inflater.eof:
            try:
                length += len(inflater.decompress(pending, _BLOCK))
            except isal_zlib.error:  # type: ignore[misc]  # its stub declares an instance, not a class
                raise DamagedStreamError("the PNG's rows are damaged") from None
            pending = inflater.unconsumed_tail
            if length > wanted:
                raise DamagedStreamError("more rows than the PNG's header says")
        if inflater.eof and inflater.unused_data:
            raise DamagedStreamError("something follows the PNG's rows")
    if length != wanted or not inflater.eof:
        raise DamagedStreamError("fewer rows than the PNG's header says")


def _image_data(content: bytes) -> Iterator[bytes]:
    """The IDAT chunks, up to the end chunk."""
    position = len(SIGNATURE)
    while True:
        length = int.from_bytes(content[position : position + 4], "big")
        kind = content[position + 4 : position + 8]
        end = position + 12 + length
        if len(kind) < 4 or end > len(content):
            raise DamagedStreamError("a PNG chunk is cut short")
        if kind == b"IDAT":
            yield content[position + 8 : end - 4]
        if kind == b"IEND":
            if content[end:].strip(b"\0"):
                raise DamagedStreamError("something follows the PNG's end")
            return
        position = end


def _row_bytes(header: Header) -> int:
    """Bytes of all rows, each with its filter byte; of all seven passes where the image is interlaced."""
    depth = header.bits * header.channels
    if not header.interlaced:
        return header.height * (1 + (header.width * depth + 7) // 8)
    total = 0
    for left, top, across, down in _ADAM7:
        columns = -(-(header.width - left) // across) if header.width > left else 0
        rows = -(-(header.height - top) // down) if header.height > top else 0
        total += rows * (1 + (columns * depth + 7) // 8) if columns else 0
    return total

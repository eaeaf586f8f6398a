"""PNG files (ISO/IEC 15948): size, chunks, and whether they hold exactly the rows that the header promises."""

from __future__ import annotations

import zlib
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


def inflate(content: bytes, header: Header) -> bytes:
    """The same image with its rows inflated: one IDAT chunk of stored blocks (RFC 1951 3.2.4), all else as it was.

    Decoders only warn of what follows the last row, and fill what is missing. Here the rows are counted, by a library
    that inflates three times as fast as zlib, and those that were counted are the ones that a decoder then reads.

    Raises:
        DamagedStreamError: a chunk is cut short, rows are missing or left over, or something follows the end.
    """
    before, data, after = _chunks(content)
    rows = zlib.compress(_rows(data, _row_bytes(header)), level=0)
    checksum = isal_zlib.crc32(rows, isal_zlib.crc32(b"IDAT"))
    return b"".join([*before, len(rows).to_bytes(4, "big"), b"IDAT", rows, checksum.to_bytes(4, "big"), *after])


def _rows(data: list[memoryview], wanted: int) -> bytearray:
    """What the image data inflates to, which has to be ``wanted`` bytes; never more is inflated."""
    inflater, rows = isal_zlib.decompressobj(), bytearray()
    for pending in data:
        if pending and inflater.eof:
            raise DamagedStreamError("something follows the PNG's rows")
        while pending and not inflater.eof:
            try:
                rows += inflater.decompress(pending, _BLOCK)
            except isal_zlib.error:  # type: ignore[misc]  # its stub declares an instance, not a class
                raise DamagedStreamError("the PNG's rows are damaged") from None
            pending = memoryview(inflater.unconsumed_tail)
            if len(rows) > wanted:
                raise DamagedStreamError("more rows than the PNG's header says")
        if inflater.eof and inflater.unused_data:
            raise DamagedStreamError("something follows the PNG's rows")
    if len(rows) != wanted or not inflater.eof:
        raise DamagedStreamError("fewer rows than the PNG's header says")
    return rows


def _chunks(content: bytes) -> tuple[list[memoryview], list[memoryview], list[memoryview]]:
    """What precedes the image data, with the signature; the data of the IDAT chunks; what follows them, up to IEND."""
    view, position = memoryview(content), len(SIGNATURE)
    before: list[memoryview] = [view[:position]]
    data: list[memoryview] = []
    after: list[memoryview] = []
    while True:
        length = int.from_bytes(content[position : position + 4], "big")
        kind = content[position + 4 : position + 8]
        end = position + 12 + length
        if len(kind) < 4 or end > len(content):
            raise DamagedStreamError("a PNG chunk is cut short")
        if kind == b"IDAT":
            data.append(view[position + 8 : end - 4])
            if isal_zlib.crc32(view[position + 4 : end - 4]) != int.from_bytes(content[end - 4 : end], "big"):
                raise DamagedStreamError("a PNG chunk is damaged")
        else:
            (after if data else before).append(view[position:end])
        if kind == b"IEND":
            if length or content[end:].strip(b"\0"):
                raise DamagedStreamError("something follows the PNG's end")
            return before, data, after
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

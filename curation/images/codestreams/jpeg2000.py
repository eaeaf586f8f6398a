"""JPEG 2000 and HTJ2K streams (ITU-T T.800, T.814): size, components, colour transform, and that no tile is missing."""

from __future__ import annotations

from .stream import Colour, DamagedStreamError, Stream

SOC = b"\xff\x4f\xff\x51"  # start of codestream, then the size segment
JP2 = b"\x00\x00\x00\x0cjP  \r\n\x87\n"
_SIZ, _COD, _SOT, _EOC = 0xFF51, 0xFF52, 0xFF90, b"\xff\xd9"
_MOST_TILES = 65_535  # T.800, table A.2


def inspect(content: bytes) -> Stream:
    """Read the main header and every tile-part's header of one image.

    Raises:
        DamagedStreamError: a header is damaged, a tile is missing or cut short, or the stream has no end.
    """
    start = _codestream_start(content)
    if content[start : start + 4] != SOC:
        raise DamagedStreamError("no start of codestream")
    size = b""
    style = b""
    position = start + 2
    while True:
        marker = int.from_bytes(content[position : position + 2], "big")
        if marker == _SOT:
            break
        length = int.from_bytes(content[position + 2 : position + 4], "big")
        if marker < 0xFF00 or length < 2 or position + 2 + length > len(content):
            raise DamagedStreamError("the main header is damaged or cut short")
        segment = content[position + 4 : position + 2 + length]
        if marker == _SIZ:
            size = segment
        elif marker == _COD:
            style = segment
        position += 2 + length
    width, height, tiles, bits = _size(size)
    if len(style) < 10:
        raise DamagedStreamError("no coding style")
    end = _end_of_tiles(content, position, tiles, most_empty=_packets(style, width, height, len(bits)))
    return Stream(width, height, len(bits), max(bits), _colour(len(bits), transform=style[4]), end)


def _codestream_start(content: bytes) -> int:
    """Zero, or where the codestream begins in a file of the JP2 format, which DICOM forbids and some write."""
    if not content.startswith(JP2[:12]):
        return 0
    found = content.find(b"jp2c")
    if found < 0:
        raise DamagedStreamError("a JP2 file without a codestream")
    return found + 4


def _size(segment: bytes) -> tuple[int, int, int, list[int]]:
    """Width and height (px), number of tiles, and bits of each component."""
    if len(segment) < 36:
        raise DamagedStreamError("no image size")
    right, bottom, left, top, tile_width, tile_height, tile_left, tile_top = (
        int.from_bytes(segment[at : at + 4], "big") for at in range(2, 34, 4)
    )
    count = int.from_bytes(segment[34:36], "big")
    parts = [segment[36 + 3 * number : 39 + 3 * number] for number in range(count)]
    if not parts or any(len(part) < 3 for part in parts) or not (left < right and top < bottom):
        raise DamagedStreamError("the image size is damaged")
    if any(part[1:] != b"\x01\x01" for part in parts):
        raise DamagedStreamError("components of different sizes")
    if not (tile_width and tile_height and tile_left <= left and tile_top <= top):
        raise DamagedStreamError("the tile size is damaged")
    tiles = -(-(right - tile_left) // tile_width) * -(-(bottom - tile_top) // tile_height)
    if not 0 < tiles <= _MOST_TILES:
        raise DamagedStreamError("an impossible number of tiles")
    return right - left, bottom - top, tiles, [(part[0] & 0x7F) + 1 for part in parts]


def _packets(style: bytes, width: int, height: int, components: int) -> int:
    """At most how many packets a tile has: each takes one zero byte where it is empty (T.800 A.6.1, B.6, B.10)."""
    layers, levels = int.from_bytes(style[2:4], "big"), style[5]
    sizes = style[10 : 11 + levels] if style[0] & 1 else bytes([0xFF] * (levels + 1))
    precincts = 0
    for level, exponents in enumerate(sizes):
        scale = levels - level
        across, down = max(1, width >> scale), max(1, height >> scale)
        precincts += (across // (1 << (exponents & 15)) + 2) * (down // (1 << (exponents >> 4)) + 2)
    return layers * components * precincts


def _end_of_tiles(content: bytes, position: int, tiles: int, most_empty: int) -> int:
    """Where the stream ends: behind its last tile-part and the end marker."""
    seen: set[int] = set()
    while content[position : position + 2] == b"\xff\x90":
        tile = int.from_bytes(content[position + 4 : position + 6], "big")
        length = int.from_bytes(content[position + 6 : position + 10], "big")
        if length == 0:  # the last tile-part reaches to the end marker
            length = content.rfind(_EOC) - position
        if length < 14 or position + length > len(content):
            raise DamagedStreamError("a tile is cut short")
        part = content[position : position + length]
        if len(part) - len(part.rstrip(b"\0")) > most_empty:
            raise DamagedStreamError("a tile's end is filled with zeros")
        seen.add(tile)
        position += length
    if content[position : position + 2] != _EOC:
        raise DamagedStreamError("no end of codestream")
    if seen != set(range(tiles)):
        raise DamagedStreamError("a tile is missing")
    return position + 2


def _colour(components: int, transform: int) -> Colour:
    """The multiple component transform turns RGB into YCbCr and back: decoders give RGB where it was used."""
    if components == 1:
        return "grey"
    return "rgb" if components == 3 and transform == 1 else "unknown"

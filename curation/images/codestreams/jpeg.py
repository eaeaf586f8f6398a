"""JPEG streams (ITU-T T.81) and JPEG-LS streams (ITU-T T.87): frame header, colour, and where the stream ends."""

from __future__ import annotations

import re
from typing import NamedTuple

from .stream import Colour, DamagedStreamError, Stream

SOI = b"\xff\xd8"
_EOI, _SOS, _DNL = 0xD9, 0xDA, 0xDC
_APP0, _APP8, _APP14 = 0xE0, 0xE8, 0xEE
_STANDALONE = {0x01, *range(0xD0, 0xD8)}  # TEM and RST0 to RST7 have no length
_FRAMES = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}  # SOFn; 0xF7 is JPEG-LS's SOF55
_JPEG_LS = 0xF7
_WITHOUT_COLOUR = {_JPEG_LS, 0xC3, 0xC7, 0xCB, 0xCF}  # JPEG-LS and lossless JPEG store values as they were
_AFTER_SCAN = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")  # a marker: stuffed zeros, restarts and fill bytes are none
_AFTER_SCAN_LS = re.compile(rb"\xff[\x80-\xcf\xd8-\xfe]")  # T.87: a byte below 0x80 after 0xFF belongs to the scan
_ADOBE_COLOURS: dict[int, Colour] = {0: "rgb", 1: "ycbcr"}


class _Frame(NamedTuple):
    marker: int
    bits: int
    height: int
    width: int
    ids: tuple[int, ...]


def inspect(content: bytes) -> Stream:
    """Read the markers of one JPEG or JPEG-LS image.

    Raises:
        DamagedStreamError: a marker is missing or damaged, or the stream has no end.
    """
    if content[:2] != SOI:
        raise DamagedStreamError("no start of image")
    frame: _Frame | None = None
    adobe, jfif, scans = None, False, 0
    position = 2
    while True:
        marker, position = _next_marker(content, position)
        if marker == _EOI:
            break
        if marker in _STANDALONE:
            continue
        segment, position = _segment(content, position)
        if marker in _FRAMES:
            frame = _frame_header(marker, segment, frame)
        elif marker == _DNL and frame is not None and len(segment) >= 2:  # number of lines, where the header has none
            frame = frame._replace(height=int.from_bytes(segment[:2], "big"))
        elif marker == _APP14 and segment[:5] == b"Adobe" and len(segment) >= 12:
            adobe = segment[11]
        elif marker == _APP0 and segment[:5] == b"JFIF\0":
            jfif = True
        elif marker == _APP8 and segment[:4] == b"mrfx" and len(segment) > 4 and segment[4]:
            raise DamagedStreamError("a colour transform of HP's, which decoders ignore")
        elif marker == _SOS:
            if frame is None:
                raise DamagedStreamError("a scan before its frame header")
            scans += 1
            position = _scan_end(content, position, _AFTER_SCAN_LS if frame.marker == _JPEG_LS else _AFTER_SCAN)
    if frame is None or not scans or not frame.width or not frame.height:
        raise DamagedStreamError("no image before the end")
    return Stream(
        width=frame.width,
        height=frame.height,
        components=len(frame.ids),
        bits=frame.bits,
        colour=_colour(frame, adobe, jfif),
        length=position,
    )


def _next_marker(content: bytes, position: int) -> tuple[int, int]:
    if position >= len(content) or content[position] != 0xFF:
        raise DamagedStreamError("no marker where one belongs, or no end of image")
    while position < len(content) and content[position] == 0xFF:  # fill bytes may stand before a marker
        position += 1
    if position >= len(content):
        raise DamagedStreamError("no end of image")
    return content[position], position + 1


def _segment(content: bytes, position: int) -> tuple[bytes, int]:
    length = int.from_bytes(content[position : position + 2], "big")
    if length < 2 or position + length > len(content):
        raise DamagedStreamError("a marker's segment is cut short")
    return content[position + 2 : position + length], position + length


def _frame_header(marker: int, segment: bytes, before: _Frame | None) -> _Frame:
    if before is not None:
        raise DamagedStreamError("two frame headers in one image")
    if len(segment) < 6 or len(segment) < 6 + 3 * segment[5]:
        raise DamagedStreamError("the frame header is cut short")
    ids = tuple(segment[6 + 3 * number] for number in range(segment[5]))
    return _Frame(marker, segment[0], int.from_bytes(segment[1:3], "big"), int.from_bytes(segment[3:5], "big"), ids)


def _scan_end(content: bytes, position: int, marker: re.Pattern[bytes]) -> int:
    """Where the marker after a scan's entropy-coded data begins."""
    found = marker.search(content, position)
    if found is None:
        raise DamagedStreamError("no end of image")
    return found.start()


def _colour(frame: _Frame, adobe: int | None, jfif: bool) -> Colour:
    """The rules of libjpeg, also in ITU-T T.872: JFIF or Adobe's transform, else component ids that spell RGB."""
    if len(frame.ids) == 1:
        return "grey"
    if len(frame.ids) != 3 or frame.marker in _WITHOUT_COLOUR:
        return "unknown"
    if jfif:
        return "ycbcr"
    if adobe is not None:
        return _ADOBE_COLOURS.get(adobe, "unknown")
    return "rgb" if bytes(frame.ids) == b"RGB" else "unknown"

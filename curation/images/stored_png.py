"""The lossless PNG that a frame is stored as."""

from __future__ import annotations

import struct

import cv2
import numpy as np
from isal import isal_zlib

from .pixels import ExcludedError, Pixels

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_GREY, _RGB = 0, 2


def encode_png(pixels: Pixels) -> bytes:
    """Lossless PNG without any metadata."""
    done, encoded = cv2.imencode(".png", pixels if pixels.ndim == 2 else cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))
    assert done
    return encoded.tobytes()


def decode_png(content: bytes) -> Pixels:
    """The pixels of a PNG that ``encode_png`` or ``bare_png`` made.

    Raises:
        ExcludedError: the bytes do not decode.
    """
    decoded = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    if decoded is None or decoded.dtype != np.uint8:
        raise ExcludedError("undecodable", "the stored image does not decode")
    return np.asarray(decoded if decoded.ndim == 2 else cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB), dtype=np.uint8)


def bare_png(content: bytes, pixels: Pixels) -> bytes | None:
    """The same PNG with nothing but its pixels, or None if it has to be encoded again.

    Compressing a PNG costs more than decoding it. Only the chunks that carry pixels (IHDR, IDAT, IEND) are kept, so
    text, time and profile chunks, and anything after the end, are dropped. Images that need another chunk to look right
    (palette, transparency, interlacing, 16 bit), or whose decoded shape differs from the stored one, return None.
    """
    header = struct.unpack_from(">IIBBBBB", content, 16)
    channels = {_GREY: (), _RGB: (3,)}.get(header[3])
    if (
        channels is None
        or header[2] != 8
        or header[4:] != (0, 0, 0)
        or pixels.shape != (header[1], header[0], *channels)
    ):
        return None
    kept = [_SIGNATURE]
    position = len(_SIGNATURE)
    while position + 12 <= len(content):
        (length,) = struct.unpack_from(">I", content, position)
        kind = content[position + 4 : position + 8]
        chunk = content[position : position + 12 + length]
        if kind in (b"PLTE", b"tRNS", b"gAMA"):
            return None
        if kind in (b"IHDR", b"IDAT", b"IEND"):
            if len(chunk) != 12 + length or isal_zlib.crc32(chunk[4:-4]) != struct.unpack(">I", chunk[-4:])[0]:
                return None
            kept.append(chunk)
        if kind == b"IEND":
            return b"".join(kept)
        position += 12 + length
    return None

"""Pixel data cut into frames by what is there, whatever the header and the offset tables say (PS3.5 A.4)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from sono.curation.images.codestreams import jpeg2000

_ITEM = b"\xfe\xff\x00\xe0"
_STARTS = (b"\xff\xd8\xff", jpeg2000.SOC, jpeg2000.JP2)
_UNDEFINED = 0xFFFFFFFF


class Fragments(NamedTuple):
    """The items of an encapsulated pixel data element, without the basic offset table.

    ``cut`` if the file ends within an item. A missing sequence delimiter alone loses nothing.
    """

    items: list[bytes]
    cut: bool


def fragments(content: bytes) -> Fragments:
    """Read the items that follow the basic offset table; one that is cut short is left out."""
    items: list[bytes] = []
    position = 0
    while content[position : position + 4] == _ITEM:
        length = int.from_bytes(content[position + 4 : position + 8], "little")
        end = position + 8 + length
        if length == _UNDEFINED or end > len(content):
            return Fragments(items[1:], cut=True)
        items.append(content[position + 8 : end])
        position = end
    # The first item is the basic offset table, which PS3.5 requires even where it is empty. Offsets are not used:
    # writers get them wrong, and every frame begins where a stream begins.
    return Fragments(items[1:], cut=False)


def streams(items: Sequence[bytes], counted: int | None) -> list[bytes]:
    """Frames of fragments: one begins with every fragment that starts a stream, and the others continue it.

    RLE has no marker to start with: there every fragment is a frame (PS3.5 A.4.2), as it is where no fragment starts
    a stream at all, and where there are as many fragments as the header counts frames.
    """
    if len(items) == counted or not any(item.startswith(_STARTS) for item in items):
        return list(items)
    frames: list[list[bytes]] = []
    for item in items:
        if item.startswith(_STARTS) or not frames:
            frames.append([])
        frames[-1].append(item)
    return [b"".join(parts) for parts in frames]


def native_frames(content: bytes, frame_bytes: int) -> tuple[list[bytes], int]:
    """Complete frames of uncompressed pixel data, and how many bytes follow them."""
    count = len(content) // frame_bytes
    return [content[number * frame_bytes : (number + 1) * frame_bytes] for number in range(count)], (
        len(content) - count * frame_bytes
    )

"""The files of a cache: their names, their contents, and how to tell whether they are complete.

A folder for each dataset, split and geometry holds Arrow files ("parts") of equally many frames. Images are stored
without their black border, in one channel if they are grey; masks as the 8-bit area of their box, compressed. Both are
read back exactly as they were written.
"""

from __future__ import annotations

import hashlib
import json
import os
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import pyarrow as pa

from sono.training.model.transforms import PadToSquare

from .dataset import Frames
from .shards import map_file

FORMAT = 1
PART_ROWS, BATCH_ROWS = 1024, 64

_BOX = pa.list_(pa.uint16(), 4)  # x, y, width, height in px of the square
SCHEMA = pa.schema(
    [
        pa.field("box", _BOX),
        pa.field("image", pa.binary()),  # channels, rows, columns within the box
        pa.field("crc32", pa.uint32()),  # see ``checksum``
        pa.field(
            "masks", pa.list_(pa.struct([pa.field("box", _BOX), pa.field("data", pa.binary())]))
        ),  # zlib, Adler-32
    ]
)
METADATA = b"sono-cache"
"""The key, in a file's schema, under which ``Layout.metadata`` is written."""


@dataclass(frozen=True)
class Layout:
    """The files of a cache; ``key`` is a digest of everything that decides their bytes."""

    folder: Path
    key: str
    rows: int
    part_rows: int
    batch_rows: int

    @property
    def parts(self) -> int:
        """Number of files."""
        return -(-self.rows // self.part_rows)

    def path(self, part: int) -> Path:
        """The file of a part."""
        return self.folder / f"part-{part:05d}-of-{self.parts:05d}.arrow"

    def rows_of(self, part: int) -> range:
        """The dataset's rows in a part."""
        return range(part * self.part_rows, min((part + 1) * self.part_rows, self.rows))

    def batches_of(self, part: int) -> int:
        """Number of record batches in a part."""
        return -(-len(self.rows_of(part)) // self.batch_rows)

    def place(self, row: int) -> tuple[int, int, int]:
        """Where a row of the dataset is: its part, the batch in that part, and the place in that batch."""
        part, within = divmod(row, self.part_rows)
        return part, *divmod(within, self.batch_rows)

    def metadata(self, part: int) -> bytes:
        """What a part's schema says about it."""
        return json.dumps({"key": self.key, "part": part, "rows": len(self.rows_of(part))}).encode()

    def missing(self) -> list[int]:
        """The parts that do not exist or cannot be what was written; content is checked when it is read."""
        return [part for part in range(self.parts) if not self._is_complete(part)]

    def _is_complete(self, part: int) -> bool:
        try:
            reader = map_file(self.path(part))
        except (pa.ArrowException, OSError):
            return False
        found = (reader.schema.metadata or {}).get(METADATA)
        return found == self.metadata(part) and reader.num_record_batches == self.batches_of(part)


def layout_of(frames: Frames, transform: PadToSquare, root: Path) -> Layout:
    """Where the cache of a split is: another dataset, split, geometry or version of Pillow has another folder."""
    description = frames.description
    content = {
        "format": FORMAT,
        "dataset": description.fingerprint,
        "split": frames.split,
        "geometry": transform.geometry(),
        "pillow": PIL.__version__,  # decodes and resizes
        "rows": [len(frames), PART_ROWS, BATCH_ROWS],
    }
    key = hashlib.sha256(json.dumps(content).encode()).hexdigest()
    name = f"{description.fingerprint[:12]}-{frames.split}-{transform.size}px-{key[:12]}"
    return Layout(root / name, key, len(frames), PART_ROWS, BATCH_ROWS)


def root_of(setting: str) -> Path:
    """The folder that ``data.cache`` names; ``auto`` is a folder below the user's cache folder."""
    if setting != "auto":
        return Path(setting).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sono-curate" / "frames"


def checksum(box: Sequence[int], pixels: Any, masks: Sequence[dict[str, Any]]) -> int:
    """CRC-32 of a row: all boxes, the image's pixels, the compressed masks."""
    boxes = [*box, *(side for mask in masks for side in mask["box"])]
    value = zlib.crc32(pixels, zlib.crc32(np.array(boxes, dtype="<u2").tobytes()))
    for mask in masks:
        value = zlib.crc32(mask["data"], value)
    return value

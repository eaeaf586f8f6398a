"""Frames and masks at the training size, written once and memory-mapped by every process that trains on them.

``cache_layout`` says which files there are, ``cache_builder`` writes them. A part gets its name once it is complete, so
a killed build resumes where it stopped; a lock keeps processes that start together from building it twice.
"""

from __future__ import annotations

import errno
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from sono.manifests.errors import UserError
from sono.manifests.store import in_turn, make_private
from sono.training.model.transforms import PadToSquare, Pixels

from .cache_builder import ANOTHER_DISK, build_parts
from .cache_layout import Layout, checksum, layout_of
from .dataset import Frames
from .shards import map_file


def open_cache(
    frames: Frames,
    transform: PadToSquare,
    root: Path,
    *,
    workers: int = 0,
    notice: Callable[[str], None] = print,
) -> Cache:
    """The cache of a split below ``root``; parts that are missing are written first.

    Processes that start together wait for the one that writes. A complete cache is only read, and may be read-only.

    Args:
        workers: processes that decode; 0 decodes in this one.
        notice: is told what is written, how far it is, and what was damaged.

    Raises:
        UserError: a frame of the dataset is at fault, or the folder cannot be written; what was written stays.
    """
    layout = layout_of(frames, transform, root)
    if layout.missing():
        try:
            make_private(root)
            make_private(layout.folder)
            waiting = f"another process writes the cache; waiting for it: {layout.folder}"
            with in_turn(layout.folder, lambda: notice(waiting)):
                missing = layout.missing()
                if missing:
                    build_parts(missing, frames, transform, layout, workers, notice)
        except OSError as error:
            raise _cannot_write(layout.folder, error) from error
    return Cache(layout, transform)


class Cache:
    """Pixels from a complete cache. Holds no pixels itself; every process maps the files as it needs them."""

    def __init__(self, layout: Layout, transform: PadToSquare) -> None:
        self.layout, self.transform = layout, transform
        self._opened: dict[int, pa.RecordBatchFileReader] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_opened": {}}

    def pair(self, row: int, region: int | None) -> tuple[Pixels, Pixels]:
        """See ``pixels.PixelSource``."""
        part, number, place = self.layout.place(row)
        try:
            if part not in self._opened:
                self._opened[part] = map_file(self.layout.path(part))
            batch = self._opened[part].get_batch(number)
            batch.validate(full=True)  # offsets that point outside the file would crash the process
            box, masks = batch.column("box")[place].as_py(), batch.column("masks")[place].as_py()
            pixels = batch.column("image")[place].as_buffer()
            if checksum(box, pixels, masks) != batch.column("crc32")[place].as_py():
                raise ValueError("checksum")
            image = self._in_square(box, pixels)
            if region is None:
                return image, self.transform.all_one()
            return image, self._in_square(masks[region]["box"], zlib.decompress(masks[region]["data"]))[0]
        except (pa.ArrowException, OSError, ValueError, TypeError, IndexError, zlib.error) as error:
            raise UserError(
                "this file of the cache is damaged",
                where=str(self.layout.path(part)),
                fix="delete it and run again with --resume to rewrite it",
            ) from error

    def _in_square(self, box: Sequence[int], pixels: Any) -> Pixels:
        x, y, width, height = box
        part_CHW = np.frombuffer(pixels, dtype=np.uint8).reshape(-1, height, width)
        square_CHW = np.zeros((len(part_CHW), self.transform.size, self.transform.size), dtype=np.uint8)
        square_CHW[:, y : y + height, x : x + width] = part_CHW
        return square_CHW


def _cannot_write(folder: Path, error: OSError) -> UserError:
    full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    what = "the disk is full" if full else f"the cache cannot be written ({error.strerror or type(error).__name__})"
    return UserError(what, where=str(folder), fix=ANOTHER_DISK)

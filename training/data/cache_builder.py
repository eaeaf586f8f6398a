"""Writes the parts of a cache, one after the other, while loading processes decode."""

from __future__ import annotations

import contextlib
import itertools
import shutil
import time
import zlib
from collections.abc import Callable, Generator, Iterator, Sequence
from functools import partial
from typing import IO, Any

import numpy as np
import pyarrow as pa
from torch.utils.data import DataLoader, Dataset

from sono.manifests.errors import UserError
from sono.manifests.store import write_atomically
from sono.training.model.transforms import PadToSquare, Pixels

from .cache_layout import METADATA, SCHEMA, Layout, checksum
from .dataset import Frames, decode_image, decode_mask
from .workers import start_worker

ANOTHER_DISK = "free space, or choose another disk with --set data.cache=FOLDER, or none; what was written is kept"

_NOTICE_EVERY_S = 30.0


def build_parts(
    missing: Sequence[int],
    frames: Frames,
    transform: PadToSquare,
    layout: Layout,
    workers: int,
    notice: Callable[[str], None],
) -> None:
    """Write the parts ``missing``; call it only while holding the folder's lock.

    Raises:
        UserError: a frame is at fault, or the disk will not hold the rest.
        OSError: a file cannot be written.
    """
    for leftover in layout.folder.glob(".tmp-*"):  # of builds that were killed
        leftover.unlink()
    _announce(missing, layout, transform, notice)
    loader = DataLoader(
        _Rows(frames, transform, layout, missing),
        batch_size=None,
        num_workers=workers,
        collate_fn=_unchanged,
        worker_init_fn=start_worker,
    )
    clock = _Clock(sum(len(layout.rows_of(part)) for part in missing), notice)
    with contextlib.closing(_checked(loader)) as batches:  # an error must end the loading processes, too
        for done, part in enumerate(missing, start=1):
            write_atomically(layout.path(part), partial(_write, part, layout, batches, clock))
            _check_space(layout, part, len(missing) - done)
    written = sum(layout.path(part).stat().st_size for part in missing)
    notice(f"the cache is complete: {clock.done:,} frames written, {written / 2**30:.1f} GiB")


def _announce(missing: Sequence[int], layout: Layout, transform: PadToSquare, notice: Callable[[str], None]) -> None:
    damaged = [part for part in missing if layout.path(part).exists()]
    if damaged:
        count = f"{len(damaged)} of {layout.parts} files of the cache"
        notice(f"damaged, so rewritten: {count}, the first {layout.path(damaged[0])}")
    notice(f"writing {layout.rows:,} frames at {transform.size} px into the cache, once: {layout.folder}")


def _checked(loader: DataLoader[pa.RecordBatch | UserError]) -> Generator[pa.RecordBatch, None, None]:
    for batch in loader:
        if isinstance(batch, UserError):
            raise batch
        yield batch


def _write(part: int, layout: Layout, batches: Iterator[pa.RecordBatch], clock: _Clock, file: IO[bytes]) -> None:
    with pa.ipc.new_file(file, SCHEMA.with_metadata({METADATA: layout.metadata(part)})) as writer:
        for batch in itertools.islice(batches, layout.batches_of(part)):
            writer.write_batch(batch)
            clock.tick(batch.num_rows)


def _check_space(layout: Layout, part: int, remaining: int) -> None:
    """Report now that the disk will become full, not when it is."""
    needed = layout.path(part).stat().st_size * remaining
    free = shutil.disk_usage(layout.folder).free
    if needed > free:
        what = f"the rest of the cache needs about {needed / 2**30:.1f} GiB, but only {free / 2**30:.1f} GiB are free"
        raise UserError(what, where=str(layout.folder), fix=ANOTHER_DISK)


class _Rows(Dataset[pa.RecordBatch | UserError]):
    """The record batches of the parts ``missing``, ready to be written; an error in one takes its place."""

    def __init__(self, frames: Frames, transform: PadToSquare, layout: Layout, missing: Sequence[int]) -> None:
        self.frames, self.transform = frames, transform
        self.batches = [
            rows[start : start + layout.batch_rows]
            for rows in map(layout.rows_of, missing)
            for start in range(0, len(rows), layout.batch_rows)
        ]

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, number: int) -> pa.RecordBatch | UserError:
        try:
            return pa.RecordBatch.from_pylist([self._row(row) for row in self.batches[number]], schema=SCHEMA)
        except UserError as error:
            return error

    def _row(self, row: int) -> dict[str, Any]:
        content = self.frames.row(row)
        image = decode_image(content)
        masks = [decode_mask(content, region, image) for region in content["regions"] or ()]
        box, pixels = _trim(self.transform.compact(image))
        packed = [_pack(self.transform.mask(mask)) for mask in masks]
        return {"box": box, "image": pixels, "masks": packed, "crc32": checksum(box, pixels, packed)}


def _pack(mask_HW: Pixels) -> dict[str, Any]:
    box, pixels = _trim(mask_HW[None])
    return {"box": box, "data": zlib.compress(pixels)}


def _trim(pixels_CHW: Pixels) -> tuple[list[int], bytes]:
    """The smallest box outside of which all is zero, as x, y, width, height, and the bytes within."""
    rows = np.flatnonzero(pixels_CHW.any(axis=(0, 2)))
    columns = np.flatnonzero(pixels_CHW.any(axis=(0, 1)))
    if not len(rows):
        return [0, 0, 1, 1], pixels_CHW[:, :1, :1].tobytes()  # one black pixel, so that the channels can be counted
    y, end_y, x, end_x = int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1
    return [x, y, end_x - x, end_y - y], pixels_CHW[:, y:end_y, x:end_x].tobytes()


def _unchanged(batch: Any) -> Any:
    return batch


class _Clock:
    """Tells from time to time how far the build is."""

    def __init__(self, total: int, notice: Callable[[str], None]) -> None:
        self.total, self.notice = total, notice
        self.done, self.start = 0, time.perf_counter()
        self.next = self.start + _NOTICE_EVERY_S

    def tick(self, rows: int) -> None:
        self.done += rows
        now = time.perf_counter()
        if now >= self.next:
            self.next = now + _NOTICE_EVERY_S
            rate = self.done / (now - self.start)
            minutes = (self.total - self.done) / rate / 60
            self.notice(f"cache: {self.done:,} of {self.total:,} frames, {rate:.0f}/s, {minutes:.0f} min left")

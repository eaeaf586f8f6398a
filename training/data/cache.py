"""Frames and masks at the training size, written once and memory-mapped by every process that trains on them.

A folder for each dataset, split and geometry holds Arrow files ("parts") of equally many frames. A part takes its name
once it is whole, so a build that was killed goes on where it stopped; a lock keeps several processes that start
together from building twice. Images are stored without their black border, in one channel where they are grey; masks
as the 8-bit area of their box, compressed. Both come out as they went in, to the bit.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import itertools
import json
import os
import shutil
import time
import zlib
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np
import PIL
import pyarrow as pa
from torch.utils.data import DataLoader, Dataset

from sono.manifests.errors import UserError
from sono.manifests.store import write_atomically
from sono.training.model.transforms import PadToSquare, Pixels

from .dataset import Frames, decode_image, decode_mask
from .workers import start_worker

FORMAT = 1
PART_ROWS, BATCH_ROWS = 1024, 64

_BOX = pa.list_(pa.uint16(), 4)  # x, y, width, height in px of the square
_SCHEMA = pa.schema(
    [
        pa.field("box", _BOX),
        pa.field("image", pa.binary()),  # channels, rows, columns within the box
        pa.field("crc32", pa.uint32()),  # of image
        pa.field(
            "masks", pa.list_(pa.struct([pa.field("box", _BOX), pa.field("data", pa.binary())]))
        ),  # zlib, Adler-32
    ]
)
_METADATA = b"sono-cache"
_NOTICE_EVERY_S = 30.0


class Source(Protocol):
    """Where pixels come from: the cache, or the dataset itself."""

    def pair(self, row: int, region: int | None) -> tuple[Pixels, Pixels]:
        """The frame's image, [1 or 3, size, size], and the mask of one of its regions, [size, size].

        The mask is one everywhere for ``None``.

        Raises:
            UserError: dataset or cache are damaged; the text names the frame or the file.
        """
        ...


class Decoded:
    """Pixels that are decoded from the dataset every time."""

    def __init__(self, frames: Frames, transform: PadToSquare) -> None:
        self.frames, self.transform = frames, transform

    def pair(self, row: int, region: int | None) -> tuple[Pixels, Pixels]:
        content = self.frames.row(row)
        image = decode_image(content)
        if region is None:
            return self.transform.compact(image), self.transform.all_one()
        mask = decode_mask(content, content["regions"][region], image)
        return self.transform.compact(image), self.transform.mask(mask)


class Cache:
    """Pixels out of a whole cache. Holds no pixels itself; every process maps the files as it needs them."""

    def __init__(self, layout: Layout, transform: PadToSquare) -> None:
        self.layout, self.transform = layout, transform
        self._opened: dict[int, pa.RecordBatchFileReader] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_opened": {}}

    def pair(self, row: int, region: int | None) -> tuple[Pixels, Pixels]:
        part, within = divmod(row, PART_ROWS)
        number, place = divmod(within, BATCH_ROWS)
        try:
            if part not in self._opened:
                self._opened[part] = _map(self.layout.path(part))
            batch = self._opened[part].get_batch(number)
            batch.validate(full=True)  # offsets that point out of the file would end the process
            box, masks = batch.column("box")[place].as_py(), batch.column("masks")[place].as_py()
            pixels = batch.column("image")[place].as_buffer()
            if _checksum(box, pixels, masks) != batch.column("crc32")[place].as_py():
                raise ValueError("checksum")
            image = self._placed(box, pixels)
            if region is None:
                return image, self.transform.all_one()
            return image, self._placed(masks[region]["box"], zlib.decompress(masks[region]["data"]))[0]
        except (pa.ArrowException, OSError, ValueError, TypeError, IndexError, zlib.error) as error:
            raise UserError(
                "this file of the cache is damaged",
                where=str(self.layout.path(part)),
                fix="delete it and run again with --resume: it is written anew",
            ) from error

    def _placed(self, box: Sequence[int], pixels: Any) -> Pixels:
        x, y, width, height = box
        part_CHW = np.frombuffer(pixels, dtype=np.uint8).reshape(-1, height, width)
        square_CHW = np.zeros((len(part_CHW), self.transform.size, self.transform.size), dtype=np.uint8)
        square_CHW[:, y : y + height, x : x + width] = part_CHW
        return square_CHW


@dataclass(frozen=True)
class Layout:
    """Which files a cache consists of; ``key`` is over all that decides their bytes."""

    folder: Path
    key: str
    rows: int

    @property
    def parts(self) -> int:
        return -(-self.rows // PART_ROWS)

    def path(self, part: int) -> Path:
        return self.folder / f"part-{part:05d}-of-{self.parts:05d}.arrow"

    def rows_of(self, part: int) -> range:
        return range(part * PART_ROWS, min((part + 1) * PART_ROWS, self.rows))

    def metadata(self, part: int) -> bytes:
        return json.dumps({"key": self.key, "part": part, "rows": len(self.rows_of(part))}).encode()

    def missing(self) -> list[int]:
        """The parts that are not there or cannot be what was written; content is checked on reading."""
        return [part for part in range(self.parts) if not self._is_whole(part)]

    def _is_whole(self, part: int) -> bool:
        try:
            reader = _map(self.path(part))
        except (pa.ArrowException, OSError):
            return False
        batches = -(-len(self.rows_of(part)) // BATCH_ROWS)
        found = (reader.schema.metadata or {}).get(_METADATA)
        return found == self.metadata(part) and reader.num_record_batches == batches


def layout_of(frames: Frames, transform: PadToSquare, root: Path) -> Layout:
    """Where the cache of a split lies: another dataset, split, geometry or version of Pillow has another folder."""
    description = frames.description
    content = {
        "format": FORMAT,
        "dataset": description.fingerprint,
        "shards": dict(description.shards[frames.split]),
        "split": frames.split,
        "geometry": transform.geometry(),
        "pillow": PIL.__version__,  # decodes and resizes
        "rows": [len(frames), PART_ROWS, BATCH_ROWS],
    }
    key = hashlib.sha256(json.dumps(content).encode()).hexdigest()
    name = f"{description.fingerprint[:12]}-{frames.split}-{transform.size}px-{key[:12]}"
    return Layout(root / name, key, len(frames))


def root_of(setting: str) -> Path:
    """The folder that ``data.cache`` names; ``auto`` is one below the user's cache folder."""
    if setting != "auto":
        return Path(setting).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sono-curate" / "frames"


def open_cache(
    frames: Frames,
    transform: PadToSquare,
    root: Path,
    *,
    workers: int = 0,
    notice: Callable[[str], None] = print,
) -> Cache:
    """The cache of a split below ``root``; what is missing of it is written first.

    Processes that start together wait for the one that writes. A whole cache is only read, and may be read-only.

    Args:
        workers: processes that decode; 0 decodes in this one.
        notice: is told what is written, how far it is, and what was damaged.

    Raises:
        UserError: a frame of the dataset is at fault, or the folder cannot be written; what was written stays.
    """
    layout = layout_of(frames, transform, root)
    if layout.missing():
        try:
            layout.folder.mkdir(parents=True, exist_ok=True)
            with _alone(layout.folder, notice):
                missing = layout.missing()
                if missing:
                    _Builder(frames, transform, layout, workers, notice).build(missing)
        except OSError as error:
            raise _cannot_write(layout.folder, error) from error
    return Cache(layout, transform)


class _Builder:
    """Writes parts, one after the other, while loading processes decode."""

    def __init__(
        self,
        frames: Frames,
        transform: PadToSquare,
        layout: Layout,
        workers: int,
        notice: Callable[[str], None],
    ) -> None:
        self.frames, self.transform, self.layout = frames, transform, layout
        self.workers, self.notice = workers, notice

    def build(self, missing: Sequence[int]) -> None:
        for leftover in self.layout.folder.glob(".tmp-*"):  # of builds that were killed; the lock is ours
            leftover.unlink()
        self._announce(missing)
        starts = [start for part in missing for start in self.layout.rows_of(part)[::BATCH_ROWS]]
        loader = DataLoader(
            _Rows(self.frames, self.transform, starts),
            batch_size=None,
            num_workers=self.workers,
            collate_fn=_unchanged,
            worker_init_fn=start_worker,
        )
        clock = _Clock(sum(len(self.layout.rows_of(part)) for part in missing), self.notice)
        with contextlib.closing(_checked(loader)) as batches:  # an error must end the loading processes, too
            for done, part in enumerate(missing, start=1):
                write_atomically(self.layout.path(part), partial(self._write, part, batches, clock))
                self._check_space(part, len(missing) - done)
        written = sum(self.layout.path(part).stat().st_size for part in missing)
        self.notice(f"the cache is whole: {clock.done:,} frames written, {written / 2**30:.1f} GiB")

    def _announce(self, missing: Sequence[int]) -> None:
        folder, damaged = self.layout.folder, [part for part in missing if self.layout.path(part).exists()]
        if damaged:
            count = f"{len(damaged)} of {self.layout.parts} files of the cache"
            self.notice(f"damaged, so written anew: {count}, the first {self.layout.path(damaged[0])}")
        self.notice(f"writing {self.layout.rows:,} frames at {self.transform.size} px into the cache, once: {folder}")

    def _write(self, part: int, batches: Iterator[pa.RecordBatch], clock: _Clock, file: IO[bytes]) -> None:
        count = -(-len(self.layout.rows_of(part)) // BATCH_ROWS)
        with pa.ipc.new_file(file, _SCHEMA.with_metadata({_METADATA: self.layout.metadata(part)})) as writer:
            for batch in itertools.islice(batches, count):
                writer.write_batch(batch)
                clock.tick(batch.num_rows)

    def _check_space(self, part: int, remaining: int) -> None:
        """A disk that will be full in an hour is an error now."""
        wanted = self.layout.path(part).stat().st_size * remaining
        free = shutil.disk_usage(self.layout.folder).free
        if wanted > free:
            what = f"the rest of the cache takes about {wanted / 2**30:.1f} GiB and {free / 2**30:.1f} GiB are free"
            raise UserError(what, where=str(self.layout.folder), fix=_ELSEWHERE)


def _checked(loader: DataLoader[pa.RecordBatch | UserError]) -> Generator[pa.RecordBatch, None, None]:
    for batch in loader:
        if isinstance(batch, UserError):
            raise batch
        yield batch


class _Rows(Dataset[pa.RecordBatch | UserError]):
    """The rows from each of ``starts``, ready to be written; the first error among them in their place."""

    def __init__(self, frames: Frames, transform: PadToSquare, starts: Sequence[int]) -> None:
        self.frames, self.transform, self.starts = frames, transform, starts

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, number: int) -> pa.RecordBatch | UserError:
        start = self.starts[number]
        rows = range(start, min(start + BATCH_ROWS, len(self.frames), (start // PART_ROWS + 1) * PART_ROWS))
        try:
            return pa.RecordBatch.from_pylist([self._row(row) for row in rows], schema=_SCHEMA)
        except UserError as error:
            return error

    def _row(self, row: int) -> dict[str, Any]:
        content = self.frames.row(row)
        image = decode_image(content)
        masks = [decode_mask(content, region, image) for region in content["regions"] or ()]
        box, pixels = _trim(self.transform.compact(image))
        packed = [_packed(self.transform.mask(mask)) for mask in masks]
        return {"box": box, "image": pixels, "masks": packed, "crc32": _checksum(box, pixels, packed)}


def _packed(mask_HW: Pixels) -> dict[str, Any]:
    box, pixels = _trim(mask_HW[None])
    return {"box": box, "data": zlib.compress(pixels)}


def _checksum(box: Sequence[int], pixels: Any, masks: Sequence[dict[str, Any]]) -> int:
    boxes = [*box, *(side for mask in masks for side in mask["box"])]
    checksum = zlib.crc32(pixels, zlib.crc32(np.array(boxes, dtype="<u2").tobytes()))
    for mask in masks:
        checksum = zlib.crc32(mask["data"], checksum)
    return checksum


def _trim(pixels_CHW: Pixels) -> tuple[list[int], bytes]:
    """The smallest box outside of which all is zero, as x, y, width, height, and the bytes within."""
    rows = np.flatnonzero(pixels_CHW.any(axis=(0, 2)))
    columns = np.flatnonzero(pixels_CHW.any(axis=(0, 1)))
    if not len(rows):
        return [0, 0, 1, 1], pixels_CHW[:, :1, :1].tobytes()  # one black pixel, so that the channels can be counted
    y, end_y, x, end_x = int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1
    return [x, y, end_x - x, end_y - y], pixels_CHW[:, y:end_y, x:end_x].tobytes()


class _Clock:
    """Says now and then how far the build is."""

    def __init__(self, total: int, notice: Callable[[str], None]) -> None:
        self.total, self.notice = total, notice
        self.done, self.begin = 0, time.perf_counter()
        self.next = self.begin + _NOTICE_EVERY_S

    def tick(self, rows: int) -> None:
        self.done += rows
        now = time.perf_counter()
        if now >= self.next:
            self.next = now + _NOTICE_EVERY_S
            rate = self.done / (now - self.begin)
            minutes = (self.total - self.done) / rate / 60
            self.notice(f"cache: {self.done:,} of {self.total:,} frames, {rate:.0f} a second, {minutes:.0f} min left")


_ELSEWHERE = "free space, or choose another disk with --set data.cache=FOLDER, or none; what is written stays"


def _cannot_write(folder: Path, error: OSError) -> UserError:
    full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    what = "the disk is full" if full else f"the cache cannot be written ({error.strerror or type(error).__name__})"
    return UserError(what, where=str(folder), fix=_ELSEWHERE)


@contextlib.contextmanager
def _alone(folder: Path, notice: Callable[[str], None]) -> Iterator[None]:
    """Hold the folder's lock, after waiting for another process; the system lets go of it when a process ends."""
    import fcntl

    with (folder / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            notice(f"another process writes the cache; waiting for it: {folder}")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _map(path: Path) -> pa.RecordBatchFileReader:
    """A memory-mapped file, whose descriptor is closed: there are more parts than a process may have files open."""
    with pa.memory_map(str(path)) as file:
        return pa.ipc.open_file(file.read_buffer())


def _unchanged(batch: Any) -> Any:
    return batch

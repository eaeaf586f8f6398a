"""Writes one shard: its rows go through memory a row group at a time, into one Parquet file of every configuration."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from sono.manifests.dataset_marker import describe_shard
from sono.manifests.schemas import TableSpec
from sono.manifests.store import PartInfo, TableStore, atomic_path, info_metadata, leaves, sync_folder

from .configurations import DEFAULT, METADATA, REGIONS, Configuration, listed_name, region_rows
from .cut import Shard, is_end
from .joined import joined_frames
from .rows import Image, RowOptions, dataset_images, dataset_rows

VANISHED = b"sono.regions_vanished"
"""Where a shard's metadata count, by structure, the regions left out because no pixel of them is left."""

_MIN_ROWS, _MAX_ROWS = 128, 200  # of a row group; the Hub's viewer reads whole ones
_END_ONE_IN = 64
_MAX_BYTES = 64 * 10**6  # of a row group's images
_METADATA_ROWS = 65_536
_ROOM = 16 * 2**20  # bytes that a disk must have beside what is written next: pages are larger than their rows
_DICTIONARY_BYTES = 2**30


@dataclass(frozen=True)
class ShardTask:
    """What a worker needs to write a shard. ``schema_metadata``: of ``configurations.schema_metadata``."""

    store: TableStore
    shard: Shard
    info: PartInfo
    out: Path
    options: RowOptions
    schema_metadata: Mapping[str, bytes]

    def path(self, configuration: Configuration) -> Path:
        """Where the shard's file of a configuration is."""
        return self.out / configuration.folder / f"{self.shard.name}.parquet"


@dataclass(frozen=True)
class WrittenShard:
    """A shard that is on disk: its number of frames, and its files as the marker lists them."""

    rows: int
    files: Mapping[str, Mapping[str, Any]]


def write_shard(task: ShardTask) -> WrittenShard:
    """Write a shard's files. That of ``default`` gets its name last: where it is, the others are, too.

    A shard without regions has no file of them.
    """
    _remove_stale(task.path(DEFAULT))
    with atomic_path(task.path(DEFAULT)) as frames:
        with (
            atomic_path(task.path(REGIONS)) as regions,
            atomic_path(task.path(METADATA)) as metadata,
        ):
            rows = _write(task, frames, regions, metadata)
        if not rows[REGIONS]:
            task.path(REGIONS).unlink()
            del rows[REGIONS]
    # Here and at once, while the files are still in the system's memory, and each worker hashes its own files.
    with ThreadPoolExecutor() as threads:
        described = threads.map(lambda each: describe_shard(task.path(each), rows[each]), rows)
        files = {listed_name(each, task.path(each)): file for each, file in zip(rows, described, strict=True)}
    return WrittenShard(task.info.rows, files)


def _remove_stale(path: Path) -> None:
    """Beside an earlier file of ``default``, new ones of the others would count as its own if this run is killed."""
    if path.exists():
        path.unlink()
        sync_folder(path.parent)


def _write(task: ShardTask, frames: Path, regions: Path, metadata: Path) -> dict[Configuration, int]:
    """Write all rows; returns how many each configuration has."""
    info, schemas = info_metadata(task.info), task.schema_metadata
    vanished: Counter[str] = Counter()
    with (
        _Writer(frames, DEFAULT.table, {**info, b"huggingface": schemas["default"]}) as frame_writer,
        _Writer(regions, REGIONS.table, {b"huggingface": schemas["regions"]}, repeats=("image.bytes",)) as by_region,
        _Writer(metadata, METADATA.table, {b"huggingface": schemas["metadata"]}, _METADATA_ROWS) as metadata_writer,
    ):
        for joined in joined_frames(task.store, task.shard):
            images = dataset_images(joined.rows, joined.images, joined.numbers, task.options)
            for image, row in zip(images, dataset_rows(joined.rows, task.options), strict=True):
                vanished.update(region["structure"] for region in row["regions"] if not region["area_px"])
                row["regions"] = [region for region in row["regions"] if region["area_px"]]
                if frame_writer.rows >= _MIN_ROWS and is_end(row["frame_id"], _END_ONE_IN):
                    frame_writer.flush()
                    by_region.flush()
                for region in region_rows(row):
                    by_region.add(region, image)
                frame_writer.add(row, image)
                metadata_writer.add(row)
        frame_writer.say({VANISHED: json.dumps(dict(sorted(vanished.items()))).encode()})
        writers = {DEFAULT: frame_writer, REGIONS: by_region, METADATA: metadata_writer}
        return {configuration: writer.written + writer.rows for configuration, writer in writers.items()}


class _Writer:
    """Writes rows as row groups of a Parquet file, each in a thread, while the rows of the next are added.

    Pages end where their content says so (content-defined chunking), and have an index and checksums: a storage that
    keeps equal chunks once, as the Hub's does, is sent only what changed.

    Args:
        repeats: columns of bytes of which neighbouring rows are equal: a row group holds each value once.
    """

    def __init__(
        self,
        path: Path,
        table: TableSpec,
        metadata: Mapping[bytes, bytes],
        max_rows: int = _MAX_ROWS,
        repeats: Sequence[str] = (),
    ) -> None:
        self.rows = self.written = 0
        self._bytes = 0
        self._path = path
        self._schema = table.schema.with_metadata(dict(metadata))
        self._rows_schema = pa.schema([field for field in self._schema if field.name != "image"])
        self._pending: list[Mapping[str, Any]] = []
        self._tables: list[pa.Table] = []
        self._images: list[tuple[pa.Array, list[int]]] = []
        self._max_rows = max_rows
        images = [leaf for leaf in leaves(table.schema) if leaf in ("image.bytes", "mask.bytes")]
        coded = [leaf for leaf in leaves(table.schema) if leaf not in images]
        self._file = pa.OSFile(str(path), "wb")  # not Python's: a thread that writes it need not wait for others
        self._thread = ThreadPoolExecutor(1)
        self._writing: Future[None] | None = None
        self._writer = pq.ParquetWriter(
            self._file,
            self._schema,
            compression={**dict.fromkeys(images, "none"), **dict.fromkeys(coded, "zstd")},  # images are compressed
            use_dictionary=[*coded, *repeats],
            dictionary_pagesize_limit=_DICTIONARY_BYTES if repeats else None,
            write_statistics=coded,
            write_page_index=True,
            write_page_checksum=True,
            use_content_defined_chunking=True,
        )

    def __enter__(self) -> _Writer:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        try:
            if kind is None:
                self.flush()
                self._wait()
        finally:
            self._thread.shutdown()
            self._writer.close()
            self._file.close()

    def add(self, row: Mapping[str, Any], image: Image | None = None) -> None:
        """Add a row, in a new row group if the current one has become large."""
        size = image.size if image else 0
        if self.rows >= self._max_rows or (self.rows and self._bytes + size > _MAX_BYTES):
            self.flush()
        self._pending.append(row)
        if image:
            if not self._images or self._images[-1][0] is not image.images:
                self._images.append((image.images, []))
            self._images[-1][1].append(image.number)
        self.rows += 1
        self._bytes += size
        if len(self._pending) >= _MIN_ROWS:
            self._compact()

    def say(self, metadata: Mapping[bytes, bytes]) -> None:
        """Add to the file's metadata."""
        self._wait()
        self._writer.add_key_value_metadata(dict(metadata))

    def flush(self) -> None:
        """Begin to write what was added as a row group."""
        self._compact()
        if self._tables:
            table = pa.concat_tables(self._tables)
            if self._images:
                table = table.add_column(0, self._schema.field("image"), self._image_column())
            self._wait()  # no more than one in memory beside the one that rows are added to
            self._check_room(table.nbytes)
            self._writing = self._thread.submit(self._writer.write_table, table, row_group_size=self.rows)
        self.written += self.rows
        self.rows = self._bytes = 0
        self._tables, self._images = [], []

    def _check_room(self, size: int) -> None:
        """Arrow ends the process if a disk is full while it cuts pages by their content.

        Raises:
            OSError: so many bytes have no room.
        """
        if shutil.disk_usage(self._path.parent).free < size + _ROOM:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._path))

    def _wait(self) -> None:
        """Until what was given to the thread is written.

        Raises:
            OSError: it could not be.
        """
        if self._writing is not None:
            self._writing.result()
        self._writing = None

    def _image_column(self) -> pa.StructArray:
        """The images of all rows in one piece: where pages end depends on pieces, and the bytes on the rows alone."""
        together = pa.concat_arrays([_chosen(images, numbers) for images, numbers in self._images])
        return pa.StructArray.from_arrays([together, pa.nulls(len(together), pa.string())], ["bytes", "path"])

    def _compact(self) -> None:
        """Turn rows into a table, which takes a tenth of their memory."""
        if self._pending:
            self._tables.append(pa.Table.from_pylist(self._pending, schema=self._rows_schema))
        self._pending = []


def _chosen(images: pa.Array, numbers: Sequence[int]) -> pa.Array:
    first = numbers[0]
    if list(numbers) == list(range(first, first + len(numbers))):
        return images.slice(first, len(numbers))
    return images.take(pa.array(numbers))

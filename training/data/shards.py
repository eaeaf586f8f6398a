"""A dataset's shards as copies on this machine, verified while they are written and memory-mapped when they are read.

A copy is an Arrow file named after the SHA-256 of its shard. So whatever is in the dataset's folder later, what is read
is the shard that ``sono.json`` lists. Parquet itself would be too slow for reading single rows in random order.
"""

from __future__ import annotations

import errno
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO, Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from datasets.utils import tqdm

from sono.manifests.errors import UserError
from sono.manifests.store import in_turn, make_private, write_atomically

_BATCH_ROWS = 128  # frames in memory while a shard is copied
_SHARD = b"sono-shard"
"""The key, in a copy's schema, under which the digest of its shard is written."""


@dataclass(frozen=True)
class Shard:
    """A file of a dataset as ``sono.json`` lists it; ``path`` is relative to the dataset."""

    path: str
    rows: int
    bytes: int
    sha256: str


class MappedRows:
    """The rows of verified copies. Holds no rows itself; every process maps the files when it needs them."""

    def __init__(self, copies: Sequence[Path]) -> None:
        self.copies = tuple(copies)

    def __getstate__(self) -> dict[str, Any]:
        return {"copies": self.copies}

    def __len__(self) -> int:
        return int(self._starts[-1])

    @cached_property
    def schema(self) -> pa.Schema:
        """Columns and metadata of the shards."""
        return map_file(self.copies[0]).schema

    @cached_property
    def table(self) -> pa.Table:
        """All rows; columns that are not used are not read."""
        return pa.Table.from_batches(self._batches)

    def row(self, index: int) -> dict[str, Any]:
        """One row; a negative index counts from the end.

        Raises:
            IndexError: there is no such row.
        """
        place = range(len(self))[index]
        batch = int(np.searchsorted(self._starts, place, side="right")) - 1
        row: dict[str, Any] = self._batches[batch].slice(place - int(self._starts[batch]), 1).to_pylist()[0]
        return row

    @cached_property
    def _batches(self) -> list[pa.RecordBatch]:
        readers = map(map_file, self.copies)
        return [reader.get_batch(number) for reader in readers for number in range(reader.num_record_batches)]

    @cached_property
    def _starts(self) -> np.ndarray[Any, np.dtype[np.int64]]:
        return np.cumsum([0, *(batch.num_rows for batch in self._batches)])


def open_shards(files: Mapping[Shard, Path], source: str, split: str) -> MappedRows:
    """Map the shards of a split; those that were not read before are copied and verified first.

    Args:
        files: where each shard is.
        source: the dataset, for errors.

    Raises:
        UserError: a file is not the shard that ``sono.json`` lists, or there is no space for its copy.
    """
    folder = datasets.config.HF_DATASETS_CACHE / "sono-curate"
    copies = {shard: folder / f"{shard.sha256}.arrow" for shard in files}
    missing = _missing(copies)
    if missing:
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            make_private(folder)
            with in_turn(folder):
                for shard in tqdm(_missing(copies), desc=f"Unpacking the {split} split", unit=" files"):
                    _copy(files[shard], shard, copies[shard], source)
        except OSError as error:
            raise _cannot_write(folder, error) from error
    return MappedRows(list(copies.values()))


def map_file(path: Path) -> pa.RecordBatchFileReader:
    """A memory-mapped file, whose descriptor is closed: there are more files than a process may have open."""
    with pa.memory_map(str(path)) as file:
        return pa.ipc.open_file(file.read_buffer())


def _missing(copies: Mapping[Shard, Path]) -> list[Shard]:
    return [shard for shard, copy in copies.items() if not _is_complete(copy, shard)]


def _is_complete(copy: Path, shard: Shard) -> bool:
    try:
        reader = map_file(copy)
    except (pa.ArrowException, OSError):
        return False
    of = (reader.schema.metadata or {}).get(_SHARD)
    return of == shard.sha256.encode() and reader.num_record_batches == -(-shard.rows // _BATCH_ROWS)


def _copy(file: Path, shard: Shard, copy: Path, source: str) -> None:
    """Verify and copy through one descriptor, so that what is verified is what is copied."""
    try:
        opened = file.open("rb")
    except OSError as error:
        raise _not_as_listed(shard, source) from error
    with opened:
        if hashlib.file_digest(opened, "sha256").hexdigest() != shard.sha256:
            raise _not_as_listed(shard, source)
        opened.seek(0)
        with pq.ParquetFile(opened) as parquet:
            write_atomically(copy, lambda out: _write(parquet, shard, out), mode=0o600)


def _write(parquet: pq.ParquetFile, shard: Shard, out: IO[bytes]) -> None:
    schema = parquet.schema_arrow
    schema = schema.with_metadata({**(schema.metadata or {}), _SHARD: shard.sha256.encode()})
    with pa.ipc.new_file(out, schema) as writer:
        for batch in parquet.iter_batches(_BATCH_ROWS):
            writer.write_batch(batch)


def _not_as_listed(shard: Shard, source: str) -> UserError:
    return UserError(
        f"{shard.path} is not the file that sono.json lists: it was changed, or damaged",
        where=source,
        fix="run sono-curate build again",
    )


def _cannot_write(folder: Path, error: OSError) -> UserError:
    full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    what = "the disk is full" if full else f"the dataset cannot be unpacked ({error.strerror or type(error).__name__})"
    return UserError(what, where=str(folder), fix="free space, or set HF_DATASETS_CACHE to a folder on another disk")

"""The queue as one memory-mapped file: frames in the order in which people should see them, a page of them at a time.

Nothing of it is held in memory, whatever its length. It is replaced as a whole by a rename: a reader that has the old
file open goes on with that.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sono.manifests.errors import UserError
from sono.manifests.store import write_atomically

NAME = pa.dictionary(pa.int32(), pa.string())

QUEUE = pa.schema(
    {
        "frame_id": pa.string(),
        "frame_part": NAME,  # file name of the part of ``frames``
        "regions": pa.list_(pa.string()),  # region_ids in the order of asking; none in frames to be judged only
        "region_parts": pa.list_(NAME),  # file names of the parts of ``regions``
        "structures": pa.list_(NAME),
        "p_bad": pa.list_(pa.float32()),  # how likely each mask is bad
        "frame_p_bad": pa.float32(),  # the greatest of them; null without regions
        "plane": NAME,
        "center": NAME,
        "verdict": NAME,  # of quality control; null where it has not judged the frame
        "by_frame_id": pa.int32(),  # no property of the row: the number of the row whose frame_id is next in order
    }
)

Kind = Literal["masks", "frames"]

_BATCH_ROWS = 4096
_FEW_ROWS = 32  # looked at together at first
_METADATA = b"sono.queue"
_VERSION = 1
_TO_JUDGE = "review"  # the verdict of frames that wait for a person


@dataclass(frozen=True)
class QueuedRegion:
    """A mask that waits for a decision; ``part`` is the file name of its part of ``regions``."""

    region_id: str
    part: str
    structure: str
    p_bad: float


@dataclass(frozen=True)
class QueuedFrame:
    """A frame with those of its masks that were asked for, likely bad ones first; ``part`` is a file of ``frames``."""

    frame_id: str
    part: str
    regions: tuple[QueuedRegion, ...]
    p_bad: float | None
    plane: str | None
    center: str | None
    verdict: str | None


@dataclass(frozen=True)
class QueuePage:
    """Some frames in order. ``cursor`` asks for those after them; it is None at the end of the queue."""

    frames: tuple[QueuedFrame, ...]
    cursor: str | None


def _always(_: str) -> bool:
    return True


@dataclass(frozen=True)
class Queue:
    """An open queue file; get one from ``Queue.open``. Threads may share it."""

    build_id: str
    facts: Mapping[str, Any]
    _batches: Sequence[pa.RecordBatch] = field(repr=False)
    _starts: npt.NDArray[np.int64] = field(repr=False)  # the first row of each batch, and one past the last

    @classmethod
    def open(cls, path: Path) -> Queue:
        """Map a file that ``write_queue`` wrote.

        Raises:
            UserError: there is none, or it is no queue.
        """
        try:
            reader = pa.ipc.open_file(pa.memory_map(str(path)))
            header = json.loads(reader.schema.metadata[_METADATA])
            if header["version"] != _VERSION or reader.schema.names != QUEUE.names:
                raise ValueError("another version")
            batches = [reader.get_batch(number) for number in range(reader.num_record_batches)]
        except FileNotFoundError:
            raise UserError("there is no queue yet", where=str(path), fix="build it first") from None
        except (pa.ArrowInvalid, KeyError, TypeError, ValueError, OSError) as error:
            raise UserError(
                "not a queue of this version", where=str(path), fix="delete it; it is built again"
            ) from error
        starts = np.cumsum([0, *(batch.num_rows for batch in batches)])
        return cls(header["build_id"], header["facts"], batches, starts)

    def __len__(self) -> int:
        """The number of frames."""
        return int(self._starts[-1])

    @property
    def end(self) -> str:
        """The cursor after the last frame."""
        return f"{self.build_id}:{len(self)}"

    def next(
        self,
        after: str | None,
        limit: int,
        *,
        structure: str | None = None,
        plane: str | None = None,
        kind: Kind = "masks",
        is_open: Callable[[str], bool] = _always,
    ) -> QueuePage:
        """The next frames with something to decide.

        Args:
            after: the cursor of the page before. One of another build starts at the front: the order has changed, and
                what was decided meanwhile is not open any more.
            limit: frames at most.
            structure, plane: only masks of this structure, only frames of this plane.
            kind: ``masks``, or ``frames`` for those that quality control wants a person to judge.
            is_open: whether a region (of ``frames``: a frame) still waits, by its id.

        Raises:
            ValueError: ``after`` is no cursor, or ``limit`` is below 1.
        """
        if limit < 1:
            raise ValueError(f"{limit} frames")
        found: list[QueuedFrame] = []
        for row in self._matching(self._first_row(after), structure, plane, kind, is_open):
            found.append(self._frame(row, structure, is_open) if kind == "masks" else self._frame(row))
            if len(found) == limit:
                return QueuePage(tuple(found), f"{self.build_id}:{row + 1}")
        return QueuePage(tuple(found), None)

    def count(
        self,
        *,
        structure: str | None = None,
        plane: str | None = None,
        kind: Kind = "masks",
        is_open: Callable[[str], bool] | None = None,
    ) -> int:
        """How many regions (of ``frames``: frames) there are to decide; with ``is_open`` each of them is asked for."""
        if is_open is None:
            return sum(_counted(batch, structure, plane, kind) for batch in self._batches)
        rows = self._matching(0, structure, plane, kind, is_open)
        if kind == "frames":
            return sum(1 for _ in rows)
        return sum(len(self._frame(row, structure, is_open).regions) for row in rows)

    def find(self, frame_id: str) -> QueuedFrame | None:
        """A frame by its id, with all of its masks that were in the queue when it was built."""
        low, high = 0, len(self)
        while low < high:
            middle = (low + high) // 2
            row = self._value("by_frame_id", middle)
            here = self._value("frame_id", row)
            if here == frame_id:
                return self._frame(row)
            low, high = (middle + 1, high) if here < frame_id else (low, middle)
        return None

    def _first_row(self, after: str | None) -> int:
        if after is None:
            return 0
        build_id, colon, row = after.partition(":")
        if not colon or not row.isascii() or not row.isdigit():
            raise ValueError(f"not a cursor: {after!r}")
        return int(row) if build_id == self.build_id else 0

    def _matching(
        self, first: int, structure: str | None, plane: str | None, kind: Kind, is_open: Callable[[str], bool]
    ) -> Iterator[int]:
        """The rows from ``first`` on that have what was asked for and something open."""
        for start, batch in zip(self._starts[:-1], self._batches, strict=True):
            if start + batch.num_rows <= first:
                continue
            rows = np.flatnonzero(_fits(batch, structure, plane, kind))
            for row in _with_open(batch, rows[rows >= first - start], structure, kind, is_open):
                yield int(start) + row

    def _frame(self, row: int, structure: str | None = None, is_open: Callable[[str], bool] = _always) -> QueuedFrame:
        regions = tuple(
            QueuedRegion(region_id, part, name, p_bad)
            for region_id, part, name, p_bad in zip(
                *(self._value(column, row) for column in ("regions", "region_parts", "structures", "p_bad")),
                strict=True,
            )
            if structure in (None, name) and is_open(region_id)
        )
        others = (self._value(column, row) for column in ("frame_p_bad", "plane", "center", "verdict"))
        return QueuedFrame(self._value("frame_id", row), self._value("frame_part", row), regions, *others)

    def _value(self, column: str, row: int) -> Any:
        batch = int(np.searchsorted(self._starts, row, side="right")) - 1
        return self._batches[batch][column][row - int(self._starts[batch])].as_py()


def _fits(batch: pa.RecordBatch, structure: str | None, plane: str | None, kind: Kind) -> npt.NDArray[np.bool_]:
    """Which rows have what was asked for, open or not."""
    fits = _is(batch["verdict"], _TO_JUDGE) if kind == "frames" else _members(batch["structures"], structure) > 0
    return fits if plane is None else fits & _is(batch["plane"], plane)


def _counted(batch: pa.RecordBatch, structure: str | None, plane: str | None, kind: Kind) -> int:
    """How many regions (of ``frames``: frames) those rows have."""
    fits = _fits(batch, structure, plane, kind)
    return int(np.count_nonzero(fits) if kind == "frames" else _members(batch["structures"], structure)[fits].sum())


def _with_open(
    batch: pa.RecordBatch,
    rows: npt.NDArray[np.int64],
    structure: str | None,
    kind: Kind,
    is_open: Callable[[str], bool],
) -> Iterator[int]:
    """Those rows of a batch that have something open; where much has been decided, many are asked about at once."""
    taken, size = 0, _FEW_ROWS
    while taken < len(rows):
        some = rows[taken : taken + size]
        taken, size = taken + size, 4 * size
        first, last = int(some[0]), int(some[-1]) + 1
        if kind == "frames":
            ids = batch["frame_id"].slice(first, last - first).to_pylist()
            yield from (int(row) for row in some if is_open(ids[row - first]))
            continue
        offsets = batch["regions"].offsets.slice(first, last - first + 1).to_pylist()
        ids = batch["regions"].values.slice(offsets[0], offsets[-1] - offsets[0]).to_pylist()
        wanted = _is(batch["structures"].values.slice(offsets[0], len(ids)), structure) if structure else None
        for row in some:
            members = range(offsets[row - first] - offsets[0], offsets[row - first + 1] - offsets[0])
            if any((wanted is None or wanted[member]) and is_open(ids[member]) for member in members):
                yield int(row)


def _is(names: pa.DictionaryArray, name: str) -> npt.NDArray[np.bool_]:
    """Which of the values are ``name``."""
    dictionary = names.dictionary.to_pylist()
    if name not in dictionary:
        return np.zeros(len(names), np.bool_)
    codes = names.indices.fill_null(-1) if names.null_count else names.indices
    return np.asarray(codes.to_numpy(zero_copy_only=False) == dictionary.index(name))


def _members(lists: pa.ListArray, name: str | None) -> npt.NDArray[np.int64]:
    """How often each list has ``name``; if None, how long it is."""
    offsets = lists.offsets.to_numpy()
    if name is None:
        return np.asarray(np.diff(offsets))
    counts = np.concatenate([[0], np.cumsum(_is(lists.values, name))])
    return np.asarray(counts[offsets[1:]] - counts[offsets[:-1]])


def write_queue(path: Path, rows: pa.Table, facts: Mapping[str, Any]) -> str:
    """Write a queue file atomically.

    Args:
        rows: of ``QUEUE``, in order.
        facts: about the order, as JSON values; ``Queue.facts``.

    Returns:
        The id of this build.
    """
    build_id = uuid.uuid4().hex
    header = json.dumps({"version": _VERSION, "build_id": build_id, "facts": facts})
    table = rows.unify_dictionaries().replace_schema_metadata({_METADATA: header})

    def write(file: Any) -> None:
        with pa.ipc.new_file(file, table.schema) as writer:
            writer.write_table(table, max_chunksize=_BATCH_ROWS)

    write_atomically(path, write)
    return build_id

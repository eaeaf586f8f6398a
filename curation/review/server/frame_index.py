"""Which part of each table holds the rows of a frame, so that one frame is found at once among millions."""

from __future__ import annotations

import contextlib
import hashlib
import json
import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sono.manifests.schemas import CAPTIONS, FRAMES, QC, REGIONS, TableSpec
from sono.manifests.store import TableStore, damage_named

FILE = "frames.sqlite"
_VERSION = 2
_AT_ONCE = 4096  # parts that are read before they are written
_TABLES = (FRAMES, QC, REGIONS, CAPTIONS)


class CineFrame(NamedTuple):
    """A frame of a cine: its place from 0, the time since the first one in ms if known, and whether it has masks."""

    frame_id: str
    frame_index: int
    time_ms: float | None
    has_masks: bool


@dataclass(frozen=True)
class Rows:
    """Rows of one part: its file name, its stamp when it was read, and the numbers of the rows in it."""

    part: str
    stamp: str
    numbers: Sequence[int]


class FrameIndex:
    """An index of a workspace's tables in a file of its own, which may be deleted at any time.

    ``refresh`` reads parts that are new or were written again since; the others stay as they are. Threads may share it.
    """

    def __init__(self, store: TableStore, folder: Path) -> None:
        self._store = store
        self._refreshing = threading.Lock()
        self._local = threading.local()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._path = folder / FILE
        with contextlib.closing(sqlite3.connect(self._path)) as database:
            version = database.execute("PRAGMA user_version").fetchone()[0]
        if version not in (0, _VERSION):
            self._path.unlink()
        self._database().executescript(_CREATE)

    def refresh(self) -> bool:
        """Bring the index up to date with the parts; True if anything has changed.

        Raises:
            UserError: a part is damaged.
        """
        with self._refreshing:
            database = self._database()
            known = {
                (table, part): (number, stamp)
                for number, table, part, stamp in database.execute("SELECT number, table_name, part, stamp FROM parts")
            }
            found = {
                (table.name, path.name): stamp
                for table in _TABLES
                for path in self._store.paths(table)
                if (stamp := part_stamp(path)) is not None
            }
            changed = sorted(key for key in {*known, *found} if known.get(key, (0, None))[1] != found.get(key))
            for start in range(0, len(changed), _AT_ONCE):
                some = changed[start : start + _AT_ONCE]
                outdated = [known[key][0] for key in some if key in known]
                self._replace(database, outdated, {key: found[key] for key in some if key in found})
            return bool(changed)

    def rows(self, table: TableSpec, frame_id: str) -> list[Rows]:
        """Where the rows of a frame are; empty if the table has none."""
        sql = """SELECT p.part, p.stamp, h.row FROM held h JOIN parts p ON p.number = h.part
            WHERE h.frame_id = ? AND p.table_name = ? ORDER BY p.part, h.row"""
        by_part: dict[tuple[str, str], list[int]] = {}
        for part, stamp, row in self._database().execute(sql, (frame_id, table.name)):
            by_part.setdefault((part, stamp), []).append(row)
        return [Rows(*part, numbers) for part, numbers in by_part.items()]

    def cine(self, frame_id: str) -> list[CineFrame]:
        """The frames of the file that a frame is from, in order; only itself for a still."""
        return [CineFrame(*row) for row in self._database().execute(_CINE, (frame_id,))]

    def _replace(
        self, database: sqlite3.Connection, outdated: list[int], stamps: Mapping[tuple[str, str], str]
    ) -> None:
        """Take parts out of the index and others into it, at once: nobody sees a frame without its masks."""
        contents = {key: self._read(*key) for key in stamps}
        with _transaction(database):
            for table in ("held", "frames") if outdated else ():
                numbers = json.dumps(outdated)
                database.execute(f"DELETE FROM {table} WHERE part IN (SELECT value FROM json_each(?))", [numbers])
            database.executemany("DELETE FROM parts WHERE number = ?", [(number,) for number in outdated])
            held, frames = [], []
            for key, content in contents.items():
                sql = "INSERT INTO parts (table_name, part, stamp) VALUES (?, ?, ?) RETURNING number"
                (number,) = database.execute(sql, (*key, stamps[key])).fetchone()
                part = pa.array(np.full(content.num_rows, number))
                row = pa.array(np.arange(content.num_rows))
                held.append(pa.table([content["frame_id"], part, row], ["frame_id", "part", "row"]))
                if key[0] == FRAMES.name:
                    frames.append(content.append_column("part", part))
            database.executemany("INSERT INTO held VALUES (?, ?, ?)", _sorted(held))
            database.executemany("INSERT OR REPLACE INTO frames VALUES (?, ?, ?, ?, ?)", _sorted(frames))

    def _read(self, table: str, part: str) -> pa.Table:
        spec = next(spec for spec in _TABLES if spec.name == table)
        path = self._store.folder(spec) / part
        columns = ["frame_id", *(("source_key", "frame_index", "frame_time_ms") if spec is FRAMES else ())]
        with damage_named(path), pq.ParquetFile(path) as file:
            return file.read(columns).select(columns)

    def _database(self) -> sqlite3.Connection:
        """This thread's connection."""
        database: sqlite3.Connection | None = getattr(self._local, "database", None)
        if database is None:
            database = self._local.database = sqlite3.connect(self._path, timeout=30, isolation_level=None)
        return database


_CREATE = f"""
PRAGMA journal_mode = WAL;
PRAGMA synchronous = OFF;  -- it can be made again
PRAGMA user_version = {_VERSION};
CREATE TABLE IF NOT EXISTS parts (
    number INTEGER PRIMARY KEY, table_name TEXT, part TEXT, stamp TEXT, UNIQUE (table_name, part)
);
CREATE TABLE IF NOT EXISTS held (
    frame_id TEXT, part INTEGER, row INTEGER, PRIMARY KEY (frame_id, part, row)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS frames (
    frame_id TEXT PRIMARY KEY, source_key TEXT, frame_index INTEGER, time_ms REAL, part INTEGER
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS frames_by_source ON frames (source_key, frame_index);
"""

_CINE = f"""
SELECT frame_id, frame_index, time_ms, EXISTS (
    SELECT * FROM held JOIN parts ON parts.number = held.part
    WHERE held.frame_id = frames.frame_id AND table_name = '{REGIONS.name}'
)
FROM frames WHERE source_key = (SELECT source_key FROM frames WHERE frame_id = ?) ORDER BY frame_index
"""


def _sorted(tables: Sequence[pa.Table]) -> Iterator[tuple[object, ...]]:
    """The rows of all tables by frame: in order, SQLite only appends."""
    if tables:
        for batch in pa.concat_tables(tables).sort_by("frame_id").to_batches(10_000):
            yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)


def part_stamp(path: Path) -> str | None:
    """Changes when a part is written again; None if it has gone meanwhile."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    stamp = f"{found.st_ino}-{found.st_size}-{found.st_mtime_ns}"
    return hashlib.sha256(stamp.encode()).hexdigest()  # as numbers, an audit would take them for somebody's


@contextlib.contextmanager
def _transaction(database: sqlite3.Connection) -> Iterator[None]:
    database.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        database.execute("ROLLBACK")
        raise
    database.execute("COMMIT")

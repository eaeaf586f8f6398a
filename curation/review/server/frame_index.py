"""Which part of each table holds the rows of a frame, so that one frame is found at once among millions."""

from __future__ import annotations

import contextlib
import hashlib
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pyarrow.parquet as pq

from sono.manifests.schemas import CAPTIONS, FRAMES, QC, REGIONS, TableSpec
from sono.manifests.store import TableStore, damage_named

FILE = "frames.sqlite"
_VERSION = 1
_TABLES = (FRAMES, QC, REGIONS, CAPTIONS)


class CineFrame(NamedTuple):
    """A frame of a cine: its place from 0, the time since the first one in ms if known, and whether it has masks."""

    frame_id: str
    frame_index: int
    time_ms: float | None
    has_masks: bool


@dataclass(frozen=True)
class Rows:
    """Rows of one part: the part's file name, and the numbers of the rows in it."""

    part: str
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
            known = {(table, part): stamp for table, part, stamp in database.execute("SELECT * FROM parts")}
            found = {
                (table.name, path.name): stamp
                for table in _TABLES
                for path in self._store.paths(table)
                if (stamp := _stamp(path)) is not None
            }
            changed = [key for key in {*known, *found} if known.get(key) != found.get(key)]
            for table, part in sorted(changed):
                with _transaction(database):
                    database.execute("DELETE FROM held WHERE table_name = ? AND part = ?", (table, part))
                    if table == FRAMES.name:
                        database.execute("DELETE FROM frames WHERE part = ?", (part,))
                    database.execute("DELETE FROM parts WHERE table_name = ? AND part = ?", (table, part))
                    if (table, part) in found:
                        self._read(database, table, part)
                        database.execute("INSERT INTO parts VALUES (?, ?, ?)", (table, part, found[table, part]))
            return bool(changed)

    def rows(self, table: TableSpec, frame_id: str) -> list[Rows]:
        """Where the rows of a frame are; empty if the table has none."""
        sql = "SELECT part, row FROM held WHERE frame_id = ? AND table_name = ? ORDER BY part, row"
        by_part: dict[str, list[int]] = {}
        for part, row in self._database().execute(sql, (frame_id, table.name)):
            by_part.setdefault(part, []).append(row)
        return [Rows(part, numbers) for part, numbers in by_part.items()]

    def cine(self, frame_id: str) -> list[CineFrame]:
        """The frames of the file that a frame is from, in order; only itself for a still."""
        return [CineFrame(*row) for row in self._database().execute(_CINE, (frame_id,))]

    def _read(self, database: sqlite3.Connection, table: str, part: str) -> None:
        spec = next(spec for spec in _TABLES if spec.name == table)
        path = self._store.folder(spec) / part
        columns = ["frame_id", *(("source_key", "frame_index", "frame_time_ms") if spec is FRAMES else ())]
        with damage_named(path), pq.ParquetFile(path) as file:
            content = file.read(columns)
        frame_ids = content["frame_id"].to_pylist()
        held = ((frame_id, table, part, row) for row, frame_id in enumerate(frame_ids))
        database.executemany("INSERT INTO held VALUES (?, ?, ?, ?)", held)
        if spec is FRAMES:
            others = (content[name].to_pylist() for name in columns[1:])
            rows = zip(frame_ids, *others, [part] * len(frame_ids), strict=True)
            database.executemany("INSERT OR REPLACE INTO frames VALUES (?, ?, ?, ?, ?)", rows)

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
CREATE TABLE IF NOT EXISTS parts (table_name TEXT, part TEXT, stamp TEXT, PRIMARY KEY (table_name, part)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS held (
    frame_id TEXT, table_name TEXT, part TEXT, row INTEGER, PRIMARY KEY (frame_id, table_name, part, row)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS held_by_part ON held (table_name, part);
CREATE TABLE IF NOT EXISTS frames (
    frame_id TEXT PRIMARY KEY, source_key TEXT, frame_index INTEGER, time_ms REAL, part TEXT
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS frames_by_source ON frames (source_key, frame_index);
CREATE INDEX IF NOT EXISTS frames_by_part ON frames (part);
"""

_CINE = f"""
SELECT frame_id, frame_index, time_ms,
    EXISTS (SELECT * FROM held WHERE held.frame_id = frames.frame_id AND table_name = '{REGIONS.name}')
FROM frames WHERE source_key = (SELECT source_key FROM frames WHERE frame_id = ?) ORDER BY frame_index
"""


def _stamp(path: Path) -> str | None:
    """Changes when a file is written again; None if it has gone meanwhile."""
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

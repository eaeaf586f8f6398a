"""The SQLite file of the journal of decisions: made, opened, and its faults as one line."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Mapping
from pathlib import Path

from .errors import UserError

FOLDER, FILE = "review", "journal.sqlite"

_APPLICATION_ID, _VERSION = 0x536F6E6F, 1
_BUSY_S = 30.0
_PAGE_BYTES = 8192  # events with two masks take a third to a half of it; of 4,096 bytes a third would stay empty

SUBJECT = "coalesce(region_id, frame_id)"
"""What an event is about, in SQL."""

DECIDES = "reading IN ('first', 'adjudication')"
"""Whether an event decides, in SQL."""

FORGOTTEN = "forgotten"  # the action of an event of which nothing but its number is left
STAY_AS_THEY_ARE = (
    "CREATE TRIGGER events_stay_as_they_are BEFORE UPDATE ON events BEGIN SELECT RAISE(ABORT, 'events stay'); END"
)

_TABLE = (
    """CREATE TABLE events (
        n INTEGER PRIMARY KEY,
        event_id TEXT NOT NULL UNIQUE,
        at TEXT NOT NULL,
        reviewer TEXT NOT NULL,
        tool TEXT NOT NULL,
        subject TEXT NOT NULL CHECK (subject IN ('region', 'frame')),
        frame_id TEXT NOT NULL,
        region_id TEXT CHECK ((region_id IS NULL) = (subject = 'frame')),
        structure TEXT,
        action TEXT NOT NULL,
        reading TEXT NOT NULL,
        before TEXT,
        after TEXT,
        decided INTEGER NOT NULL,
        undoes INTEGER REFERENCES events (n),
        stands INTEGER REFERENCES events (n)
    )""",
    f"CREATE INDEX events_of_subject ON events ({SUBJECT}, reading, n)",
    "CREATE INDEX events_of_frame ON events (frame_id, n)",
    "CREATE INDEX events_of_reviewer ON events (reviewer, n)",
    "CREATE INDEX events_undone ON events (undoes, n) WHERE undoes IS NOT NULL",
    "CREATE TRIGGER events_stay BEFORE DELETE ON events BEGIN SELECT RAISE(ABORT, 'events stay'); END",
    STAY_AS_THEY_ARE,
)


def journal_path(workspace: Path) -> Path:
    return workspace / FOLDER / FILE


def connect(path: Path) -> sqlite3.Connection:
    """A connection to the journal, which is made if it is missing.

    Raises:
        UserError: the file is something else.
    """
    if not path.exists():
        path.parent.mkdir(mode=0o700, exist_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    database = sqlite3.connect(_uri(path), uri=True, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)
    try:
        if not _is_journal(database, path):
            _make(database, path)
        database.execute("PRAGMA synchronous = FULL")
        database.execute("PRAGMA foreign_keys = ON")
        database.execute("PRAGMA secure_delete = ON")  # what is forgotten is overwritten, however SQLite was built
    except BaseException:
        database.close()
        raise
    return database


def _uri(path: Path) -> str:
    """How SQLite is to open the file; one that cannot be written, and that nobody is writing to, without its lock."""
    if os.access(path, os.W_OK) and os.access(path.parent, os.W_OK):
        return path.absolute().as_uri()
    log = path.with_name(f"{path.name}-wal")
    alone = not log.exists() or log.stat().st_size == 0
    return f"{path.absolute().as_uri()}?{'immutable=1' if alone else 'mode=ro'}"


def _is_journal(database: sqlite3.Connection, path: Path) -> bool:
    """Whether the file is one; False if nothing is in it.

    Raises:
        UserError: something else is.
    """
    application, version, tables = (
        int(database.execute(sql).fetchone()[0])
        for sql in ("PRAGMA application_id", "PRAGMA user_version", "SELECT count(*) FROM sqlite_master")
    )
    if (application, version) == (_APPLICATION_ID, _VERSION):
        return True
    if application == _APPLICATION_ID:
        raise UserError(
            "another version of sono-curate wrote this journal", where=str(path), fix="use that version, or a newer one"
        )
    if application or version or tables:
        what, fix = FAULTS[sqlite3.SQLITE_NOTADB]
        raise UserError(what, where=str(path), fix=fix)
    return False


def _make(database: sqlite3.Connection, path: Path) -> None:
    """Make the tables; several processes may try to at once."""
    deadline = time.monotonic() + _BUSY_S
    database.execute(f"PRAGMA page_size = {_PAGE_BYTES}")
    while True:
        try:
            database.execute("PRAGMA journal_mode = WAL")
            break
        except sqlite3.OperationalError as error:  # SQLite does not wait here
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
    database.execute("PRAGMA synchronous = FULL")
    database.execute("BEGIN IMMEDIATE")
    try:
        if not _is_journal(database, path):
            for statement in _TABLE:
                database.execute(statement)
            database.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
            database.execute(f"PRAGMA user_version = {_VERSION}")
        database.execute("COMMIT")
    except BaseException:
        if database.in_transaction:
            database.execute("ROLLBACK")
        raise
    for folder in (path.parent, path.parent.parent):  # their new names survive a power failure, too
        descriptor = os.open(folder, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)


_NOT_SAVED = "this decision was not saved, all earlier ones are"

FAULTS: Mapping[int, tuple[str, str]] = {
    sqlite3.SQLITE_FULL: ("no space is left", f"free some, then decide again: {_NOT_SAVED}"),
    sqlite3.SQLITE_IOERR: (
        "the disk cannot be read or written",
        f"check the disk, its quota and its free space, then decide again: {_NOT_SAVED}",
    ),
    sqlite3.SQLITE_READONLY: ("the journal of decisions cannot be written", "check the permissions"),
    sqlite3.SQLITE_PERM: ("permission denied", "check the permissions"),
    sqlite3.SQLITE_CANTOPEN: ("the journal of decisions cannot be opened", "check the folder and its permissions"),
    sqlite3.SQLITE_BUSY: ("another program holds the journal of decisions", f"close it, then try again: {_NOT_SAVED}"),
    sqlite3.SQLITE_CORRUPT: (
        "the journal of decisions is damaged",
        "keep this file and put a copy from your backup in its place",
    ),
    sqlite3.SQLITE_NOTADB: ("not a journal of decisions", "move it away, or put a copy from your backup in its place"),
}

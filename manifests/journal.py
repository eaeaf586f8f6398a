"""The journal of decisions: every accepted, edited, rejected or drawn mask and judged frame, as events in SQLite.

Events are only ever appended, and one is on disk when ``append`` returns. Nothing else of what people decide is kept:
the tables ``regions`` and ``qc`` follow from what stages wrote and from the journal (``decided_rows``).
"""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import sqlite3
import threading
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .errors import UserError

FOLDER, FILE = "review", "journal.sqlite"

STATUS_AFTER: Mapping[str, str] = {"accept": "accepted", "edit": "edited", "draw": "accepted", "reject": "rejected"}
"""The status that a decision gives a region."""

ACTIONS: Mapping[str, Sequence[str]] = {
    "region": ("accept", "edit", "reject", "draw"),
    "frame": ("accept", "review", "reject"),
}
"""What can be decided of each subject; ``undo`` and ``redo`` take back and repeat any of it."""

READINGS = ("first", "second", "repeat", "adjudication")
DECIDING = ("first", "adjudication")
"""The readings that decide what the tables say; the others are kept to see how far readers agree."""

REVIEWER = "reviewer"
"""The reason of a frame's verdict that a person gave; with an underscore and why, if they said."""

_APPLICATION_ID, _VERSION = 0x536F6E6F, 1
_BUSY_S = 30.0
_PAGE_BYTES = 8192  # events with two masks take a third to a half of it; of 4,096 bytes a third would stay empty
_AT_ONCE = 500  # rows or ids in one query


@dataclass(frozen=True, kw_only=True)
class NewEvent:
    """A decision that is not in the journal yet.

    Attributes:
        event_id: made where the decision was made: sent twice, it is one event.
        tool: what it was made with: the program, the tools used, the seconds it took.
        region_id: None for a decision on the frame itself.
        before, after: the whole row of ``regions`` with its mask, timestamps in ISO 8601; of a frame ``verdict`` and
            ``reasons``; None where there is no such region. ``append`` sets the status, the reviewer and the time of
            ``after``.
        decided: whether a person's decision stands afterwards. ``append`` sets it for ``undo`` and ``redo``.
        undoes: of an ``undo`` or ``redo``, the event that it takes back or repeats.
    """

    event_id: str
    reviewer: str
    subject: str
    frame_id: str
    region_id: str | None
    action: str
    structure: str | None = None
    reading: str = "first"
    before: Mapping[str, Any] | None = None
    after: Mapping[str, Any] | None = None
    tool: Mapping[str, Any] = field(default_factory=dict)
    decided: bool = True
    undoes: int | None = None

    def __post_init__(self) -> None:
        problem = _problem(self)
        if problem:
            raise ValueError(f"not an event: {problem}")

    @property
    def subject_id(self) -> str:
        return self.frame_id if self.region_id is None else self.region_id


@dataclass(frozen=True, kw_only=True)
class Event(NewEvent):
    """A decision in the journal; the attributes of ``NewEvent`` are as they were stored.

    Attributes:
        n: its place in the journal, from 1.
        at: when it was stored, in UTC.
        stands: the event whose ``after`` holds for the subject from here on: itself, or the one that an undo went back
            to or a redo repeated; None where nothing is decided any more.
    """

    n: int
    at: datetime.datetime
    stands: int | None

    def __post_init__(self) -> None:
        """Nothing is checked: what an earlier version stored is read as it is."""


class ChangedMeanwhileError(Exception):
    """Somebody else has decided on the subject since; ``latest`` is their event, None if there is none."""

    def __init__(self, latest: Event | None) -> None:
        super().__init__("somebody else has decided on this meanwhile")
        self.latest = latest


class NothingToUndoError(Exception):
    """The reviewer has decided nothing that could be taken back, or has taken nothing back that could be repeated."""


def journal_path(workspace: Path) -> Path:
    return workspace / FOLDER / FILE


def open_journal(workspace: Path) -> Journal | None:
    """The journal of a workspace; None if nobody has decided anything there."""
    path = journal_path(workspace)
    return Journal(path) if path.exists() else None


def is_reviewers(reason: object) -> bool:
    """Whether a person gave this reason for a frame's verdict."""
    return isinstance(reason, str) and (reason == REVIEWER or reason.startswith(f"{REVIEWER}_"))


class Journal:
    """The journal in the file ``path``, which is made if it is missing. Threads and processes may share it.

    Raises:
        UserError: the file is damaged, is something else, or cannot be written; here and from every method. What is
            in the journal stays as it is.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._local = threading.local()
        with self._faults():
            self._connection()

    def append(self, new: NewEvent, *, expected: int | None) -> Event:
        """Store a decision, which is on disk when this returns.

        Args:
            expected: the latest event on the subject that the reviewer has seen, as ``latest`` gives it; None for none.
                Decisions of a second or repeated reading are compared with that reading of the same reviewer alone.

        Raises:
            ChangedMeanwhileError: there is another by now, or the decision to undo does not stand any more.
        """
        with self._transaction() as database:
            known = _one(database, "event_id = ?", [new.event_id])
            if known is not None:
                return known
            latest = _latest_in_reading(database, new)
            if (latest.n if latest else None) != expected:
                raise ChangedMeanwhileError(latest)
            return _insert(database, new, latest)

    def undo(self, reviewer: str, event_id: str, tool: Mapping[str, Any] | None = None) -> Event:
        """Take back the reviewer's last decision that still stands.

        Raises:
            NothingToUndoError: there is none.
        """
        return self._step("undo", reviewer, event_id, tool)

    def redo(self, reviewer: str, event_id: str, tool: Mapping[str, Any] | None = None) -> Event:
        """Repeat the decision that the reviewer took back last, unless they have decided something else since.

        Raises:
            NothingToUndoError: there is none.
        """
        return self._step("redo", reviewer, event_id, tool)

    def undo_state(self, reviewer: str) -> tuple[int | None, int | None]:
        """The event that ``undo`` would take back, and the one that ``redo`` would repeat.

        Decisions that somebody else has changed since are not the reviewer's any more: both pass over them.
        """
        with self._reading() as database:
            return _undoable(database, reviewer), _redoable(database, reviewer)

    def latest(self, ids: Collection[str]) -> dict[str, Event]:
        """The latest event on each of these regions and frames that decides, and so on those that have any."""
        found: dict[str, Event] = {}
        with self._reading() as database:
            for some in _slices(ids):
                found |= {event.subject_id: event for event in _rows(database, _LATEST, [json.dumps(some)])}
        return found

    def standing(self, ids: Collection[str]) -> dict[str, tuple[Event, Event | None]]:
        """``latest``, each with the event whose ``after`` holds now: None where nothing is decided any more."""
        latest = self.latest(ids)
        undone = {event.stands for event in latest.values() if event.stands not in (None, event.n)}
        with self._reading() as database:
            earlier = {
                event.n: event
                for some in _slices(undone)
                for event in _rows(database, f"{_SELECT} WHERE n IN (SELECT value FROM json_each(?))",
                                   [json.dumps(some)])
            }  # fmt: skip
        return {
            key: (event, event if event.stands == event.n else earlier.get(event.stands or 0))
            for key, event in latest.items()
        }

    def history(self, subject_id: str) -> list[Event]:
        """Every event on a region or a frame, the first one first."""
        with self._reading() as database:
            return _rows(database, f"{_SELECT} WHERE {_SUBJECT} = ? ORDER BY n", [subject_id])

    def events(self, after: int = 0) -> Iterator[Event]:
        """The events with a higher number than ``after`` in their order; few are in memory at a time."""
        while True:
            with self._reading() as database:
                some = _rows(database, f"{_SELECT} WHERE n > ? ORDER BY n LIMIT {_AT_ONCE}", [after])
            if not some:
                return
            yield from some
            after = some[-1].n

    def has(self, event_id: str) -> bool:
        """Whether a decision is in the journal, by the id that was made where it was made."""
        with self._reading() as database:
            return _one(database, "event_id = ?", [event_id]) is not None

    def event(self, n: int) -> Event | None:
        """The event with this number."""
        with self._reading() as database:
            return _one(database, "n = ?", [n])

    def changed(self, subject: str, after: int = 0) -> Iterator[tuple[str, str, int]]:
        """The subjects on which events after this one decide, each once, with its frame and its latest event."""
        which = f"n > ? AND subject = ? AND {_DECIDES}"
        sql = f"SELECT {_SUBJECT}, min(frame_id), max(n) FROM events WHERE {which} GROUP BY 1"
        with self._reading() as database:
            yield from database.execute(sql, [after, subject])

    def regions_of(self, frame_id: str) -> list[str]:
        """The regions of a frame on which there are deciding events, drawn ones included."""
        sql = f"SELECT DISTINCT region_id FROM events WHERE frame_id = ? AND subject = 'region' AND {_DECIDES}"
        with self._reading() as database:
            return [region_id for (region_id,) in database.execute(sql, [frame_id])]

    def decided(self, subject: str, until: int) -> Iterator[tuple[str, str, str, str | None]]:
        """The subjects whose latest event, up to ``until``, left a decision: of the decision, the time, the reviewer
        and a frame's verdict.
        """
        latest = f"SELECT max(n) FROM events WHERE subject = ? AND {_DECIDES} GROUP BY {_SUBJECT}"
        sql = f"""SELECT coalesce(s.region_id, s.frame_id), s.at, s.reviewer, s.after ->> '$.verdict'
            FROM events l JOIN events s ON s.n = l.stands WHERE l.n <= ? AND l.n IN ({latest})"""
        with self._reading() as database:
            yield from database.execute(sql, [until, subject])

    def words(self) -> Iterator[str]:
        """Each distinct text that is in events besides ids, rows of regions, and who decided when."""
        texts = "json_remove(tool, '$.seconds')", "structure", "CASE WHEN subject = 'frame' THEN after END"
        with self._reading() as database:
            for text in texts:
                rows = database.execute(f"SELECT DISTINCT {text} AS text FROM events WHERE text IS NOT NULL")
                yield from (value for (value,) in rows)

    def first_masks(self, ids: Collection[str]) -> dict[str, str]:
        """The run lengths of what people saw when they first decided on these regions; drawn ones are not there."""
        found: dict[str, str] = {}
        with self._reading() as database:
            for some in _slices(ids):
                found |= dict(database.execute(_FIRST_MASKS, [json.dumps(some)]))
        return found

    def count(self) -> int:
        """How many events there are."""
        with self._reading() as database:
            return int(database.execute("SELECT count(*) FROM events").fetchone()[0])

    def count_deciding(self, after: int = 0) -> int:
        """How many events after this one decide."""
        with self._reading() as database:
            sql = f"SELECT count(*) FROM events WHERE n > ? AND {_DECIDES}"
            return int(database.execute(sql, [after]).fetchone()[0])

    def decisions_since(self, reviewer: str, n: int) -> int:
        """How many decisions, of any reading, a reviewer has made after this event."""
        with self._reading() as database:
            sql = "SELECT count(*) FROM events WHERE reviewer = ? AND n > ? AND action NOT IN ('undo', 'redo')"
            return int(database.execute(sql, [reviewer, n]).fetchone()[0])

    def read_again(self) -> list[str]:
        """The regions that somebody has read a second time."""
        sql = "SELECT DISTINCT region_id FROM events WHERE reading IN ('second', 'repeat') AND subject = 'region'"
        with self._reading() as database:
            return sorted(row[0] for row in database.execute(sql))

    def last(self) -> int:
        """The number of the last event that decides; 0 if there is none."""
        with self._reading() as database:
            found = database.execute(f"SELECT n FROM events WHERE {_DECIDES} ORDER BY n DESC LIMIT 1").fetchone()
        return int(found[0]) if found else 0

    def forget(self, frame_ids: Collection[str]) -> int:
        """Empty the events on these frames, of which only the numbers stay, and write the file anew.

        The one exception to "append only": their patients took back their consent.

        Returns:
            How many there were.
        """
        columns = ("before", "after", "structure", "region_id", "undoes", "stands")
        values = ", ".join([*(f"{column} = NULL" for column in columns), "decided = 0", "tool = '{}'", "reviewer = ''",
                            "subject = 'frame'", "frame_id = ''", f"action = '{_FORGOTTEN}'",
                            f"reading = '{_FORGOTTEN}'"])  # fmt: skip
        forgotten = 0
        with self._transaction() as database:
            database.execute("DROP TRIGGER events_stay_as_they_are")
            for some in _slices(frame_ids):
                condition = "frame_id IN (SELECT value FROM json_each(?))"
                # Undo and redo of an event name it: all of them are on its frame.
                done = database.execute(f"UPDATE events SET {values} WHERE {condition}", [json.dumps(some)])
                forgotten += done.rowcount
            database.execute(_STAY_AS_THEY_ARE)
        if forgotten:
            with self._reading() as database:
                database.execute("VACUUM")  # or the file would keep the old pages' bytes
                database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return forgotten

    def problem(self) -> str | None:
        """What SQLite finds wrong with the file; None if it is whole."""
        with self._reading() as database:
            found = str(database.execute("PRAGMA integrity_check(1)").fetchone()[0])
            gap = database.execute("SELECT max(n) IS NOT nullif(count(*), 0) FROM events").fetchone()[0]
        return found if found != "ok" else "events are missing from it" if gap else None

    def close(self) -> None:
        """Close the connection of this thread; the next call opens it again."""
        known = getattr(self._local, "known", None)
        self._local.known = None
        if known and known[0] == os.getpid():
            known[1].close()

    def _step(self, action: str, reviewer: str, event_id: str, tool: Mapping[str, Any] | None) -> Event:
        with self._transaction() as database:
            known = _one(database, "event_id = ?", [event_id])
            if known is not None:
                return known
            n = (_undoable if action == "undo" else _redoable)(database, reviewer)
            of = n and _one(database, "n = ?", [n])
            if not of:
                raise NothingToUndoError
            latest = _latest_in_reading(database, of)
            before, after = (of.after, of.before) if action == "undo" else (of.before, of.after)
            new = NewEvent(
                event_id=event_id,
                reviewer=reviewer,
                subject=of.subject,
                frame_id=of.frame_id,
                region_id=of.region_id,
                action=action,
                structure=of.structure,
                reading=of.reading,
                before=before,
                after=after,
                tool=tool or {},
                undoes=of.n,
            )
            return _insert(database, new, latest)

    @contextlib.contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with self._faults():
            yield self._connection()

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._faults():
            database = self._connection()
            database.execute("BEGIN IMMEDIATE")
            try:
                yield database
                database.execute("COMMIT")
            except BaseException:
                if database.in_transaction:
                    database.execute("ROLLBACK")
                raise

    def _connection(self) -> sqlite3.Connection:
        """This thread's connection; a process that was forked from another one needs its own."""
        known = getattr(self._local, "known", None)
        if known is None or known[0] != os.getpid():
            known = self._local.known = (os.getpid(), _connect(self.path))
        database: sqlite3.Connection = known[1]
        return database

    @contextlib.contextmanager
    def _faults(self) -> Iterator[None]:
        """What SQLite says of the disk or of the file, as one line."""
        try:
            yield
        except sqlite3.Error as error:
            what, fix = _FAULTS.get(getattr(error, "sqlite_errorcode", 0) & 0xFF, (None, None))
            if what is None:
                raise
            raise UserError(what, where=str(self.path), fix=fix) from error


_NOT_SAVED = "this decision was not saved, all earlier ones are"

_FAULTS: Mapping[int, tuple[str, str]] = {
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

_SUBJECT = "coalesce(region_id, frame_id)"
_DECIDES = "reading IN ('first', 'adjudication')"

_FORGOTTEN = "forgotten"  # the action of an event of which nothing but its number is left
_STAY_AS_THEY_ARE = (
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
    f"CREATE INDEX events_of_subject ON events ({_SUBJECT}, reading, n)",
    "CREATE INDEX events_of_frame ON events (frame_id, n)",
    "CREATE INDEX events_of_reviewer ON events (reviewer, n)",
    "CREATE INDEX events_undone ON events (undoes, n) WHERE undoes IS NOT NULL",
    "CREATE TRIGGER events_stay BEFORE DELETE ON events BEGIN SELECT RAISE(ABORT, 'events stay'); END",
    _STAY_AS_THEY_ARE,
)

_COLUMNS = (
    *("n", "event_id", "at", "reviewer", "tool", "subject", "frame_id", "region_id", "structure", "action"),
    *("reading", "before", "after", "decided", "undoes", "stands"),
)
_SELECT = f"SELECT {', '.join(_COLUMNS)} FROM events"
_INSERT = f"INSERT INTO events ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(_COLUMNS))})"

_LATEST = f"""{_SELECT} WHERE n IN (
    SELECT (SELECT max(n) FROM events WHERE {_SUBJECT} = value AND {_DECIDES}) FROM json_each(?)
)"""


_FIRST_MASKS = f"""SELECT region_id, before ->> '$.mask.counts' FROM events WHERE before IS NOT NULL AND n IN (
    SELECT (SELECT min(n) FROM events WHERE {_SUBJECT} = value AND {_DECIDES}) FROM json_each(?)
)"""


def _connect(path: Path) -> sqlite3.Connection:
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
        what, fix = _FAULTS[sqlite3.SQLITE_NOTADB]
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


def _insert(database: sqlite3.Connection, new: NewEvent, latest: Event | None) -> Event:
    """Store an event after ``latest``, the one that it follows."""
    n = int(database.execute("SELECT coalesce(max(n), 0) + 1 FROM events").fetchone()[0])
    at = datetime.datetime.now(datetime.UTC)
    stands: int | None = n
    after = new.after
    if new.undoes is not None:
        stands = _stands_after(database, new, latest)
    elif new.subject == "region" and after is not None:
        status = {"status": STATUS_AFTER[new.action], "reviewer": new.reviewer, "updated_at": _iso(at)}
        after = {**after, **status}
    values = {**vars(new), "n": n, "at": at, "after": after, "stands": stands, "decided": stands is not None}
    event = Event(**values)
    row = {
        **values,
        "at": _iso(at),
        "tool": _json(event.tool),
        "before": _json(event.before),
        "after": _json(event.after),
        "decided": int(event.decided),
    }
    database.execute(_INSERT, [row[name] for name in _COLUMNS])
    return event


def _stands_after(database: sqlite3.Connection, new: NewEvent, latest: Event | None) -> int | None:
    """What stands after an undo or a redo.

    Raises:
        ChangedMeanwhileError: what it takes back does not stand any more, or what it repeats would not follow what
            stands now.
    """
    before = _stood_before(database, new.undoes or 0)
    now = latest.stands if latest else None
    wanted, result = (new.undoes, before) if new.action == "undo" else (before, new.undoes)
    if now != wanted:
        raise ChangedMeanwhileError(latest)
    return result


def _stood_before(database: sqlite3.Connection, n: int) -> int | None:
    """What stood on the subject of an event until it was decided."""
    of = _one(database, "n = ?", [n])
    if of is None:
        return None
    earlier = _latest_in_reading(database, of, until=n)
    return earlier.stands if earlier else None


def _latest_in_reading(database: sqlite3.Connection, of: NewEvent, until: int | None = None) -> Event | None:
    """The latest event before ``until`` that one on this subject in this reading follows."""
    condition, values = f"{_SUBJECT} = ? AND {_DECIDES}", [of.subject_id]
    if of.reading not in DECIDING:
        condition, values = (
            f"{_SUBJECT} = ? AND reading = ? AND reviewer = ?",
            [*(of.subject_id, of.reading, of.reviewer)],
        )
    limit = "" if until is None else f"AND n < {until:d}"
    return _one(database, f"{condition} {limit} ORDER BY n DESC LIMIT 1", values)


def _undoable(database: sqlite3.Connection, reviewer: str) -> int | None:
    """The reviewer's last decision that is not taken back and that still stands.

    What an event leaves to undo follows from what the events before it left, so no list of them is kept.
    """
    at: int | None = None  # before which event
    while (previous := _previous(database, reviewer, at)) is not None:
        n, action, undoes = previous
        if action == "undo":
            at = undoes  # all from there on is taken back
            continue
        candidate = n if undoes is None else undoes
        if _stands(database, candidate):
            return candidate
        at = candidate
    return None


def _redoable(database: sqlite3.Connection, reviewer: str) -> int | None:
    """The decision that the reviewer took back last and has not repeated, if they have decided nothing since."""
    at: int | None = None
    while (previous := _previous(database, reviewer, at)) is not None:
        n, action, undoes = previous
        if undoes is None:
            return None
        if action == "undo" and _follows(database, undoes):
            return int(undoes)
        # What was taken back before it is next: before this undo, or before the one that this redo repeated.
        at = n if action == "undo" else _undone_at(database, undoes, n)
    return None


def _previous(database: sqlite3.Connection, reviewer: str, at: int | None) -> tuple[int, str, int | None] | None:
    """Number, action and ``undoes`` of the reviewer's last event before ``at``."""
    limit = "" if at is None else f"AND n < {at:d}"
    sql = f"SELECT n, action, undoes FROM events WHERE reviewer = ? {limit} ORDER BY n DESC LIMIT 1"
    found: tuple[int, str, int | None] | None = database.execute(sql, [reviewer]).fetchone()
    return found


def _undone_at(database: sqlite3.Connection, n: int, before: int) -> int:
    sql = "SELECT max(n) FROM events WHERE undoes = ? AND action = 'undo' AND n < ?"
    return int(database.execute(sql, [n, before]).fetchone()[0])


def _stands(database: sqlite3.Connection, n: int) -> bool:
    """Whether the subject of an event is still as it decided."""
    of = _one(database, "n = ?", [n])
    latest = _latest_in_reading(database, of) if of else None
    return latest is not None and latest.stands == n


def _follows(database: sqlite3.Connection, n: int) -> bool:
    """Whether the subject of an event is again as it was before it."""
    of = _one(database, "n = ?", [n])
    latest = _latest_in_reading(database, of) if of else None
    return (latest.stands if latest else None) == _stood_before(database, n)


def _one(database: sqlite3.Connection, condition: str, values: Sequence[object]) -> Event | None:
    found = _rows(database, f"{_SELECT} WHERE {condition}", values)
    return found[0] if found else None


def _rows(database: sqlite3.Connection, sql: str, values: Sequence[object]) -> list[Event]:
    return [_event(row) for row in database.execute(sql, values).fetchall()]


def _event(row: Sequence[Any]) -> Event:
    values = dict(zip(_COLUMNS, row, strict=True))
    for name in ("tool", "before", "after"):
        values[name] = None if values[name] is None else json.loads(values[name])
    values["at"] = datetime.datetime.fromisoformat(values["at"])
    values["decided"] = bool(values["decided"])
    return Event(**values)


def _slices(values: Collection[Any]) -> Iterator[list[Any]]:
    ordered = list(values)
    return (ordered[start : start + _AT_ONCE] for start in range(0, len(ordered), _AT_ONCE))


def _json(value: object) -> str | None:
    return None if value is None else json.dumps(value, separators=(",", ":"), allow_nan=False, default=_isoformat)


def _isoformat(value: object) -> str:
    if isinstance(value, datetime.datetime):
        return _iso(value)
    raise TypeError(f"not JSON: {type(value).__name__}")


def _iso(at: datetime.datetime) -> str:
    return at.astimezone(datetime.UTC).isoformat(timespec="microseconds")


def _problem(event: NewEvent) -> str | None:
    """Why something cannot be an event; tables are made from it for ever."""
    if event.subject not in ACTIONS or (event.region_id is None) != (event.subject == "frame"):
        return f"subject {event.subject!r} with region {event.region_id!r}"
    if not event.event_id or not event.reviewer or not event.frame_id:
        return "event_id, reviewer and frame_id are required"
    if event.reading not in READINGS:
        return f"reading {event.reading!r}"
    if (event.action in ("undo", "redo")) != (event.undoes is not None):
        return f"{event.action!r} that undoes {event.undoes!r}"
    if event.undoes is not None:
        return None
    if event.action not in ACTIONS[event.subject]:
        return f"action {event.action!r} on a {event.subject}"
    if event.after is None:
        return "a decision without what follows from it"
    return _frame_problem(event) if event.subject == "frame" else _region_problem(event, event.after)


def _frame_problem(event: NewEvent) -> str | None:
    after = event.after or {}
    if after.get("verdict") != event.action:
        return f"verdict {after.get('verdict')!r} after {event.action!r}"
    reasons = after.get("reasons")
    if not isinstance(reasons, list) or not all(is_reviewers(reason) for reason in reasons):
        return f"reasons {reasons!r}: not {REVIEWER!r} or {REVIEWER + '_...'!r}"
    return None


def _region_problem(event: NewEvent, after: Mapping[str, Any]) -> str | None:
    wanted = {"region_id": event.region_id, "frame_id": event.frame_id, "structure": event.structure}
    for name, value in wanted.items():
        if not value or after.get(name) != value:
            return f"{name} {after.get(name)!r} of the row, {value!r} of the event"
    if not after.get("pixel_digest") or not after.get("source"):
        return "a row without pixel_digest or source"
    for name in ("source", "pixel_digest", "prompt", "scores", "parent_id", "model_sha256"):
        if not isinstance(after.get(name), str | None):
            return f"{name} that is no text"
    mask, box = after.get("mask"), after.get("bbox")
    if not isinstance(mask, Mapping) or not isinstance(mask.get("counts"), str) or not _whole(mask.get("size"), 2):
        return "a row without a mask in run lengths"
    if not _whole(box, 4) or not _whole([after.get("area_px")], 1):
        return "a row without box and area"
    return None


def _whole(values: object, count: int) -> bool:
    return isinstance(values, list) and len(values) == count and all(type(value) is int for value in values)

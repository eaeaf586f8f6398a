"""The journal of decisions: every accepted, edited, rejected or drawn mask and judged frame, as events in SQLite.

Events are only ever appended, and one is on disk when ``append`` returns. Nothing else of what people decide is kept:
the tables ``regions`` and ``qc`` follow from what stages wrote and from the journal (``decided_rows``).
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import threading
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from .errors import UserError
from .journal_events import ChangedMeanwhileError, Event, NewEvent
from .journal_file import DECIDES, FAULTS, FORGOTTEN, STAY_AS_THEY_ARE, SUBJECT, connect, journal_path
from .journal_rows import SELECT, insert, latest_in_reading, one, redoable, rows, undoable

_AT_ONCE = 500  # rows or ids in one query


class NothingToUndoError(Exception):
    """The reviewer has decided nothing that could be taken back, or has taken nothing back that could be repeated."""


def open_journal(workspace: Path) -> Journal | None:
    """The journal of a workspace; None if nobody has decided anything there."""
    path = journal_path(workspace)
    return Journal(path) if path.exists() else None


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
            known = one(database, "event_id = ?", [new.event_id])
            if known is not None:
                return known
            latest = latest_in_reading(database, new)
            if (latest.n if latest else None) != expected:
                raise ChangedMeanwhileError(latest)
            return insert(database, new, latest)

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
            return undoable(database, reviewer), redoable(database, reviewer)

    def latest(self, ids: Collection[str]) -> dict[str, Event]:
        """The latest event on each of these regions and frames that decides, and so on those that have any."""
        found: dict[str, Event] = {}
        with self._reading() as database:
            for some in _slices(ids):
                found |= {event.subject_id: event for event in rows(database, _LATEST, [json.dumps(some)])}
        return found

    def standing(self, ids: Collection[str]) -> dict[str, tuple[Event, Event | None]]:
        """``latest``, each with the event whose ``after`` holds now: None where nothing is decided any more."""
        latest = self.latest(ids)
        undone = {event.stands for event in latest.values() if event.stands not in (None, event.n)}
        with self._reading() as database:
            earlier = {
                event.n: event
                for some in _slices(undone)
                for event in rows(database, f"{SELECT} WHERE n IN (SELECT value FROM json_each(?))",
                                   [json.dumps(some)])
            }  # fmt: skip
        return {
            key: (event, event if event.stands == event.n else earlier.get(event.stands or 0))
            for key, event in latest.items()
        }

    def history(self, subject_id: str) -> list[Event]:
        """Every event on a region or a frame, the first one first."""
        with self._reading() as database:
            return rows(database, f"{SELECT} WHERE {SUBJECT} = ? ORDER BY n", [subject_id])

    def events(self, after: int = 0) -> Iterator[Event]:
        """The events with a higher number than ``after`` in their order; few are in memory at a time."""
        while True:
            with self._reading() as database:
                some = rows(database, f"{SELECT} WHERE n > ? ORDER BY n LIMIT {_AT_ONCE}", [after])
            if not some:
                return
            yield from some
            after = some[-1].n

    def has(self, event_id: str) -> bool:
        """Whether a decision is in the journal, by the id that was made where it was made."""
        with self._reading() as database:
            return one(database, "event_id = ?", [event_id]) is not None

    def event(self, n: int) -> Event | None:
        """The event with this number."""
        with self._reading() as database:
            return one(database, "n = ?", [n])

    def changed(self, subject: str, after: int = 0) -> Iterator[tuple[str, str, int]]:
        """The subjects on which events after this one decide, each once, with its frame and its latest event."""
        which = f"n > ? AND subject = ? AND {DECIDES}"
        sql = f"SELECT {SUBJECT}, min(frame_id), max(n) FROM events WHERE {which} GROUP BY 1"
        with self._reading() as database:
            yield from database.execute(sql, [after, subject])

    def regions_of(self, frame_id: str) -> list[str]:
        """The regions of a frame on which there are deciding events, drawn ones included."""
        sql = f"SELECT DISTINCT region_id FROM events WHERE frame_id = ? AND subject = 'region' AND {DECIDES}"
        with self._reading() as database:
            return [region_id for (region_id,) in database.execute(sql, [frame_id])]

    def decided(self, subject: str, until: int) -> Iterator[tuple[str, str, str, str | None]]:
        """The subjects whose latest event, up to ``until``, left a decision: of the decision, the time, the reviewer
        and a frame's verdict.
        """
        latest = f"SELECT max(n) FROM events WHERE subject = ? AND {DECIDES} GROUP BY {SUBJECT}"
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
            sql = f"SELECT count(*) FROM events WHERE n > ? AND {DECIDES}"
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
            found = database.execute(f"SELECT n FROM events WHERE {DECIDES} ORDER BY n DESC LIMIT 1").fetchone()
        return int(found[0]) if found else 0

    def forget(self, frame_ids: Collection[str]) -> int:
        """Empty the events on these frames, of which only the numbers stay, and write the file anew.

        The one exception to "append only": their patients took back their consent.

        Returns:
            How many there were.
        """
        columns = ("before", "after", "structure", "region_id", "undoes", "stands")
        values = ", ".join([*(f"{column} = NULL" for column in columns), "decided = 0", "tool = '{}'", "reviewer = ''",
                            "subject = 'frame'", "frame_id = ''", f"action = '{FORGOTTEN}'",
                            f"reading = '{FORGOTTEN}'"])  # fmt: skip
        forgotten = 0
        with self._transaction() as database:
            database.execute("DROP TRIGGER events_stay_as_they_are")
            for some in _slices(frame_ids):
                condition = "frame_id IN (SELECT value FROM json_each(?))"
                # Undo and redo of an event name it: all of them are on its frame.
                done = database.execute(f"UPDATE events SET {values} WHERE {condition}", [json.dumps(some)])
                forgotten += done.rowcount
            database.execute(STAY_AS_THEY_ARE)
        with self._reading() as database:
            # A run that was killed here has emptied its events, and the file and its log may have the old bytes still.
            if database.execute(f"SELECT 1 FROM events WHERE action = '{FORGOTTEN}' LIMIT 1").fetchone():
                database.execute("VACUUM")
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
            known = one(database, "event_id = ?", [event_id])
            if known is not None:
                return known
            n = (undoable if action == "undo" else redoable)(database, reviewer)
            of = n and one(database, "n = ?", [n])
            if not of:
                raise NothingToUndoError
            latest = latest_in_reading(database, of)
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
            return insert(database, new, latest)

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
            known = self._local.known = (os.getpid(), connect(self.path))
        database: sqlite3.Connection = known[1]
        return database

    @contextlib.contextmanager
    def _faults(self) -> Iterator[None]:
        """What SQLite says of the disk or of the file, as one line."""
        try:
            yield
        except sqlite3.Error as error:
            what, fix = FAULTS.get(getattr(error, "sqlite_errorcode", 0) & 0xFF, (None, None))
            if what is None:
                raise
            raise UserError(what, where=str(self.path), fix=fix) from error


_LATEST = f"""{SELECT} WHERE n IN (
    SELECT (SELECT max(n) FROM events WHERE {SUBJECT} = value AND {DECIDES}) FROM json_each(?)
)"""


_FIRST_MASKS = f"""SELECT region_id, before ->> '$.mask.counts' FROM events WHERE before IS NOT NULL AND n IN (
    SELECT (SELECT min(n) FROM events WHERE {SUBJECT} = value AND {DECIDES}) FROM json_each(?)
)"""


def _slices(values: Collection[Any]) -> Iterator[list[Any]]:
    ordered = list(values)
    return (ordered[start : start + _AT_ONCE] for start in range(0, len(ordered), _AT_ONCE))

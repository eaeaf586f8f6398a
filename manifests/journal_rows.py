"""Events as rows of the journal's file: stored, read, and what an undo or a redo goes back to."""

from __future__ import annotations

import datetime
import json
import sqlite3
from collections.abc import Sequence
from typing import Any

from .journal_events import DECIDING, STATUS_AFTER, ChangedMeanwhileError, Event, NewEvent
from .journal_file import DECIDES, SUBJECT

_COLUMNS = (
    *("n", "event_id", "at", "reviewer", "tool", "subject", "frame_id", "region_id", "structure", "action"),
    *("reading", "before", "after", "decided", "undoes", "stands"),
)
SELECT = f"SELECT {', '.join(_COLUMNS)} FROM events"
_INSERT = f"INSERT INTO events ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(_COLUMNS))})"


def insert(database: sqlite3.Connection, new: NewEvent, latest: Event | None) -> Event:
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
    of = one(database, "n = ?", [n])
    if of is None:
        return None
    earlier = latest_in_reading(database, of, until=n)
    return earlier.stands if earlier else None


def latest_in_reading(database: sqlite3.Connection, of: NewEvent, until: int | None = None) -> Event | None:
    """The latest event before ``until`` that one on this subject in this reading follows."""
    condition, values = f"{SUBJECT} = ? AND {DECIDES}", [of.subject_id]
    if of.reading not in DECIDING:
        condition, values = (
            f"{SUBJECT} = ? AND reading = ? AND reviewer = ?",
            [*(of.subject_id, of.reading, of.reviewer)],
        )
    limit = "" if until is None else f"AND n < {until:d}"
    return one(database, f"{condition} {limit} ORDER BY n DESC LIMIT 1", values)


def undoable(database: sqlite3.Connection, reviewer: str) -> int | None:
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


def redoable(database: sqlite3.Connection, reviewer: str) -> int | None:
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
    of = one(database, "n = ?", [n])
    latest = latest_in_reading(database, of) if of else None
    return latest is not None and latest.stands == n


def _follows(database: sqlite3.Connection, n: int) -> bool:
    """Whether the subject of an event is again as it was before it."""
    of = one(database, "n = ?", [n])
    latest = latest_in_reading(database, of) if of else None
    return (latest.stands if latest else None) == _stood_before(database, n)


def one(database: sqlite3.Connection, condition: str, values: Sequence[object]) -> Event | None:
    found = rows(database, f"{SELECT} WHERE {condition}", values)
    return found[0] if found else None


def rows(database: sqlite3.Connection, sql: str, values: Sequence[object]) -> list[Event]:
    return [_event(row) for row in database.execute(sql, values).fetchall()]


def _event(row: Sequence[Any]) -> Event:
    values = dict(zip(_COLUMNS, row, strict=True))
    for name in ("tool", "before", "after"):
        values[name] = None if values[name] is None else json.loads(values[name])
    values["at"] = datetime.datetime.fromisoformat(values["at"])
    values["decided"] = bool(values["decided"])
    return Event(**values)


def _json(value: object) -> str | None:
    return None if value is None else json.dumps(value, separators=(",", ":"), allow_nan=False, default=_isoformat)


def _isoformat(value: object) -> str:
    if isinstance(value, datetime.datetime):
        return _iso(value)
    raise TypeError(f"not JSON: {type(value).__name__}")


def _iso(at: datetime.datetime) -> str:
    return at.astimezone(datetime.UTC).isoformat(timespec="microseconds")

"""Where notes on references in FHIR records are kept: an SQLite file for a bulk export, memory for a bundle.

A store holds short texts under keyed hashes; ``notes`` says which. Two resources that claim one reference leave a note
that it is ambiguous.
"""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote

PATIENT, UNCLEAR = "P", ""
"""First words of notes: of a patient, and where two resources claim one reference."""


class Store(Protocol):
    """Where notes are kept: an ``Index``, or a ``BundleStore``."""

    def put(self, key: str, value: str) -> None: ...

    def get(self, key: str) -> str | None: ...


class Index:
    """What references in a bulk export lead to, in an SQLite file: keyed hashes and pseudonymous days, nothing else.

    One process writes; when it has flushed, any number of processes may read. It travels between processes as its path.
    The file is made by the first ``flush`` that has something to write; without it nothing is found.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._waiting: list[tuple[str, str]] = []
        self._connection: sqlite3.Connection | None = None
        self._opened: tuple[int, bool] | None = None  # by which process, for writing

    def __getstate__(self) -> dict[str, Any]:
        self.flush()
        return {"_path": self._path, "_waiting": [], "_connection": None, "_opened": None}

    def __del__(self) -> None:
        self.close()

    def put(self, key: str, value: str) -> None:
        self._waiting.append((key, value))
        if len(self._waiting) >= 20_000:
            self.flush()

    def get(self, key: str) -> str | None:
        self.flush()
        connection = self._open(write=False)
        row = connection.execute("SELECT value FROM known WHERE key = ?", (key,)).fetchone() if connection else None
        return None if row is None else str(row[0])

    def flush(self) -> None:
        if not self._waiting:
            return
        connection = self._open(write=True)
        assert connection is not None
        with connection:
            connection.executemany(
                "INSERT INTO known VALUES (?, ?) ON CONFLICT (key) "
                "DO UPDATE SET value = merged(value, excluded.value) WHERE value <> excluded.value",
                self._waiting,
            )
        self._waiting.clear()

    def close(self) -> None:
        # a connection that came over a fork belongs to the other process
        if self._connection is not None and self._opened is not None and self._opened[0] == os.getpid():
            self._connection.close()
        self._connection = None

    def _open(self, *, write: bool) -> sqlite3.Connection | None:
        if self._connection is not None and self._opened in ((os.getpid(), True), (os.getpid(), write)):
            return self._connection
        self.close()
        if not write and not self._path.exists():
            return None
        options = "mode=rwc" if write else "mode=ro&immutable=1"
        self._connection = sqlite3.connect(f"file:{quote(str(self._path))}?{options}", uri=True)
        self._opened = os.getpid(), write
        if write:
            # It is rebuilt from the export whenever it is needed, so a crash may damage it.
            self._connection.executescript("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;")
            self._connection.execute(
                "CREATE TABLE IF NOT EXISTS known (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID"
            )
            self._connection.create_function("merged", 2, _merged, deterministic=True)
        return self._connection


class BundleStore:
    """The notes of a bundle itself, which come before those of an index."""

    def __init__(self, index: Store) -> None:
        self._index = index
        self._known: dict[str, str] = {}

    def put(self, key: str, value: str) -> None:
        self._known[key] = _merged(self._known.get(key, value), value)

    def get(self, key: str) -> str | None:
        return self._known[key] if key in self._known else self._index.get(key)


def _merged(old: str, new: str) -> str:
    if old == new:
        return old
    kind, key, *words = old.split() or (UNCLEAR, UNCLEAR)
    if kind == PATIENT and new.split()[:2] == [kind, key]:
        return " ".join((kind, key, *sorted({*words, *new.split()[2:]})))
    return UNCLEAR

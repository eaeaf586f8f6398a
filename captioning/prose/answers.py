"""A cache of a language model's answers under hashes of the requests: verified facts, and no text."""

from __future__ import annotations

import json
import os
import sqlite3
import stat
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from sono.manifests.errors import UserError

from .clauses import Span


class Answer(NamedTuple):
    """The facts that a text states where they were quoted, and how many claims it does not state."""

    spans: list[Span]
    refused: int


@dataclass(frozen=True)
class AnswerCache:
    """An SQLite file that only its owner may read.

    Every method raises ``UserError`` where others may read the file, or it cannot be used.
    """

    path: Path

    def find(self, key: str) -> Answer | None:
        """The answer under ``key``, if there is one; the places of its facts are not kept."""
        with closing(self._open()) as connection:
            try:
                row = connection.execute("SELECT facts FROM answers WHERE key = ?", (key,)).fetchone()
                if row is None:
                    return None
                answer = json.loads(row[0])
                spans = [Span(0, 0, str(fact), value) for fact, value in answer["facts"]]
                return Answer(spans, int(answer["refused"]))
            except (sqlite3.Error, ValueError, LookupError, TypeError) as error:
                raise self._unusable() from error

    def keep(self, key: str, answer: Answer) -> None:
        """Keep an answer under ``key``."""
        content = {"facts": [[span.fact, span.value] for span in answer.spans], "refused": answer.refused}
        with closing(self._open()) as connection:
            try:
                with connection:
                    connection.execute("INSERT OR REPLACE INTO answers VALUES (?, ?)", (key, json.dumps(content)))
            except sqlite3.Error as error:
                raise self._unusable() from error

    def _open(self) -> sqlite3.Connection:
        try:
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600))
            if stat.S_IMODE(self.path.stat().st_mode) & 0o077:
                raise UserError(
                    "other users can read the cache", where=str(self.path), fix=f"run: chmod 600 {self.path}"
                )
            connection = sqlite3.connect(self.path, timeout=60)
            connection.execute("CREATE TABLE IF NOT EXISTS answers (key TEXT PRIMARY KEY, facts TEXT NOT NULL)")
        except (OSError, sqlite3.Error) as error:
            raise self._unusable() from error
        return connection

    def _unusable(self) -> UserError:
        return UserError(
            "the language model's cache cannot be used", where=str(self.path), fix="delete it; it will be created again"
        )

"""How far reviewers are: decisions of this session, their pace, and what is left."""

from __future__ import annotations

import itertools
import threading
import time
from collections import deque
from dataclasses import dataclass, field

_FEWEST = 3  # decisions before a pace is named
_WINDOW = 50  # decisions that the pace is taken from
_BREAK_S = 300.0  # a longer pause is no work


@dataclass
class _Session:
    decided: int = 0
    moments: deque[float] = field(default_factory=lambda: deque(maxlen=_WINDOW + 1))


class Sessions:
    """Counts decisions by reviewer since the server started. Threads may share it."""

    def __init__(self) -> None:
        self._sessions: dict[str, _Session] = {}
        self._guard = threading.Lock()

    def count(self, reviewer: str, step: int = 1) -> None:
        """A decision was stored, or with -1 taken back."""
        with self._guard:
            session = self._sessions.setdefault(reviewer, _Session())
            session.decided += step
            if step > 0:
                session.moments.append(time.monotonic())

    def progress(self, reviewer: str) -> dict[str, object]:
        """Decisions of this session, seconds per decision without breaks, and decisions per hour at that pace."""
        with self._guard:
            session = self._sessions.get(reviewer, _Session())
            moments = list(session.moments)
        gaps = [after - before for before, after in itertools.pairwise(moments)]
        gaps = [gap for gap in gaps if gap < _BREAK_S]
        seconds = sum(gaps) / len(gaps) if len(moments) >= _FEWEST and gaps else None
        return {
            "decided_this_session": session.decided,
            "seconds_per_region": round(seconds, 2) if seconds else None,
            "per_hour": round(3600 / seconds) if seconds else None,
        }

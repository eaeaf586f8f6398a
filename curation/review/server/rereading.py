"""Which reading of a mask a reviewer makes, and what they see then: who reads again does not see what was decided."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

from sono.curation.review.readings import Owed, OwedReadings, ReadingPlan, shown
from sono.manifests.journal import Journal

from .frame_view import ShownReading, ShownRegion, Subject

_HANDED_OUT_S = 600.0  # before a mask that was to be read again, and was not, is handed out anew


class Rereading:
    """Second and repeated readings and adjudications. Threads may share it."""

    def __init__(self, journal: Journal, plan: ReadingPlan) -> None:
        self._journal, self._plan = journal, plan
        self._guard = threading.Lock()
        self._owed = OwedReadings(journal, plan)
        self._handed_out: dict[tuple[str, str], float] = {}

    def region(self, region_id: str, subject: Subject, reviewer: str) -> ShownRegion:
        """A region as the reviewer may see it; ``subject`` is the region as it stands."""
        reading = self._owes(region_id, reviewer)
        if reading == "first":
            return ShownRegion(subject)
        asked, *others = shown(self._journal.history(region_id), reading, self._plan)
        if reading == "adjudication":
            readings = [ShownReading(str(each.label), each.row["mask"] if each.row else None) for each in others]
            return ShownRegion(Subject(asked.row, subject.event), "adjudication", readings)
        return ShownRegion(Subject(asked.row, None), reading)

    def next(self, reviewer: str, limit: int, readings: Sequence[str], structure: str | None) -> list[Owed]:
        """What the reviewer is to read again, each handed out once in a while."""
        now = time.monotonic()
        with self._guard:
            recent = {key for key, at in self._handed_out.items() if now - at < _HANDED_OUT_S}
            mine = sum(name == reviewer for name, _ in recent)
            found = [
                owed
                for owed in self._owed.next(reviewer, limit + mine, readings=readings, structure=structure)
                if (reviewer, owed.region_id) not in recent
            ][:limit]
            self._handed_out = {key: self._handed_out[key] for key in recent}
            self._handed_out |= {(reviewer, owed.region_id): now for owed in found}
        return found

    def count(self, reviewer: str, readings: Sequence[str], structure: str | None = None) -> int:
        """How many readings the reviewer is to make."""
        with self._guard:
            return self._owed.count(reviewer, readings, structure=structure)

    def starts_over(self, reviewer: str) -> None:
        """The queue is asked for from its start: what the reviewer was handed and has not read is handed out again."""
        with self._guard:
            self._handed_out = {key: at for key, at in self._handed_out.items() if key[0] != reviewer}

    def is_blinded(self, region_id: str, reviewer: str) -> bool:
        """Whether the reviewer is to read the mask without knowing what others decided."""
        return self._owes(region_id, reviewer) != "first"

    def note(self, region_id: str) -> None:
        """Something was decided on a region."""
        with self._guard:
            self._owed.note(region_id)

    def _owes(self, region_id: str, reviewer: str) -> str:
        """The reading that a decision of the reviewer would be."""
        if not (self._plan.read_twice(region_id) or self._plan.repeated(region_id)):
            return "first"
        return self._owed.owed(region_id, reviewer) or "first"

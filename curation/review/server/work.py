"""What waits for a decision: the queue, less what was decided since it was built; it is built again meanwhile."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path

from sono.curation.review.queue.build import build_queue, queue_path
from sono.curation.review.queue.queue_file import Kind, Queue, QueuedFrame, QueuePage
from sono.manifests.errors import UserError
from sono.manifests.journal import Journal
from sono.manifests.journal_events import DECIDING, Event
from sono.manifests.workspace import Workspace, open_workspace

_DECISIONS_UNTIL_REORDERED = 50
_FILTERS = 256  # for which it is kept how much waits


@dataclass(frozen=True)
class _Decided:
    """A subject of the queue on which there is an event; ``n`` is its number."""

    n: int
    stands: bool
    kind: Kind
    structure: str | None
    plane: str | None
    waited: bool  # whether it is in the queue


class Work:
    """The queue of a workspace with what was decided since it was built. Threads may share it.

    Every so many decisions the queue is built again in another process, calibrated on them; reviewers go on meanwhile.

    Args:
        refresh: called before a queue is opened, which may ask about masks that have come since the last one.
    """

    def __init__(self, workspace: Workspace, journal: Journal, refresh: Callable[[], object]) -> None:
        self._workspace, self._journal, self._refresh = workspace, journal, refresh
        self._guard = threading.Lock()
        self._decided: dict[str, _Decided] = {}
        self._builder: BaseProcess | None = None
        self._start = self._reordered_at = journal.last()
        self._added: set[int] = set()  # events since, by their numbers: those of two requests come in any order
        self.decided = sum(1 for _ in journal.decided("region", self._reordered_at))
        """Masks on which a decision stands."""
        build_queue(workspace)
        self._refresh()
        self._open(Queue.open(queue_path(workspace)))

    def page(self, kind: Kind, after: str | None, limit: int, structure: str | None, plane: str | None) -> QueuePage:
        """The next frames that wait.

        Raises:
            ValueError: ``after`` is no cursor.
        """
        return self._queue.next(after, limit, structure=structure, plane=plane, kind=kind, is_open=self._is_open)

    @property
    def end(self) -> str:
        """The cursor after the last frame."""
        return self._queue.end

    def frame(self, frame_id: str) -> QueuedFrame | None:
        """A frame as it stands in the queue."""
        return self._queue.find(frame_id)

    def left(self, kind: Kind, structure: str | None = None, plane: str | None = None) -> int:
        """Masks (of ``frames``: frames) that wait."""
        waiting = self._count(structure=structure, plane=plane, kind=kind)
        with self._guard:
            decided = list(self._decided.values())
        return waiting - sum(
            each.stands
            and each.waited
            and each.kind == kind
            and structure in (None, each.structure)
            and plane in (None, each.plane)
            for each in decided
        )

    def add(self, event: Event) -> bool:
        """A decision that was stored: its subject waits no longer, or again. False if that is known already."""
        with self._guard:
            if event.n <= self._start or event.n in self._added:
                return False
            self._added.add(event.n)
            if event.reading in DECIDING:
                self._keep(event)
                stood = (event.before or {}).get("reviewer") is not None
                self.decided += (event.decided - stood) if event.subject == "region" else 0
            if event.n - self._reordered_at >= _DECISIONS_UNTIL_REORDERED and self._builder is None:
                self._reordered_at = event.n
                self._builder = get_context("spawn").Process(target=_build, args=(self._workspace.path,), daemon=True)
                threading.Thread(target=self._reorder, args=(self._builder,), daemon=True).start()
        return True

    def close(self) -> None:
        """Stop building: the next server builds the queue anew."""
        with self._guard:
            builder = self._builder
        if builder is not None and builder.is_alive():
            builder.terminate()

    def _open(self, queue: Queue) -> None:
        self._queue = queue
        self._count = lru_cache(_FILTERS)(queue.count)  # asked for after every decision, of a file that never changes

    def _is_open(self, subject_id: str) -> bool:
        known = self._decided.get(subject_id)
        return known is None or not known.stands

    def _keep(self, event: Event) -> None:
        """Note an event, unless a later one on its subject is noted."""
        known = self._decided.get(event.subject_id)
        if known is None or known.n <= event.n:
            self._decided[event.subject_id] = self._described(event)

    def _described(self, event: Event) -> _Decided:
        queued = self._queue.find(event.frame_id)
        kind: Kind = "masks" if event.subject == "region" else "frames"
        waited = queued is not None and (
            queued.verdict == "review"
            if kind == "frames"
            else any(region.region_id == event.subject_id for region in queued.regions)
        )
        return _Decided(event.n, event.decided, kind, event.structure, queued.plane if queued else None, waited)

    def _reorder(self, builder: BaseProcess) -> None:
        """Go on with the queue that is built; where it cannot be, with the old one: it is only in another order."""
        builder.start()
        builder.join()
        try:
            queue = Queue.open(queue_path(self._workspace)) if builder.exitcode == 0 else None
            self._refresh()
        except UserError:
            queue = None
        with self._guard:
            self._builder = None
            if queue is None:
                return
            self._open(queue)
            ids = list(self._decided)
        for event in self._journal.latest(ids).values():
            with self._guard:
                self._keep(event)


def _build(path: Path) -> None:
    os.nice(10)  # people wait for the server, and nobody for the queue
    build_queue(open_workspace(path))

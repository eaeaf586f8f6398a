"""Events of the journal of decisions: what can be decided, and what a decision has to say."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

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


def is_reviewers(reason: object) -> bool:
    """Whether a person gave this reason for a frame's verdict."""
    return isinstance(reason, str) and (reason == REVIEWER or reason.startswith(f"{REVIEWER}_"))


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

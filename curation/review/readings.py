"""More than one reader: which masks are read again, by whom, what they may see, and when a disagreement is settled.

A mask is read first by whoever gets it. A keyed share of masks is read a second time by somebody else, and another
share again by the same person after enough other decisions; neither sees what was decided. Where first and second
reading disagree, somebody who has read the mask neither time decides. All of it follows from the events of a mask.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sono.manifests.errors import UserError
from sono.manifests.journal import Journal
from sono.manifests.journal_events import Event

from .mask_iou import mask_iou

KEPT = ("accepted", "edited")


@dataclass(frozen=True, kw_only=True)
class ReadingPlan:
    """How much is read again.

    Attributes:
        key: decides which masks; the workspace's, so that the choice is the same after every restart.
        second_share, repeat_share: of masks, from 0 to 1.
        repeat_after: decisions that a reader makes in between, at least.
        alike_iou: below it two readings that both keep the mask disagree.

    Raises:
        UserError: a number is out of its range.
    """

    key: bytes = field(repr=False)
    second_share: float = 0.0
    repeat_share: float = 0.0
    repeat_after: int = 100
    alike_iou: float = 0.9

    def __post_init__(self) -> None:
        for name in ("second_share", "repeat_share", "alike_iou"):
            if not 0 <= getattr(self, name) <= 1:  # NaN is not, either
                raise UserError(f"{name} is {getattr(self, name)}", fix="give a share from 0 to 1")
        if self.repeat_after < 0:
            raise UserError(f"repeat_after is {self.repeat_after}", fix="give a number of decisions, 0 or more")

    def read_twice(self, region_id: str) -> bool:
        """Whether somebody else reads the mask, too."""
        return self._place("second", region_id) < self.second_share

    def repeated(self, region_id: str) -> bool:
        """Whether its first reader reads the mask again."""
        return self._place("repeat", region_id) < self.repeat_share

    def swapped(self, region_id: str) -> bool:
        """Whether the second reading is shown as A to who adjudicates."""
        return self._place("labels", region_id) < 0.5

    def _place(self, purpose: str, region_id: str) -> float:
        digest = hmac.digest(self.key, f"{purpose}\0{region_id}".encode(), "sha256")
        return int.from_bytes(digest[:8], "big") / 2**64


@dataclass(frozen=True)
class Reading:
    """What one reader decided: event ``n``, and the mask if it was kept, with the digest of the pixels under it.

    ``structure`` is what the reader says it shows, which may be another one than was proposed.
    """

    reviewer: str
    n: int
    status: str
    structure: str | None
    pixel_digest: str | None
    mask: Mapping[str, Any] | None = field(repr=False)

    @property
    def kept(self) -> bool:
        return self.status in KEPT


@dataclass
class Readings:
    """All that has been read of one mask, and stands.

    Attributes:
        structure: that it was proposed as.
        original: its row of ``regions`` before anybody decided; None if there is no such decision, or if a person drew
            it: then there was nothing to read.
        first: by who decided first. What somebody else makes of it later, having seen it, is in ``others``.
        seconds, repeats: by reviewer.
        others: reviewers who changed the mask later.
    """

    region_id: str = ""
    frame_id: str = ""
    structure: str | None = None
    original: Mapping[str, Any] | None = field(default=None, repr=False)
    first: Reading | None = None
    seconds: dict[str, Reading] = field(default_factory=dict)
    repeats: dict[str, Reading] = field(default_factory=dict)
    adjudication: Reading | None = None
    others: set[str] = field(default_factory=set)

    @property
    def second(self) -> Reading | None:
        """The second reading by the earliest of those who read it second."""
        return min(self.seconds.values(), key=lambda reading: reading.n, default=None)


def readings_of(history: Sequence[Event]) -> Readings:
    """What stands of the readings of one mask, from all of its events in order."""
    found, by_number = Readings(), {event.n: event for event in history}
    for event in history:
        if event.region_id is None:
            continue
        found.region_id, found.frame_id = event.region_id, event.frame_id
        found.structure = found.structure or event.structure
        standing = by_number.get(event.stands) if event.stands is not None else None
        if event.reading in ("second", "repeat"):
            of_reading = found.seconds if event.reading == "second" else found.repeats
            if standing is None:
                of_reading.pop(event.reviewer, None)
            else:
                of_reading[event.reviewer] = _reading(standing)
        else:
            _decide(found, event, standing)
    return found


def _decide(found: Readings, event: Event, standing: Event | None) -> None:
    """What an event that decides the tables makes of first reading and adjudication."""
    if standing is None:
        found.first = found.adjudication = found.original = None
        found.others.clear()
        return
    if standing.reading == "adjudication":
        found.adjudication = _reading(standing)
        return
    found.adjudication = None if event.undoes is not None else found.adjudication
    if found.first is None:
        found.original = event.before
        found.structure = (event.before or {}).get("structure") or event.structure
    if found.first is None or found.first.reviewer == standing.reviewer:
        found.first = _reading(standing)
    else:
        found.others.add(standing.reviewer)


def _reading(event: Event) -> Reading:
    after = event.after or {}
    status = str(after.get("status"))
    mask = after.get("mask") if status in KEPT else None
    return Reading(event.reviewer, event.n, status, after.get("structure"), after.get("pixel_digest"), mask)


def disagree(one: Reading, other: Reading, alike_iou: float) -> bool:
    """Whether one keeps what the other rejects, or both keep masks of a lower IoU or of different structures."""
    if one.kept != other.kept or (one.kept and one.structure != other.structure):
        return True
    if one.mask is None or other.mask is None:
        return False
    return mask_iou(one.mask, other.mask) < alike_iou


@dataclass(frozen=True)
class Outstanding:
    """What is still to be read of a mask.

    Attributes:
        reading: first, second, adjudication, or None.
        not_by: who may not make it.
        repeat_by: who is to repeat their own reading, which is event ``repeat_of``; None if nobody is.
    """

    reading: str | None
    not_by: frozenset[str] = frozenset()
    repeat_by: str | None = None
    repeat_of: int = 0

    @property
    def is_nothing(self) -> bool:
        return self.reading is None and self.repeat_by is None


def outstanding(readings: Readings, plan: ReadingPlan) -> Outstanding:
    """What the plan has read of a mask that has not been read yet.

    Nobody reads second what they have read or changed, repeats what somebody else read, or adjudicates a reading of
    their own. Masks that a person drew are not read again: there was nothing to read.
    """
    first, second = readings.first, readings.second
    if first is None:
        return Outstanding("first", frozenset(readings.seconds))
    if readings.original is None:
        return Outstanding(None)
    reading = None
    if readings.adjudication is None:
        if second is None:
            reading = "second" if plan.read_twice(readings.region_id) else None
        else:
            reading = "adjudication" if disagree(first, second, plan.alike_iou) else None
    is_repeated = plan.repeated(readings.region_id) and first.reviewer not in readings.repeats
    involved = frozenset({first.reviewer, *readings.seconds, *readings.others})
    return Outstanding(reading, involved, first.reviewer if is_repeated else None, first.n)


def owed_by(
    reviewer: str, left: Outstanding, plan: ReadingPlan, decisions_since: Callable[[str, int], int]
) -> str | None:
    """Which reading of a mask a reviewer is to make: first, second, repeat, adjudication, or None.

    Args:
        decisions_since: how many decisions a reviewer has made after an event, by its number.
    """
    if left.reading is not None and reviewer not in left.not_by:
        return left.reading
    if left.repeat_by == reviewer and decisions_since(reviewer, left.repeat_of) >= plan.repeat_after:
        return "repeat"
    return None


@dataclass(frozen=True)
class ShownMask:
    """A mask that a reader may see. ``label``: None for the one asked about, else A or B; ``row``: None if rejected."""

    label: str | None
    row: Mapping[str, Any] | None = field(repr=False)


def shown(history: Sequence[Event], reading: str, plan: ReadingPlan) -> list[ShownMask]:
    """What a reader of a mask may see: the mask as it was before anybody decided, and to adjudicate both readings.

    No row has a reviewer, a time or a decision: what was decided, and by whom, is not to be seen. Which reading is A
    is a matter of chance.
    """
    readings = readings_of(history)
    if readings.original is None:
        return []
    asked = ShownMask(None, _blinded(readings.original, readings.original.get("mask")))
    if reading != "adjudication" or readings.first is None or readings.second is None:
        return [asked]
    both = [readings.first, readings.second]
    if plan.swapped(readings.region_id):
        both.reverse()
    return [asked] + [
        ShownMask(label, {**_blinded(readings.original, each.mask), "structure": each.structure} if each.kept else None)
        for label, each in zip("AB", both, strict=True)
    ]


def _blinded(original: Mapping[str, Any], mask: Mapping[str, Any] | None) -> Mapping[str, Any]:
    return {**original, "mask": mask, "status": "proposed", "reviewer": None, "updated_at": None}


@dataclass(frozen=True)
class Owed:
    """A reading that somebody is to make."""

    region_id: str
    frame_id: str
    structure: str | None
    reading: str


class OwedReadings:
    """The second and repeated readings and adjudications that are still to be made, kept up to date from the journal.

    Only masks that the plan has read again, and of which something is left to read, are held. Threads must take turns.
    """

    def __init__(self, journal: Journal, plan: ReadingPlan) -> None:
        self.journal, self.plan = journal, plan
        self._left: dict[str, _Left | None] = {  # None: not looked at yet
            region_id: None for region_id, *_ in journal.changed("region") if self._is_chosen(region_id)
        }

    def note(self, region_id: str) -> None:
        """Look at a mask again: something was decided, undone or read."""
        if self._is_chosen(region_id):
            self._left[region_id] = None

    def next(
        self, reviewer: str, limit: int, *, readings: Iterable[str] = ("second", "repeat"), structure: str | None = None
    ) -> list[Owed]:
        """What the reviewer is to read again, some of it; ask again once that is done."""
        wanted = set(readings)
        found: list[Owed] = []
        for each in self._look():
            if len(found) >= limit:
                break
            if structure in (None, each.structure):
                reading = owed_by(reviewer, each.left, self.plan, self.journal.decisions_since)
                if reading in wanted:
                    found.append(Owed(each.region_id, each.frame_id, each.structure, str(reading)))
        return found

    def owed(self, region_id: str, reviewer: str) -> str | None:
        """Which reading of one mask the reviewer is to make."""
        left = outstanding(readings_of(self.journal.history(region_id)), self.plan)
        return owed_by(reviewer, left, self.plan, self.journal.decisions_since)

    def count(
        self, reviewer: str, readings: Iterable[str] = ("second", "repeat"), *, structure: str | None = None
    ) -> int:
        """How many readings the reviewer is to make."""
        return len(self.next(reviewer, len(self._left) + 1, readings=readings, structure=structure))

    def _is_chosen(self, region_id: str) -> bool:
        return self.plan.read_twice(region_id) or self.plan.repeated(region_id)

    def _look(self) -> Iterator[_Left]:
        for region_id, known in list(self._left.items()):
            if known is None:
                readings = readings_of(self.journal.history(region_id))
                left = outstanding(readings, self.plan)
                if left.is_nothing:
                    del self._left[region_id]
                    continue
                known = _Left(region_id, readings.frame_id, readings.structure, left)
                self._left[region_id] = known
            if known.left.reading != "first":
                yield known


@dataclass(frozen=True)
class _Left:
    """A mask of which something is left to read."""

    region_id: str
    frame_id: str
    structure: str | None
    left: Outstanding


def mixed(first: Sequence[Any], again: Sequence[Any], every: int) -> list[Any]:
    """Items to be read again among those to be read first, one after every ``every``: a reader cannot tell which."""
    found: list[Any] = []
    rest = list(again)
    for number, item in enumerate(first, start=1):
        found.append(item)
        if number % every == 0 and rest:
            found.append(rest.pop(0))
    return found if first else rest

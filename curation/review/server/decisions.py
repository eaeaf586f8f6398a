"""Decisions as the page sends them become events: checked against the frame as it is, stored with what was there."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from functools import cache
from importlib.metadata import version
from typing import Any

import numpy as np

from sono.manifests import masks
from sono.manifests.journal import Journal
from sono.manifests.journal_events import Event, NewEvent
from sono.manifests.pseudonyms import Pseudonymizer
from sono.manifests.schemas import REGIONS
from sono.manifests.vocabulary import Vocabulary

from .frame_view import FrameReader, Subject, version_of
from .requests import FRAME_REASONS, REGION_REASONS, TOOLS, DecisionRequest
from .rereading import Rereading


class RefusedError(Exception):
    """A decision that cannot be stored: ``code`` for programs, the text for the reviewer."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Decisions:
    """Stores decisions in the journal. Threads may share it."""

    def __init__(
        self,
        reader: FrameReader,
        journal: Journal,
        rereading: Rereading,
        keys: Pseudonymizer,
        vocabulary: Vocabulary,
    ) -> None:
        self._reader, self._journal, self._rereading = reader, journal, rereading
        self._keys, self._vocabulary = keys, vocabulary

    def decide(self, asked: DecisionRequest, reviewer: str) -> Event:
        """Store a decision; it is on disk when this returns.

        Raises:
            FrameGoneError: the frame has left the workspace.
            ChangedMeanwhileError: somebody else has decided on this since the page was told.
            RefusedError: it makes no sense.
        """
        frame = self._reader.frame(asked.frame_id)
        if asked.frame_version != version_of(frame):
            raise RefusedError("frame_changed", "This frame was ingested again and looks different now: load it again.")
        _check_words(asked)
        new = self._on_frame(asked, reviewer) if asked.subject == "frame" else self._on_region(asked, reviewer, frame)
        event = self._journal.append(new, expected=asked.expected)
        if event.region_id is not None:
            self._rereading.note(event.region_id)
        return event

    def _on_frame(self, asked: DecisionRequest, reviewer: str) -> NewEvent:
        before = self._reader.verdict(asked.frame_id).row
        if before is None:
            raise RefusedError("not_judged", "Quality control has not judged this frame yet: run sono-curate qc first.")
        if asked.region_id is not None or asked.mask is not None or asked.action in ("edit", "draw"):
            raise RefusedError("no_such_action", f"A frame cannot be decided on by {asked.action!r}.")
        reasons = [f"reviewer_{reason}" for reason in asked.reasons] or ["reviewer"]
        return NewEvent(
            event_id=asked.event_id,
            reviewer=reviewer,
            subject="frame",
            frame_id=asked.frame_id,
            region_id=None,
            action=asked.action,
            reading=asked.reading,
            before=_as_json({name: before[name] for name in ("verdict", "reasons")}),
            after={"verdict": asked.action, "reasons": reasons},
            tool=_tool(asked),
        )

    def _on_region(self, asked: DecisionRequest, reviewer: str, frame: Mapping[str, Any]) -> NewEvent:
        region_id, before = self._region(asked, reviewer)
        after = dict(before.row) if before.row is not None else self._drawn(asked, region_id, frame)
        if asked.structure is not None:
            after["structure"] = self._structure(asked.structure)
        if asked.action in ("edit", "draw") or (asked.action == "accept" and asked.reading == "adjudication"):
            after |= _outlined(asked, frame)
        elif asked.action == "accept" and asked.expected == before.event:  # else the journal says what has changed
            _check_seen(asked, after, frame)
        if asked.action != "reject":
            after["pixel_digest"] = frame["pixel_digest"]  # the reviewer saw the mask on these pixels
        return NewEvent(
            event_id=asked.event_id,
            reviewer=reviewer,
            subject="region",
            frame_id=asked.frame_id,
            region_id=region_id,
            structure=after["structure"],
            action=asked.action,
            reading=asked.reading,
            before=None if before.row is None else _as_json(before.row),
            after=_as_json(after),
            tool=_tool(asked),
        )

    def _region(self, asked: DecisionRequest, reviewer: str) -> tuple[str, Subject]:
        """The region that is decided on, as the reviewer sees it; of a new one, its id."""
        if asked.action == "review":
            raise RefusedError("no_such_action", "A mask is accepted, edited or rejected.")
        if asked.region_id is None:
            if asked.action != "draw" or asked.structure is None:
                raise RefusedError("no_region", "Name the mask that is decided on, or draw a new one of a structure.")
            return self._keys.region(asked.frame_id, asked.structure, f"manual/{asked.event_id}"), Subject(None, None)
        found = self._reader.regions(asked.frame_id).get(asked.region_id)
        if found is None or found.row is None or asked.action == "draw":
            raise RefusedError("region_gone", "This mask is not in the workspace any more: load the frame again.")
        seen = self._rereading.region(asked.region_id, found, reviewer)
        if self._journal.has(asked.event_id):  # sent again, because its answer was lost
            return asked.region_id, seen.subject
        if seen.reading != asked.reading:
            raise RefusedError("reading_changed", "This mask is to be read another way by now: load the frame again.")
        return asked.region_id, seen.subject if asked.reading != "adjudication" else found

    def _drawn(self, asked: DecisionRequest, region_id: str, frame: Mapping[str, Any]) -> dict[str, Any]:
        """A row for a mask that a person draws."""
        return {
            **dict.fromkeys(REGIONS.schema.names),
            "region_id": region_id,
            "frame_id": asked.frame_id,
            "structure": self._structure(asked.structure or ""),
            "pixel_digest": frame["pixel_digest"],
            "source": "manual",
        }

    def _structure(self, name: str) -> str:
        if name not in self._vocabulary.structures:
            raise RefusedError("unknown_structure", f"The vocabulary has no structure {name!r}.")
        return name


def _outlined(asked: DecisionRequest, frame: Mapping[str, Any]) -> dict[str, Any]:
    """What the sent mask makes of a row."""
    if asked.mask is None:
        raise RefusedError("no_mask", "The decision came without its mask.")
    try:
        mask = asked.mask.decoded(frame["height"], frame["width"])
    except ValueError as error:
        raise RefusedError("bad_mask", f"The mask cannot be used: {error}.") from error
    if not np.any(mask):
        raise RefusedError("empty_mask", "The mask is empty: reject it if the structure is not there.")
    return {"mask": masks.encode(mask), "area_px": masks.area_px(mask), "bbox": list(masks.bbox(mask))}


def _check_seen(asked: DecisionRequest, row: Mapping[str, Any], frame: Mapping[str, Any]) -> None:
    """Nobody accepts a mask that they have not seen: a model may have made another one since, which is no event."""
    if tuple(row["mask"]["size"]) != (frame["height"], frame["width"]):
        raise RefusedError("other_size", "This mask was drawn on an image of another size: draw it again.")
    if _outlined(asked, frame)["mask"] != row["mask"]:
        raise RefusedError("other_mask", "The mask that you accepted is not the one that is there now: look again.")


def _check_words(asked: DecisionRequest) -> None:
    known = FRAME_REASONS if asked.subject == "frame" else REGION_REASONS
    unknown = [reason for reason in asked.reasons if reason not in known]
    if unknown:
        raise RefusedError("unknown_reason", f"Reasons are {', '.join(known)}.")
    if any(tool not in TOOLS for tool in asked.used):
        raise RefusedError("unknown_tool", f"Tools are {', '.join(TOOLS)}.")


def _tool(asked: DecisionRequest) -> dict[str, Any]:
    return {**program(), "used": asked.used, "seconds": asked.seconds, "reasons": asked.reasons}


def program() -> dict[str, Any]:
    """What the journal says of the program."""
    return {"program": f"sono-curate {_version()}"}


@cache
def _version() -> str:
    """Of the program that runs; to look it up takes milliseconds."""
    return version("sono-curate")


def _as_json(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value.isoformat() if isinstance(value, datetime.datetime) else value for name, value in row.items()}

"""Everything that was decided on a region or a frame, as people read it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sono.curation.cleaning.sectors.geometry import iou
from sono.manifests import masks
from sono.manifests.journal import Journal
from sono.manifests.journal_events import Event


def history_of(journal: Journal, subject_id: str) -> list[dict[str, object]]:
    """The events on a region or a frame, the first one first: who, when, with what, and what it changed.

    ``iou`` compares the masks before and after; null where there was none, or where their sizes differ.
    """
    return [
        {
            "n": event.n,
            "at": event.at.isoformat(timespec="seconds"),
            "reviewer": event.reviewer,
            "action": event.action,
            "undoes": event.undoes,
            "reading": event.reading,
            "structure": event.structure,
            "tool": dict(event.tool),
            "status_before": _state(event.before),
            "status_after": _state(event.after),
            "area_px_before": (event.before or {}).get("area_px"),
            "area_px_after": (event.after or {}).get("area_px"),
            "iou": _iou(event),
        }
        for event in journal.history(subject_id)
    ]


def _state(row: Mapping[str, Any] | None) -> str | None:
    if row is None:
        return None
    return " ".join([row["verdict"], *row["reasons"]]) if "verdict" in row else row["status"]


def _iou(event: Event) -> float | None:
    before, after = ((row or {}).get("mask") for row in (event.before, event.after))
    if before is None or after is None or before["size"] != after["size"]:
        return None
    return round(iou(masks.decode(before), masks.decode(after)), 4)

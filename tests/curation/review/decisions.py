"""Decisions written into a real journal, in few words."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sono.manifests import masks
from sono.manifests.journal import Journal
from sono.manifests.journal_events import DECIDING, Event, NewEvent
from sono.manifests.masks import Mask


def region_row(region_id: str, frame_id: str, structure: str, mask: Mask, **others: Any) -> dict[str, Any]:
    """A proposed region as the journal keeps it."""
    return {
        "region_id": region_id,
        "frame_id": frame_id,
        "pixel_digest": f"pixels of {frame_id}",
        "structure": structure,
        "mask": masks.encode(mask),
        "area_px": masks.area_px(mask),
        "bbox": list(masks.bbox(mask)),
        "source": "grabcut",
        "prompt": None,
        "scores": None,
        "status": "proposed",
        "reviewer": None,
        "updated_at": None,
        "parent_id": None,
        "model_sha256": None,
        **others,
    }


@dataclass
class Decisions:
    """Appends to a journal; knows the proposed rows, and what each event has to follow."""

    journal: Journal
    rows: dict[str, Mapping[str, Any]] = field(default_factory=dict)

    def propose(self, row: Mapping[str, Any]) -> str:
        self.rows[row["region_id"]] = row
        return str(row["region_id"])

    def decide(
        self,
        region_id: str,
        reviewer: str,
        action: str,
        mask: Mask | None = None,
        *,
        reading: str = "first",
        structure: str | None = None,
    ) -> Event:
        history = self.journal.history(region_id)
        same = [each for each in history if each.reading in DECIDING] if reading in DECIDING else [
            each for each in history if (each.reading, each.reviewer) == (reading, reviewer)
        ]  # fmt: skip
        now = same[-1].after if same else None
        row = now if now is not None else self.rows[region_id]
        after = {**row, "structure": structure or row["structure"]}
        if mask is not None:
            after |= {
                "mask": masks.encode(mask),
                "area_px": masks.area_px(mask),
                "bbox": list(masks.bbox(mask)),
            }
        new = NewEvent(
            event_id=uuid.uuid4().hex,
            reviewer=reviewer,
            subject="region",
            frame_id=row["frame_id"],
            region_id=region_id,
            structure=after["structure"],
            action=action,
            reading=reading,
            before=None if action == "draw" else row,
            after=after,
        )
        return self.journal.append(new, expected=same[-1].n if same else None)

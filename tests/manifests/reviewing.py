"""A reviewer for tests: decides on rows of a workspace's tables as the page does."""

from __future__ import annotations

import datetime
import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sono.manifests import masks
from sono.manifests.journal import Journal
from sono.manifests.journal_events import Event, NewEvent
from sono.manifests.journal_file import journal_path
from sono.manifests.schemas import QC, REGIONS
from sono.manifests.workspace import Workspace

_numbers = itertools.count()


@dataclass
class Reviewer:
    """Decides on what the journal says last, else on what the tables say."""

    workspace: Workspace
    name: str = "anna"
    journal: Journal = field(init=False)

    def __post_init__(self) -> None:
        self.journal = Journal(journal_path(self.workspace.path))

    def decide(self, action: str, region_id: str, mask: masks.Mask | None = None, **other: Any) -> Event:
        """Accept, reject or edit a region."""
        latest = self.journal.latest([region_id]).get(region_id)
        before = latest.after if latest else self._row(region_id)
        assert before is not None
        after = {**before, **(drawn(mask) if mask is not None else {})}
        return self._append(action, before, after, latest, **other)

    def draw(self, frame_id: str, structure: str, mask: masks.Mask, region_id: str, pixel_digest: str = "d") -> Event:
        row = {
            **dict.fromkeys(REGIONS.schema.names),
            **{"region_id": region_id, "frame_id": frame_id, "structure": structure, "pixel_digest": pixel_digest},
            **drawn(mask),
            "source": "manual",
        }
        return self._append("draw", None, row, None)

    def judge(self, frame_id: str, verdict: str, *reasons: str) -> Event:
        latest = self.journal.latest([frame_id]).get(frame_id)
        row = next(row for row in self.workspace.store.read_all(QC).to_pylist() if row["frame_id"] == frame_id)
        return self.journal.append(
            NewEvent(
                event_id=f"{self.name}-{next(_numbers)}",
                reviewer=self.name,
                subject="frame",
                frame_id=frame_id,
                region_id=None,
                action=verdict,
                before=latest.after if latest else {"verdict": row["verdict"], "reasons": row["reasons"]},
                after={"verdict": verdict, "reasons": list(reasons)},
            ),
            expected=latest.n if latest else None,
        )

    def undo(self) -> Event:
        return self.journal.undo(self.name, f"{self.name}-{next(_numbers)}")

    def redo(self) -> Event:
        return self.journal.redo(self.name, f"{self.name}-{next(_numbers)}")

    def _row(self, region_id: str) -> dict[str, Any]:
        rows = self.workspace.store.read_all(REGIONS).to_pylist()
        row = next(row for row in rows if row["region_id"] == region_id)
        return {
            name: value.isoformat() if isinstance(value, datetime.datetime) else value for name, value in row.items()
        }

    def _append(
        self,
        action: str,
        before: Mapping[str, Any] | None,
        after: Mapping[str, Any],
        latest: Event | None,
        **other: Any,
    ) -> Event:
        values = {
            "event_id": f"{self.name}-{next(_numbers)}",
            "reviewer": self.name,
            "subject": "region",
            "frame_id": after["frame_id"],
            "region_id": after["region_id"],
            "structure": after["structure"],
            "action": action,
            "before": before,
            "after": after,
        }
        return self.journal.append(NewEvent(**{**values, **other}), expected=latest.n if latest else None)


def drawn(mask: masks.Mask) -> dict[str, Any]:
    """What a row of regions says about its mask."""
    return {"mask": masks.encode(mask), "area_px": masks.area_px(mask), "bbox": list(masks.bbox(mask))}

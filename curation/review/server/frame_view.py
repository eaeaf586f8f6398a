"""What the page is told of a frame: its picture, its masks as they stand now, its verdict and its captions."""

from __future__ import annotations

import datetime
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from sono.curation.cleaning.sectors.geometry import Sector, outline
from sono.curation.masks.decisions import waits
from sono.manifests.decided_rows import decided_row, is_decided
from sono.manifests.journal import Journal
from sono.manifests.journal_events import Event
from sono.manifests.schemas import CAPTIONS, FRAMES, QC, REGIONS, TableSpec
from sono.manifests.store import TableStore, damage_named

from .frame_index import FrameIndex, part_stamp

_FRAME_COLUMNS = (
    *("frame_id", "height", "width", "center", "manufacturer", "model", "mode", "plane", "pixel_mm_x", "pixel_mm_y"),
    *("sectors", "pixel_digest", "burned_in_text", "cleaning_reasons", "frame_index"),
)

_PICTURE = ("image",)
_KEPT = 512  # of the rows of a frame in a table, without pictures: kilobytes each
_REFRESHED = 2  # times at most, for rows of parts that are being written


class FrameGoneError(Exception):
    """The workspace has no such frame, or not any more."""


@dataclass(frozen=True)
class Subject:
    """A region or a frame's verdict as it stands now, and the number of the event that made it so."""

    row: Mapping[str, Any] | None
    event: int | None


@dataclass(frozen=True)
class ShownReading:
    """What one reader made of a mask, by its label; ``mask`` is None if they rejected it."""

    label: str
    mask: Mapping[str, Any] | None


@dataclass(frozen=True)
class ShownRegion:
    """A region as one reviewer may see it.

    Attributes:
        reading: that the reviewer's decision will be.
        readings: to adjudicate: either reading.
    """

    subject: Subject
    reading: str = "first"
    readings: Sequence[ShownReading] = ()


class FrameReader:
    """Reads frames of a workspace with everything that was decided on them. Threads may share it."""

    def __init__(self, store: TableStore, index: FrameIndex, journal: Journal) -> None:
        self._store, self._index, self._journal = store, index, journal
        self._read = lru_cache(_KEPT)(_read)  # a decision asks for the same rows several times, as does every prompt

    def image(self, frame_id: str) -> bytes:
        """The frame as PNG.

        Raises:
            FrameGoneError: there is no such frame.
        """
        image: bytes = self._frame(frame_id, _PICTURE)["image"]["bytes"]
        return image

    def frame(self, frame_id: str) -> Mapping[str, Any]:
        """The frame's row without its picture.

        Raises:
            FrameGoneError: there is no such frame.
        """
        return self._frame(frame_id, _FRAME_COLUMNS)

    def regions(self, frame_id: str) -> dict[str, Subject]:
        """The frame's regions by id, as they stand now; those that were drawn and undone are None."""
        written = {row["region_id"]: row for row in self._rows(REGIONS, frame_id)}
        decided = self._journal.standing([*written, *self._journal.regions_of(frame_id)])
        return {
            region_id: _current(REGIONS, written.get(region_id), decided.get(region_id))
            for region_id in sorted({*written, *decided})
        }

    def verdict(self, frame_id: str) -> Subject:
        """The frame's verdict and its reasons, as they stand now."""
        written = next(iter(self._rows(QC, frame_id, ("verdict", "reasons"))), None)
        return _current(QC, written, self._journal.standing([frame_id]).get(frame_id))

    def view(self, frame_id: str) -> dict[str, object]:
        """Everything that the page shows of a frame besides its pixels and its regions, as JSON values.

        Raises:
            FrameGoneError: there is no such frame.
        """
        frame = self.frame(frame_id)
        return {
            "frame_id": frame_id,
            "version": version_of(frame),
            **{name: frame[name] for name in ("height", "width", "plane", "mode", "center", "burned_in_text")},
            "pixel_mm": [frame["pixel_mm_x"], frame["pixel_mm_y"]] if frame["pixel_mm_x"] else None,
            "scanner": " ".join(part for part in (frame["manufacturer"], frame["model"]) if part) or None,
            "sectors": [_shown(Sector.from_row(row)) for row in frame["sectors"] or []],
            "cleaning_reasons": frame["cleaning_reasons"] or [],
            "qc": verdict_view(self.verdict(frame_id)),
            "captions": [
                {"region_id": row["region_id"], "text": row["text"]}
                for row in self._rows(CAPTIONS, frame_id, ("region_id", "text"))
            ],
            "series": self._series(frame_id),
        }

    def _series(self, frame_id: str) -> dict[str, object] | None:
        cine = self._index.cine(frame_id)
        if len(cine) < 2:
            return None
        return {
            "index": [frame.frame_id for frame in cine].index(frame_id),
            "frames": [
                {"frame_id": frame.frame_id, "time_ms": frame.time_ms, "masks": bool(frame.has_masks)} for frame in cine
            ],
        }

    def _frame(self, frame_id: str, columns: tuple[str, ...]) -> Mapping[str, Any]:
        for row in self._rows(FRAMES, frame_id, columns):
            return row
        raise FrameGoneError(frame_id)

    def _rows(self, table: TableSpec, frame_id: str, columns: tuple[str, ...] | None = None) -> list[Mapping[str, Any]]:
        """The frame's rows of a table, even if the part they are in was written again a moment ago."""
        for _ in range(_REFRESHED):
            found = self._try_rows(table, frame_id, columns)
            if found or (found is not None and table is not FRAMES):
                return found
            self._index.refresh()
        return self._try_rows(table, frame_id, columns) or []

    def _try_rows(
        self, table: TableSpec, frame_id: str, columns: tuple[str, ...] | None
    ) -> list[Mapping[str, Any]] | None:
        """None if a part was written again since it came into the index: it may have other rows of the frame."""
        rows: list[Mapping[str, Any]] = []
        for place in self._index.rows(table, frame_id):
            path = self._store.folder(table) / place.part
            if part_stamp(path) != place.stamp:
                return None
            read_part = _read if columns == _PICTURE else self._read
            read = read_part(path, place.stamp, tuple(place.numbers), frame_id, columns or tuple(table.schema.names))
            if not read:
                return None
            rows += read
        return rows


def _read(
    path: Path, stamp: str, numbers: tuple[int, ...], frame_id: str, columns: tuple[str, ...]
) -> Sequence[Mapping[str, Any]] | None:
    """Rows of a part; None if they are not those of the frame. ``stamp`` tells calls apart once it is written again."""
    del stamp
    wanted = list(dict.fromkeys(["frame_id", *columns]))
    try:
        with damage_named(path), pq.ParquetFile(path, memory_map=True) as file:
            if max(numbers) >= file.metadata.num_rows:
                return None
            rows: list[Mapping[str, Any]] = file.read(wanted, use_threads=False).take(list(numbers)).to_pylist()
    except FileNotFoundError:
        return None
    return rows if all(row["frame_id"] == frame_id for row in rows) else None


def _current(
    table: TableSpec, written: Mapping[str, Any] | None, decided: tuple[Event, Event | None] | None
) -> Subject:
    """What a decision made of a row, whether the tables show it yet or not."""
    if decided is None:
        return Subject(written, None)
    latest, stands = decided
    if stands is not None:
        return Subject(decided_row(table, stands, written or {}), latest.n)
    # Undone: a stage may have written the row again since, and else the journal knows what was there before.
    if written is not None and not is_decided(table, written):
        return Subject(written, latest.n)
    return Subject(latest.after, latest.n)


def version_of(frame: Mapping[str, Any]) -> str:
    """Changes with the frame's pixels. Not their digest, which nobody needs to see."""
    return hashlib.sha256(f"version/{frame['pixel_digest']}".encode()).hexdigest()[:16]


def region_view(region_id: str, seen: ShownRegion, frame: Mapping[str, Any]) -> dict[str, object]:
    """A region as the page gets it; to adjudicate, with both readings: of a rejected one the mask that was rejected."""
    row = seen.subject.row
    assert row is not None
    updated = row["updated_at"]
    return {
        "region_id": region_id,
        **{name: row[name] for name in ("structure", "mask", "bbox", "area_px", "source", "reviewer")},
        "status": "proposed" if waits(row) else row["status"],
        "scores": _scores(row["scores"]),
        "updated_at": updated.isoformat() if isinstance(updated, datetime.datetime) else updated,
        "event": seen.subject.event,
        "reading": seen.reading,
        "readings": [
            {"label": each.label, "status": "accepted" if each.mask else "rejected", "mask": each.mask or row["mask"]}
            for each in seen.readings
        ],
        "other_pixels": row["pixel_digest"] != frame["pixel_digest"],
    }


def _scores(text: str | None) -> dict[str, float]:
    """Those that are numbers: whatever a program has stored as scores, its mask is shown."""
    try:
        found = json.loads(text or "{}")
    except ValueError:
        return {}
    numbers = found.items() if isinstance(found, dict) else ()
    return {name: value for name, value in numbers if isinstance(value, int | float) and math.isfinite(value)}


def verdict_view(subject: Subject) -> dict[str, object]:
    """A frame's verdict as the page gets it; null where quality control has not judged it."""
    row = subject.row or {"verdict": None, "reasons": []}
    return {"verdict": row["verdict"], "reasons": row["reasons"], "event": subject.event}


def _shown(sector: Sector) -> dict[str, object]:
    return {"kind": sector.kind, "polygon": [[round(x, 1), round(y, 1)] for x, y in outline(sector)]}

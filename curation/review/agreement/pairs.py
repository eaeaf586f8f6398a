"""Pairs of readings of one mask: by two readers, or by one reader twice, each held against the other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sono.curation.review.readings import Reading, Readings, disagree, readings_of
from sono.manifests import masks
from sono.manifests.journal import Journal
from sono.manifests.query import query
from sono.manifests.schemas import FRAMES
from sono.manifests.store import TableStore

from .distances import Likeness, likeness

LEFT_OUT: Mapping[str, str] = {
    "frame_missing": "the mask's frame is not in the workspace any more, so its patient is not known",
    "other_pixels": "both readings were made on different pixels of the frame",
    "damaged_mask": "a mask that was decided on cannot be decoded",
    "no_first_reading": "the first reading was undone",
}
"""Why a second reading is in no figure."""

_AT_ONCE = 2000  # regions


@dataclass(frozen=True)
class Pair:
    """Two readings of one mask.

    Attributes:
        readers: in alphabetical order; twice the same name if one reader read it twice.
        kept: whether each of them kept the mask, accepted or edited, as the structure that it was proposed as, in the
            order of ``readers``; the first reading first if it is one reader.
        renamed: how many of them kept it as another structure.
        likeness: of the two masks, in mm if ``in_mm``; None unless both kept it.
        adjudicated: None if they agree, else whether somebody has decided between them.
    """

    structure: str
    patient: str
    readers: tuple[str, str]
    kept: tuple[bool, bool]
    renamed: int
    likeness: Likeness | None
    in_mm: bool
    adjudicated: bool | None

    @property
    def is_repeat(self) -> bool:
        return self.readers[0] == self.readers[1]


def read_pairs(journal: Journal, store: TableStore, alike_iou: float, left_out: Counter[str]) -> Iterator[Pair]:
    """All pairs in the journal; few masks are in memory at a time.

    Args:
        left_out: counts by reason, of ``LEFT_OUT``, what gives no pair.
    """
    ids = journal.read_again()
    for start in range(0, len(ids), _AT_ONCE):
        found = [readings_of(journal.history(region_id)) for region_id in ids[start : start + _AT_ONCE]]
        frames = _frames(store, sorted({readings.frame_id for readings in found}))
        for readings in found:
            for one, other in _pairs(readings, left_out):
                pair = _compared(readings, one, other, frames.get(readings.frame_id), alike_iou)
                if isinstance(pair, Pair):
                    yield pair
                else:
                    left_out[pair] += 1


def _pairs(readings: Readings, left_out: Counter[str]) -> Iterator[tuple[Reading, Reading]]:
    """First and second reading, and a reader's first with their repeated one."""
    again = [*readings.seconds.values(), *readings.repeats.values()]
    if readings.first is None:
        left_out["no_first_reading"] += len(again)
        return
    for second in readings.seconds.values():
        yield readings.first, second
    for reviewer, repeat in readings.repeats.items():
        own = readings.first if readings.first.reviewer == reviewer else readings.seconds.get(reviewer)
        if own is None:
            left_out["no_first_reading"] += 1
        else:
            yield own, repeat


def _compared(
    readings: Readings, one: Reading, other: Reading, frame: Mapping[str, Any] | None, alike_iou: float
) -> Pair | str:
    """The pair, or why there is none."""
    if frame is None:
        return "frame_missing"
    if one.pixel_digest != other.pixel_digest:
        return "other_pixels"
    first, second = sorted((one, other), key=lambda reading: (reading.reviewer, reading.n))
    kept = [reading.kept and reading.structure == readings.structure for reading in (first, second)]
    size = frame["pixel_mm_x"], frame["pixel_mm_y"]
    in_mm = bool(size[0] and size[1] and frame["pixel_digest"] == one.pixel_digest)
    try:
        alike = _likeness(first, second, size if in_mm else (1.0, 1.0)) if all(kept) else None
        differ = disagree(one, other, alike_iou)
    except ValueError:
        return "damaged_mask"
    adjudicated = readings.adjudication is not None if differ and one.reviewer != other.reviewer else None
    return Pair(
        readings.structure or "",
        frame["patient_key"],
        (first.reviewer, second.reviewer),
        (kept[0], kept[1]),
        sum(each.kept for each in (first, second)) - sum(kept),
        alike,
        in_mm,
        adjudicated,
    )


def _likeness(one: Reading, other: Reading, spacing: tuple[float, float]) -> Likeness | None:
    """None unless both kept a mask.

    Raises:
        ValueError: a mask is damaged, or they differ in size.
    """
    if one.mask is None or other.mask is None:
        return None
    first, second = (
        masks.decode(masks.Rle(size=list(mask["size"]), counts=mask["counts"])) for mask in (one.mask, other.mask)
    )
    return likeness(first, second, spacing)


def _frames(store: TableStore, frame_ids: Sequence[str]) -> dict[str, Mapping[str, Any]]:
    paths = [str(path) for path in store.paths(FRAMES)]
    if not paths:
        return {}
    found = query(_FRAMES, {"paths": paths, "ids": list(frame_ids)}).to_pylist()
    return {frame["frame_id"]: frame for frame in found}


_FRAMES = """
SELECT frame_id, patient_key, pixel_mm_x, pixel_mm_y, pixel_digest FROM read_parquet($paths)
WHERE frame_id IN (SELECT unnest($ids))
"""

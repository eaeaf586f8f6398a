"""Examples for the page: frames with their outlined structures, their captions, and where the facts come from."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from sono.manifests import masks
from sono.manifests.schemas import BIOMETRY
from sono.manifests.thumbnails import thumbnail
from sono.manifests.vocabulary import Vocabulary

from .names import FACT_NAMES, LONGEST_LIST, plane_name, structure_name
from .tables import query_rows

if TYPE_CHECKING:
    import duckdb

_EXAMPLES = 24
_OUTLINE_ERROR = 1 / 400  # of the image's longer side: how far a drawn outline may be from the mask's edge
_COLORS = ("#e69f00", "#56b4e9", "#f0e442", "#cc79a7", "#00b07d", "#d55e00", "#ffffff")
"""Safe for colour-blind readers: Okabe and Ito's, without black and dark blue, which vanish on an image, and with a
lighter green."""


@dataclass(frozen=True)
class Outline:
    """A region on a frame: its number, an SVG path, and where the number goes, in px of the stored image."""

    number: int
    color: str
    structure: str
    caption: str | None
    path: str
    at: tuple[int, int]


@dataclass(frozen=True)
class IllustratedFrame:
    """A frame, its caption, its regions and the caption's facts as (name, value, source)."""

    frame_id: str
    plane: str
    template: str
    caption: str
    png: str  # base64
    width: int
    height: int
    outlines: Sequence[Outline]
    facts: Sequence[tuple[str, str, str]]


def illustrated_frames(database: duckdb.DuckDBPyConnection, vocabulary: Vocabulary) -> Iterator[IllustratedFrame]:
    """Frames of as many planes and templates as possible; their keys decide which ones."""
    chosen = _spread(query_rows(database, _CANDIDATES))
    ids = {"ids": [row["frame_id"] for row in chosen]}
    files = [row["filename"] for row in query_rows(database, _FILES, ids)]
    images = {row["frame_id"]: row for row in query_rows(database, _IMAGES, {"files": files, **ids})} if files else {}
    captions = {(row["frame_id"], row["template"]): row for row in query_rows(database, _CAPTIONS, ids)}
    regions: dict[str, list[dict[str, Any]]] = {}
    for row in query_rows(database, _REGIONS, ids):
        regions.setdefault(row["frame_id"], []).append(row)
    for row in chosen:
        frame, caption = images[row["frame_id"]], captions[row["frame_id"], row["template"]]
        yield IllustratedFrame(
            frame_id=row["frame_id"],
            plane=plane_name(vocabulary, row["plane"]),
            template=row["template"],
            caption=caption["text"],
            png=thumbnail(frame["png"]),
            width=frame["width"],
            height=frame["height"],
            outlines=list(_outlines(regions.get(row["frame_id"], []), frame, vocabulary)),
            facts=list(_facts(caption["facts"], vocabulary)),
        )


_CANDIDATES = """
SELECT plane, template, arg_min(frame_id, (outlined.frame_id IS NULL)::INT || frame_id) AS frame_id
FROM frames JOIN (SELECT frame_id, template FROM captions WHERE region_id IS NULL) USING (frame_id)
LEFT JOIN (SELECT DISTINCT frame_id FROM regions WHERE status IN ('accepted', 'edited')) outlined USING (frame_id)
GROUP BY plane, template ORDER BY frame_id, template
"""
_FILES = "SELECT DISTINCT filename FROM frames WHERE frame_id IN (SELECT unnest($ids))"
_IMAGES = """
SELECT frame_id, plane, height, width, image.bytes AS png FROM read_parquet($files)
WHERE frame_id IN (SELECT unnest($ids))
"""
_CAPTIONS = """
SELECT frame_id, text, template, facts FROM captions
WHERE region_id IS NULL AND frame_id IN (SELECT unnest($ids)) ORDER BY template DESC, caption_id
"""
_REGIONS = """
SELECT regions.frame_id, structure, mask, caption.text FROM regions
JOIN (SELECT frame_id, pixel_digest FROM frames WHERE frame_id IN (SELECT unnest($ids))) USING (frame_id, pixel_digest)
LEFT JOIN (
    SELECT region_id, min(text) AS text FROM captions WHERE frame_id IN (SELECT unnest($ids)) GROUP BY region_id
) caption USING (region_id)
WHERE status IN ('accepted', 'edited') ORDER BY area_px DESC, region_id
"""


def _spread(candidates: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Up to ``_EXAMPLES``, each time one of the plane, and then of the template, with the fewest so far."""
    left = list(candidates)
    taken: list[dict[str, Any]] = []
    planes: Counter[str | None] = Counter()
    templates: Counter[str] = Counter()
    frames: Counter[str] = Counter()
    while left and len(taken) < _EXAMPLES:
        row = min(left, key=lambda row: (frames[row["frame_id"]], planes[row["plane"]], templates[row["template"]]))
        left.remove(row)
        taken.append(row)
        planes[row["plane"]] += 1
        templates[row["template"]] += 1
        frames[row["frame_id"]] += 1
    return sorted(taken, key=lambda row: (row["plane"] or "", row["template"], row["frame_id"]))


def _outlines(
    regions: Sequence[Mapping[str, Any]], frame: Mapping[str, Any], vocabulary: Vocabulary
) -> Iterator[Outline]:
    """The largest first, so that smaller ones are drawn on top."""
    size = frame["height"], frame["width"]
    decoded = [masks.decode(region["mask"], size) for region in regions]
    for number, (region, mask) in enumerate(zip(regions, decoded, strict=True), 1):
        free = mask & ~np.any([np.zeros(size, np.bool_), *decoded[number:]], axis=0)
        contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
        simple = [cv2.approxPolyDP(contour, max(size) * _OUTLINE_ERROR, closed=True)[:, 0] for contour in contours]
        yield Outline(
            number=number,
            color=_COLORS[(number - 1) % len(_COLORS)],
            structure=structure_name(vocabulary, region["structure"]),
            caption=region["text"],
            path=" ".join("M" + "L".join(f"{x} {y}" for x, y in points) + "Z" for points in simple),
            at=_inside(free if free.any() else mask),
        )


def _inside(mask: masks.Mask) -> tuple[int, int]:
    """x and y of the pixel farthest from the mask's edge."""
    depth = cv2.distanceTransform(np.pad(mask, 1).astype(np.uint8), cv2.DIST_L2, 3)
    y, x = np.unravel_index(int(depth.argmax()), depth.shape)
    return max(int(x) - 1, 0), max(int(y) - 1, 0)


def _facts(facts: str, vocabulary: Vocabulary) -> Iterator[tuple[str, str, str]]:
    found = json.loads(facts)
    as_text: Mapping[str, Callable[[Any], str]] = {
        "plane": lambda value: plane_name(vocabulary, value),
        "ga_days": lambda value: f"{value} days ({value // 7}+{value % 7} weeks)",
        "structures": lambda value: _listed([structure_name(vocabulary, structure) for structure in value]),
        "structure": lambda value: structure_name(vocabulary, value),
        "findings": _listed,
        **dict.fromkeys(BIOMETRY, lambda value: f"{value:g} mm"),
    }
    for fact, name in FACT_NAMES.items():
        if fact in found:
            yield name, as_text.get(fact, str)(found[fact]["value"]), str(found[fact]["source"])


def _listed(names: Sequence[str]) -> str:
    more = len(names) - LONGEST_LIST
    return ", ".join(names[:LONGEST_LIST]) + (f" and {more} more" if more > 0 else "")

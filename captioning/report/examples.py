"""Examples for the page about captions: frames, what is outlined on them, their captions, and where facts come from."""

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

if TYPE_CHECKING:
    import duckdb

LONGEST_LIST = 8
"""Names of structures, or sources of a fact, that are shown; the rest is counted."""

FACT_NAMES: Mapping[str, str] = {
    "plane": "plane",
    "ga_days": "gestational age",
    "trimester": "trimester",
    "structures": "structures shown",
    "structure": "structure outlined",
    "laterality": "laterality",
    "presentation": "presentation",
    "findings": "findings",
    **{name: name.removesuffix("_mm").upper() for name in BIOMETRY},
}
"""What facts are called on the page."""

_UNKNOWN = "not in the vocabulary"
_EXAMPLES = 24
_OUTLINE_ERROR = 1 / 400  # of the image's longer side: as much may a drawn outline miss the mask's edge
_COLORS = ("#e69f00", "#56b4e9", "#f0e442", "#cc79a7", "#00b07d", "#d55e00", "#ffffff")
"""For the colour-blind: Okabe and Ito's without black and dark blue, which vanish on an image, and a lighter green."""


@dataclass(frozen=True)
class Outline:
    """A region on an example: its number there, an SVG path and where the number stands, in px of the stored image."""

    number: int
    color: str
    structure: str
    caption: str | None
    path: str
    at: tuple[int, int]


@dataclass(frozen=True)
class Example:
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


def examples(connection: duckdb.DuckDBPyConnection, vocabulary: Vocabulary) -> Iterator[Example]:
    """Frames of as many planes and templates as there are; which ones is decided by their keys."""
    chosen = _spread(query_rows(connection, _CANDIDATES))
    ids = {"ids": [row["frame_id"] for row in chosen]}
    files = [row["filename"] for row in query_rows(connection, _FILES, ids)]
    images = {row["frame_id"]: row for row in query_rows(connection, _IMAGES, {"files": files, **ids})} if files else {}
    captions = {(row["frame_id"], row["template"]): row for row in query_rows(connection, _CAPTIONS, ids)}
    regions: dict[str, list[dict[str, Any]]] = {}
    for row in query_rows(connection, _REGIONS, ids):
        regions.setdefault(row["frame_id"], []).append(row)
    for row in chosen:
        frame, caption = images[row["frame_id"]], captions[row["frame_id"], row["template"]]
        yield Example(
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


def plane_name(vocabulary: Vocabulary, plane: str | None) -> str:
    """What a plane of the tables is called; what the vocabulary does not have is not repeated."""
    found = vocabulary.planes.get(plane or "")
    return found.name if found else "plane not known" if plane is None else _UNKNOWN


def structure_name(vocabulary: Vocabulary, structure: object) -> str:
    """What a structure of the tables is called; what the vocabulary does not have is not repeated."""
    found = vocabulary.structures.get(str(structure))
    return found.name if found else _UNKNOWN


def query_rows(
    connection: duckdb.DuckDBPyConnection, sql: str, parameters: Mapping[str, object] | None = None
) -> list[dict[str, Any]]:
    """The rows that a query gives."""
    rows: list[dict[str, Any]] = connection.sql(sql, params=dict(parameters or {})).to_arrow_table().to_pylist()
    return rows


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
JOIN (SELECT frame_id, pixel_sha256 FROM frames WHERE frame_id IN (SELECT unnest($ids))) USING (frame_id, pixel_sha256)
LEFT JOIN (
    SELECT region_id, min(text) AS text FROM captions WHERE frame_id IN (SELECT unnest($ids)) GROUP BY region_id
) caption USING (region_id)
WHERE status IN ('accepted', 'edited') ORDER BY area_px DESC, region_id
"""


def _spread(candidates: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """One after the other, each of the plane, then of the template, that was taken least."""
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
    """The largest first, so that the smaller ones lie on top."""
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
    """x and y of the pixel that lies deepest inside."""
    depth = cv2.distanceTransform(np.pad(mask, 1).astype(np.uint8), cv2.DIST_L2, 3)
    y, x = np.unravel_index(int(depth.argmax()), depth.shape)
    return max(int(x) - 1, 0), max(int(y) - 1, 0)


def _facts(facts: str, vocabulary: Vocabulary) -> Iterator[tuple[str, str, str]]:
    found = json.loads(facts)
    shown: Mapping[str, Callable[[Any], str]] = {
        "plane": lambda value: plane_name(vocabulary, value),
        "ga_days": lambda value: f"{value} days ({value // 7}+{value % 7} weeks)",
        "structures": lambda value: _listed([structure_name(vocabulary, structure) for structure in value]),
        "structure": lambda value: structure_name(vocabulary, value),
        "findings": _listed,
        **dict.fromkeys(BIOMETRY, lambda value: f"{value:g} mm"),
    }
    for fact, name in FACT_NAMES.items():
        if fact in found:
            yield name, shown.get(fact, str)(found[fact]["value"]), str(found[fact]["source"])


def _listed(names: Sequence[str]) -> str:
    more = len(names) - LONGEST_LIST
    return ", ".join(names[:LONGEST_LIST]) + (f" and {more} more" if more > 0 else "")

"""Frames on the page on cleaning: where each shows ultrasound, what was blanked, and what was painted over."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sono.curation.cleaning.sectors.geometry import Sector, outline
from sono.manifests.schemas import FRAMES
from sono.manifests.store import TableStore
from sono.manifests.thumbnails import thumbnail

if TYPE_CHECKING:
    import duckdb

LONG_SIDE = 320
"""Units of a picture's longer side: lines and patterns are as wide in all pictures, whatever the frame's size in px."""

MOST_BOXES = 300
"""Drawn of each kind on one picture, the largest first."""


@dataclass(frozen=True)
class Example:
    """A frame to show, and the part that has it."""

    frame_id: str
    filename: str


@dataclass(frozen=True)
class Picture:
    """One frame, drawn within its source. Sizes, ``crop`` and SVG paths are in units of the picture.

    Attributes:
        size: width and height.
        crop: x, y, width, height of what was kept.
        sectors: a path around each sector.
        text, marks: a path around every place where text or a measurement mark was painted over.
        left_out: how many such places are not drawn.
        facts: what is to be seen, in words.
        reasons: why the frame is for review.
        edited_percent: of the sectors' pixels, painted over.
    """

    frame_id: str
    size: tuple[float, float]
    crop: tuple[float, float, float, float]
    png: str  # base64
    sectors: str
    text: str
    marks: str
    left_out: int
    facts: str
    reasons: Sequence[str]
    edited_percent: float


def reason_examples(database: duckdb.DuckDBPyConnection, most: int) -> dict[str, list[Example]]:
    """For each reason for review, the frames with the lowest keys."""
    return _examples(database, "SELECT frame_id, filename, unnest(reasons) AS name FROM judged", most)


def painted_examples(database: duckdb.DuckDBPyConnection, most: int) -> dict[str, list[Example]]:
    """Frames where ``text``, and frames where ``marks`` were painted over."""
    kinds = (f"SELECT frame_id, filename, '{kind}' AS name FROM judged WHERE {kind}" for kind in ("text", "marks"))
    return _examples(database, " UNION ALL ".join(kinds), most)


def _examples(database: duckdb.DuckDBPyConnection, named: str, most: int) -> dict[str, list[Example]]:
    rows = database.sql(
        f"SELECT name, min(frame_id, {most}), arg_min(filename, frame_id, {most}) FROM ({named}) GROUP BY name"
    ).fetchall()
    return {name: [Example(*pair) for pair in zip(ids, files, strict=True)] for name, ids, files in rows}


def draw(store: TableStore, examples: Sequence[Example]) -> dict[str, Picture]:
    """The pictures by frame; few images are in memory at a time."""
    by_part: dict[str, set[str]] = {}
    for example in examples:
        by_part.setdefault(example.filename, set()).add(example.frame_id)
    return {
        row["frame_id"]: _picture(row)
        for part, ids in sorted(by_part.items())
        for row in store.find_rows(Path(part), FRAMES, ids, _COLUMNS)
    }


_COLUMNS = (
    *("image.bytes", "source_height", "source_width", "crop", "sectors", "text_boxes", "mark_boxes"),
    *("edited_fraction", "cleaning_reasons"),
)


def _picture(row: Mapping[str, Any]) -> Picture:
    x, y, width, height = row["crop"]
    size = row["source_width"] or x + width, row["source_height"] or y + height
    scale = LONG_SIDE / max(*size, 1)
    sectors = [Sector.from_row(sector) for sector in row["sectors"] or []]
    text, marks = row["text_boxes"] or [], row["mark_boxes"] or []
    drawn = [sorted(boxes, key=lambda box: -box[2] * box[3])[:MOST_BOXES] for boxes in (text, marks)]
    return Picture(
        frame_id=row["frame_id"],
        size=(size[0] * scale, size[1] * scale),
        crop=(x * scale, y * scale, width * scale, height * scale),
        png=thumbnail(row["image"]["bytes"]),
        sectors=_path((outline(sector) for sector in sectors), (x, y), scale),
        text=_path(map(_corners, drawn[0]), (x, y), scale),
        marks=_path(map(_corners, drawn[1]), (x, y), scale),
        left_out=len(text) + len(marks) - len(drawn[0]) - len(drawn[1]),
        facts=", ".join(_facts(row, size, [sector.kind for sector in sectors], len(text), len(marks))),
        reasons=row["cleaning_reasons"] or [],
        edited_percent=100 * (row["edited_fraction"] or 0.0),
    )


def _corners(box: Sequence[int]) -> list[tuple[float, float]]:
    x, y, width, height = box
    return [(x, y), (x + width, y), (x + width, y + height), (x, y + height)]


def _path(shapes: Iterator[list[tuple[float, float]]], origin: tuple[int, int], scale: float) -> str:
    """Polygons in px of the stored image as one SVG path; ``origin`` is where that image lies in its source."""
    points = ([f"{scale * (x + origin[0]):.1f} {scale * (y + origin[1]):.1f}" for x, y in shape] for shape in shapes)
    return "".join(f"M{'L'.join(shape)}Z" for shape in points if shape)


def _facts(
    row: Mapping[str, Any], size: tuple[int, int], kinds: Sequence[str], texts: int, marks: int
) -> Iterator[str]:
    yield f"{row['crop'][2]} × {row['crop'][3]} px kept of {size[0]} × {size[1]}"
    yield f"{' and '.join(kinds) or 'no'} sector{'s' if len(kinds) > 1 else ''}"
    painted = [f"{what} in {count} {'place' if count == 1 else 'places'}"
               for what, count in (("text", texts), ("marks", marks)) if count]  # fmt: skip
    yield f"painted over: {' and '.join(painted)}" if painted else "nothing painted over"

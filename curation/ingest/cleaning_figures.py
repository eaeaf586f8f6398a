"""What the page on cleaning counts: one function per figure, each a query over the table of frames, of any size."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sono.curation.cleaning.reasons import LEFT_OUT, REASONS
from sono.manifests.exclusions import ExclusionCount
from sono.manifests.query import connect, view_table
from sono.manifests.schemas import FRAMES
from sono.manifests.store import PartInfo, TableStore

if TYPE_CHECKING:
    import duckdb

READERS = ("detector", "rapidocr", "tesserocr")
EDITED = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3)
"""Shares of a frame's ultrasound that was painted over, between which the page counts frames."""


@contextmanager
def judged_frames(store: TableStore) -> Iterator[duckdb.DuckDBPyConnection]:
    """A DuckDB whose view ``judged`` has one row per frame, with what cleaning made of it; nothing is read yet."""
    with connect() as database:
        view_table(database, store, FRAMES)
        database.execute(_JUDGED)
        yield database


# Only what is stated counts as clean: a value that is missing or unknown does not.
_JUDGED = """
CREATE TEMP VIEW judged AS
SELECT frame_id, filename, coalesce(center, 'unknown') AS center, manufacturer, model, mode, source_height,
    source_width, edited_fraction, coalesce(burned_in_text, '') AS status, coalesce(text_readers, []) AS readers,
    coalesce(cleaning_reasons, []) AS reasons,
    status IN ('none', 'removed') AS clean,
    len(reasons) > 0 AS review,
    clean AND NOT review AS accepted,
    coalesce(len(text_boxes), 0) > 0 AS text,
    coalesce(len(mark_boxes), 0) > 0 AS marks
FROM frames
"""


def totals(database: duckdb.DuckDBPyConnection) -> dict[str, int]:
    """Frames: all, by what is known of their text, by what looked for it, and those that were painted over."""
    return _rows(database, _TOTALS)[0]


_COUNTS = """
count(*) AS frames, count(*) FILTER (accepted) AS accepted, count(*) FILTER (review) AS review,
count(*) FILTER (text) AS text, count(*) FILTER (marks) AS marks
"""
_TOTALS = f"""
SELECT {_COUNTS}, count(*) FILTER (clean) AS clean, count(*) FILTER (status = 'none') AS without_text,
    count(*) FILTER (status = 'removed') AS removed, count(*) FILTER (edited_fraction > 0) AS edited,
    count(*) FILTER (edited_fraction IS NULL) AS edited_unknown,
    {", ".join(f"count(*) FILTER (list_contains(readers, '{reader}')) AS {reader}" for reader in READERS)}
FROM judged
"""


def by_readers(database: duckdb.DuckDBPyConnection) -> list[dict[str, Any]]:
    """What looked for text in a frame, together, and what is known of the text of such frames."""
    return _rows(database, _BY_READERS)


_BY_READERS = """
SELECT list_sort(list_distinct(readers)) AS readers, count(*) AS frames,
    count(*) FILTER (status = 'none') AS without_text, count(*) FILTER (status = 'removed') AS removed,
    count(*) FILTER (NOT clean) AS unchecked
FROM judged GROUP BY 1 ORDER BY frames DESC, readers
"""


@dataclass(frozen=True)
class ReviewReason:
    """Why frames are for review: a key of ``cleaning.reasons.REASONS``; ``known`` unless it is none of them."""

    name: str
    meaning: str
    frames: int
    known: bool


def review_reasons(database: duckdb.DuckDBPyConnection) -> list[ReviewReason]:
    """Every reason that frames have, the most frequent first. A frame may have several."""
    rows = _rows(database, _REASONS)
    return [
        ReviewReason(row["name"], REASONS.get(row["name"], "not a reason that this version knows"), row["frames"],
                     row["name"] in REASONS)
        for row in rows
    ]  # fmt: skip


_REASONS = """
SELECT name, count(*) AS frames FROM (SELECT unnest(reasons) AS name FROM judged)
GROUP BY name ORDER BY frames DESC, name
"""


def left_out(exclusions: Sequence[ExclusionCount]) -> tuple[list[tuple[str, str, int]], list[ExclusionCount]]:
    """What ingest left out: by cleaning as (reason, meaning, frames), with those that never occurred; and the rest."""
    of_ingest = [count for count in exclusions if count.stage == "ingest"]
    rows = {count.reason: count.rows for count in of_ingest}
    cleaning = [(reason, meaning, rows.get(reason, 0)) for reason, meaning in LEFT_OUT.items()]
    return cleaning, [count for count in of_ingest if count.reason not in LEFT_OUT]


def edited_fractions(database: duckdb.DuckDBPyConnection) -> list[int]:
    """Frames that were painted over, by the share that was: up to each of ``EDITED``, and beyond."""
    bins = {row["bin"]: row["frames"] for row in _rows(database, _EDITED)}
    return [bins.get(number, 0) for number in range(len(EDITED) + 1)]


_EDITED = f"""
SELECT {" + ".join(f"(edited_fraction > {limit})::INT" for limit in EDITED)} AS bin, count(*) AS frames
FROM judged WHERE edited_fraction > 0 GROUP BY bin
"""


@dataclass(frozen=True)
class Largest:
    """The largest groups of frames, and what the others have together."""

    rows: Sequence[dict[str, Any]]
    others: int
    rest: Mapping[str, int] = field(default_factory=dict)


def by_center(database: duckdb.DuckDBPyConnection, totals: Mapping[str, int], most: int) -> Largest:
    """Frames by the hospital that they come from."""
    return _largest(database, totals, "center", "", most)


def by_scanner(database: duckdb.DuckDBPyConnection, totals: Mapping[str, int], most: int) -> Largest:
    """Frames by manufacturer and model."""
    return _largest(database, totals, "manufacturer, model", "", most)


def by_layout(database: duckdb.DuckDBPyConnection, totals: Mapping[str, int], most: int) -> Largest:
    """Frames by scanner, size of the source and mode, each with the ``frame_id`` and ``filename`` of one frame."""
    example = ", min(frame_id) AS frame_id, arg_min(filename, frame_id) AS filename"
    return _largest(database, totals, "manufacturer, model, source_width, source_height, mode", example, most)


def _largest(
    database: duckdb.DuckDBPyConnection, totals: Mapping[str, int], columns: str, more: str, most: int
) -> Largest:
    rows = _rows(
        database,
        f"WITH groups AS (SELECT {columns}, {_COUNTS} {more} FROM judged GROUP BY {columns}) "
        f"SELECT *, count(*) OVER () AS groups FROM groups ORDER BY frames DESC, {columns} LIMIT $most",
        {"most": most},
    )
    counts = ("frames", "accepted", "review", "text", "marks")
    rest = {name: totals[name] - sum(row[name] for row in rows) for name in counts}
    return Largest(rows, rows[0]["groups"] - len(rows) if rows else 0, rest)


_DECISIVE = ("version", "cleaning", "text_detector")


@dataclass(frozen=True)
class MadeWith:
    """Parts that were cleaned with the same versions and settings; ``current`` if ingest would use them now."""

    record: Mapping[str, Any]
    parts: int
    frames: int
    current: bool


def made_with(parts: Sequence[PartInfo], now: Mapping[str, object]) -> list[MadeWith]:
    """What the parts of the table say that they were made with, the most frames first.

    Args:
        now: what ingest would make them with. Only what decides whether it cleans a part again counts.
    """
    frames, numbers = Counter[str](), Counter[str]()
    for info in parts:
        text = json.dumps(info.made_with, sort_keys=True)
        frames[text] += info.rows
        numbers[text] += 1
    return [
        MadeWith(record, numbers[text], count, all(record.get(key) == now[key] for key in _DECISIVE))
        for text, count in sorted(frames.items(), key=lambda item: (-item[1], item[0]))
        for record in [json.loads(text)]
    ]


def _rows(
    database: duckdb.DuckDBPyConnection, sql: str, parameters: Mapping[str, object] | None = None
) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = database.sql(sql, params=dict(parameters or {})).to_arrow_table().to_pylist()
    return found

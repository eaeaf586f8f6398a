"""The page that shows what the captions are like: coverage, lengths, repetition, sources of facts, and examples."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from sono.manifests import pages
from sono.manifests.errors import UserError
from sono.manifests.query import connect
from sono.manifests.schemas import CAPTIONS, EXCLUSIONS, FRAMES, RECORDS, REGIONS, STATEMENTS
from sono.manifests.store import TableStore, write_atomically
from sono.manifests.thumbnails import THUMBNAIL_PX
from sono.manifests.vocabulary import Vocabulary
from sono.manifests.workspace import Workspace

from .examples import FACT_NAMES, LONGEST_LIST, examples, plane_name, query_rows, structure_name

if TYPE_CHECKING:
    import duckdb

BATCH_SIZES = tuple(2**power for power in range(5, 16))

_MOST_BARS = 80  # of a histogram
_SOURCE_WORDS = {
    "explicit": "the stated age",
    "edd": "the due date",
    "lmp": "the last menstrual period",
    "crl": "the crown-rump length",
    "biometry": "the measurements",
}
"""What a reader calls the sources of ``records.ga_source``, in conflicts."""
_RANKS = {0: "coded", 1: "found in prose by rules", 2: "found in prose by a language model"}


@dataclass(frozen=True)
class Bar:
    """A named count; ``share`` of the whole, or of the longest bar beside it, from 0 to 1."""

    name: str
    count: int
    share: float


@dataclass(frozen=True)
class Histogram:
    """Bars as (what it holds, count, left, width, height), and marks and ticks as (place, label); places in percent."""

    bars: Sequence[tuple[str, int, float, float, float]]
    marks: Sequence[tuple[float, str]]
    ticks: Sequence[tuple[float, str]]
    highest: int


def write_caption_report(workspace: Workspace, *, context_length: int | None = None) -> Path:
    """Write ``reports/captions.html`` from the tables as they are, and return its path.

    Args:
        context_length: tokens that the model to be trained can read; shown beside the captions' lengths.

    Raises:
        UserError: there are no captions.
    """
    with connect() as connection:
        _open(connection, workspace.store)
        totals = query_rows(connection, _TOTALS)[0]
        if not totals["captions"]:
            raise UserError(
                "there are no captions to report on", where=str(workspace.path), fix="run sono-curate caption first"
            )
        connection.execute(_SETS)
        page = _page(connection, workspace.vocabulary, totals, context_length, workspace.center)
    path = workspace.reports / "captions.html"
    write_atomically(path, lambda file: file.write(page.encode()))
    return path


def repeated_share(groups: Mapping[int, int], batch: int) -> float | None:
    """The share of a random batch's rows, drawn without replacement, that have an equal caption in the batch.

    Of N rows, a row of a group of n equal ones has none of the others among the batch's other B - 1 rows with the
    hypergeometric probability C(N - n, B - 1) / C(N - 1, B - 1).

    Args:
        groups: size of a group of equal captions -> number of such groups.
        batch: rows.

    Returns:
        The expected share; None where there are fewer rows than the batch takes.
    """
    rows = sum(size * number for size, number in groups.items())
    if batch > rows:
        return None
    repeated = sum(size * number * (1 - _alone(rows, size, batch)) for size, number in groups.items() if size > 1)
    return repeated / rows


def _alone(rows: int, size: int, batch: int) -> float:
    if rows - size < batch - 1:
        return 0.0
    logarithm = (
        math.lgamma(rows - size + 1)
        - math.lgamma(rows - size - batch + 2)
        - math.lgamma(rows)
        + math.lgamma(rows - batch + 1)
    )
    return min(1.0, math.exp(logarithm))


_TOTALS = """
SELECT (SELECT count(*) FROM captions) AS captions,
    (SELECT count(*) FROM captions WHERE region_id IS NOT NULL) AS region_captions,
    (SELECT max(tokens) FROM captions) AS longest,
    (SELECT count(*) FROM captions WHERE tokens IS NULL) AS uncounted,
    (SELECT count(*) FROM captions WHERE len(dropped) > 0) AS shortened,
    (SELECT count(*) FROM records) AS records,
    (SELECT count(DISTINCT study_key) FROM records) AS examinations,
    (SELECT count(DISTINCT study_key) FROM records WHERE ga_conflict IS NOT NULL) AS conflicts
"""
# Facts are equal for many captions: they are parsed once for each set of them.
_SETS = """
CREATE TEMP TABLE sets AS SELECT region_id IS NOT NULL AS region, facts, coalesce(dropped, []) AS dropped, count(*) AS n
FROM captions GROUP BY ALL
"""
_PLANES = """
SELECT plane, count(*) AS frames, count(captioned.frame_id) AS captioned
FROM frames LEFT JOIN (SELECT DISTINCT frame_id FROM captions WHERE region_id IS NULL) captioned USING (frame_id)
GROUP BY plane
"""
_OUTLINED = "SELECT structure, count(*) AS n FROM regions WHERE status IN ('accepted', 'edited') GROUP BY structure"
_OF_REGIONS = """
SELECT json_extract_string(facts, '$.structure.value') AS structure, sum(n)::BIGINT AS n
FROM sets WHERE region GROUP BY structure
"""
_OF_FRAMES = """
SELECT structure, sum(n)::BIGINT AS n FROM (
    SELECT unnest(from_json(json_extract(facts, '$.structures.value'), '["VARCHAR"]')) AS structure, dropped, n
    FROM sets WHERE NOT region
) WHERE NOT list_contains(dropped, structure) GROUP BY structure
"""
_DROPPED = """
SELECT structure, count(*) AS n FROM (SELECT unnest(dropped) AS structure FROM captions WHERE len(dropped) > 0)
GROUP BY structure
"""
_LENGTHS = """
SELECT region_id IS NOT NULL AS region, tokens, count(*) AS n FROM captions WHERE tokens IS NOT NULL GROUP BY ALL
"""
_GROUPS = """
SELECT region, size, count(*) AS groups FROM (
    SELECT region_id IS NOT NULL AS region, count(*) AS size FROM captions GROUP BY region, text
) GROUP BY region, size
"""
_WEEKS = """
SELECT json_extract_string(facts, '$.ga_days.value')::INT // 7 AS week, sum(n)::BIGINT AS n
FROM sets WHERE NOT region AND json_extract_string(facts, '$.ga_days.value') IS NOT NULL GROUP BY week
"""
_SOURCES = """
SELECT entry.key AS fact, entry.value ->> '$.source' AS source, sum(n)::BIGINT AS n
FROM (SELECT unnest(map_entries(facts::JSON::MAP(VARCHAR, JSON))) AS entry, n FROM sets)
GROUP BY ALL ORDER BY n DESC, source
"""
_AGES = """
SELECT ga_source AS source, ga_formula AS formula, count(DISTINCT study_key) AS n
FROM records WHERE ga_days IS NOT NULL GROUP BY ALL ORDER BY n DESC, source, formula
"""
_CONFLICTS = """
SELECT ga_conflict AS name, count(DISTINCT study_key) AS n
FROM records WHERE ga_conflict IS NOT NULL GROUP BY ALL ORDER BY n DESC, name
"""
_GAPS = """
SELECT stage, reason, min(regexp_replace(message, '^[^:]*: ', '')) AS message, count(*) AS n FROM exclusions
WHERE stage IN ('caption', 'records', 'statements') GROUP BY stage, reason ORDER BY stage, n DESC, reason
"""  # a message about a record begins with its place, of which there are many
_READ = "SELECT rank, count(*) AS n FROM statements WHERE fact <> 'identity' GROUP BY rank ORDER BY rank"
_TEMPLATES = """
SELECT region_id IS NOT NULL AS region, template AS name, count(*) AS n
FROM captions GROUP BY ALL ORDER BY region, n DESC, name
"""


def _open(connection: duckdb.DuckDBPyConnection, store: TableStore) -> None:
    """Give every table a name in SQL; of its files, only what a query names is read."""
    for table in (FRAMES, REGIONS, STATEMENTS, RECORDS, CAPTIONS, EXCLUSIONS):
        paths = [str(path) for path in store.paths(table)]
        if paths:
            connection.read_parquet(paths, filename=True, hive_partitioning=False).create_view(table.name)
        else:
            nothing = table.empty().append_column("filename", pa.array([], pa.string()))
            connection.register(table.name, nothing)


def _page(
    connection: duckdb.DuckDBPyConnection,
    vocabulary: Vocabulary,
    totals: Mapping[str, int],
    context_length: int | None,
    center: str,
) -> str:
    planes = _planes(connection, vocabulary)
    groups: dict[bool, dict[int, int]] = {False: {}, True: {}}
    for row in query_rows(connection, _GROUPS):
        groups[row["region"]][row["size"]] = row["groups"]
    return pages.render(
        __package__,
        "page.html",
        center=center,
        percent=_percent,
        totals=totals,
        context_length=context_length,
        frames=sum(frames for _, frames, _ in planes),
        captioned=sum(captioned for _, _, captioned in planes),
        distinct={region: sum(sizes.values()) for region, sizes in groups.items()},
        planes=planes,
        planes_absent=[
            plane.name for plane in vocabulary.planes.values() if plane.name not in {row[0] for row in planes}
        ],
        structures=_structures(connection, vocabulary),
        dropped=[
            Bar(name, count, count / totals["shortened"])
            for name, count in _by_structure(connection, _DROPPED, vocabulary).most_common()
        ],
        lengths=_lengths(connection, context_length),
        batches=BATCH_SIZES,
        repeated={region: [repeated_share(sizes, batch) for batch in BATCH_SIZES] for region, sizes in groups.items()},
        weeks=_weeks(connection),
        sources=_sources(connection),
        ages=_bars([(_age(row), row["n"]) for row in query_rows(connection, _AGES)]),
        read=_bars([(_RANKS.get(row["rank"], "otherwise"), row["n"]) for row in query_rows(connection, _READ)]),
        conflicts=_bars([(_in_words(row["name"]), row["n"]) for row in query_rows(connection, _CONFLICTS)]),
        gaps=query_rows(connection, _GAPS),
        templates=_templates(connection),
        examples=list(examples(connection, vocabulary)),
        thumbnail_px=THUMBNAIL_PX,
    )


def _percent(share: float) -> str:
    """With one digit; what is not quite nothing or everything is not rounded to it."""
    if 0 < share < 0.0005 or 0.9995 <= share < 1:
        return "< 0.1 %" if share < 0.5 else "> 99.9 %"
    return f"{100 * share:.1f} %"


def _bars(counts: Sequence[tuple[str, int]]) -> list[Bar]:
    whole = sum(count for _, count in counts) or 1
    return [Bar(name, count, count / whole) for name, count in counts]


def _planes(connection: duckdb.DuckDBPyConnection, vocabulary: Vocabulary) -> list[tuple[str, int, int]]:
    """Name, frames, and frames with a caption, in the vocabulary's order."""
    counts: dict[str, list[int]] = {}
    for row in query_rows(connection, _PLANES):
        count = counts.setdefault(plane_name(vocabulary, row["plane"]), [0, 0])
        count[0] += row["frames"]
        count[1] += row["captioned"]
    order = [plane.name for plane in vocabulary.planes.values()] + sorted(counts)
    return [(name, counts[name][0], counts[name][1]) for name in dict.fromkeys(order) if name in counts]


def _by_structure(connection: duckdb.DuckDBPyConnection, sql: str, vocabulary: Vocabulary) -> Counter[str]:
    counts: Counter[str] = Counter()
    for row in query_rows(connection, sql):
        counts[structure_name(vocabulary, row["structure"])] += row["n"]
    return counts


def _structures(connection: duckdb.DuckDBPyConnection, vocabulary: Vocabulary) -> dict[str, Any]:
    """Rows of name, accepted regions, region captions and global captions that name it, the commonest first."""
    outlined, of_regions, of_frames = (
        _by_structure(connection, sql, vocabulary) for sql in (_OUTLINED, _OF_REGIONS, _OF_FRAMES)
    )
    present = outlined.keys() | of_regions.keys() | of_frames.keys()
    rows = [(name, outlined[name], of_regions[name], of_frames[name]) for name in present]
    absent = [entry.name for entry in vocabulary.structures.values() if entry.name not in present]
    return {
        "rows": sorted(rows, key=lambda row: (-row[2], -row[3], row[0])),
        "absent": absent,
        "most_regions": max((*outlined.values(), *of_regions.values()), default=0),
        "most_frames": max(of_frames.values(), default=0),
    }


def _lengths(connection: duckdb.DuckDBPyConnection, context_length: int | None) -> dict[bool, Histogram]:
    """Of global and of region captions, on one axis."""
    counts: dict[bool, dict[int, int]] = {False: {}, True: {}}
    for row in query_rows(connection, _LENGTHS):
        counts[row["region"]][row["tokens"]] = row["n"]
    longest = max((tokens for found in counts.values() for tokens in found), default=0)
    end = max(longest, context_length or 0) + 1
    marks = [(context_length, f"context length {context_length}")] if context_length else []
    return {
        region: _histogram(found, 0, end, "tokens", [(max(found), f"longest {max(found)}"), *marks])
        for region, found in counts.items()
        if found
    }


def _weeks(connection: duckdb.DuckDBPyConnection) -> Histogram | None:
    counts = {row["week"]: row["n"] for row in query_rows(connection, _WEEKS)}
    if not counts:
        return None
    trimesters = [(14, "second trimester, from 14+0"), (28, "third, from 28+0")]
    return _histogram(counts, min(*counts, 11), max(*counts, 40) + 1, "weeks", trimesters, edge=0)


def _histogram(
    counts: Mapping[int, int],
    start: int,
    end: int,
    unit: str,
    marks: Sequence[tuple[float, str]],
    edge: float = 0.5,
) -> Histogram:
    """Whole numbers from ``start`` up to ``end``; a mark stands in the middle of its number, or at its left edge."""
    step = math.ceil((end - start) / _MOST_BARS)
    width = 100 / (end - start)
    binned: Counter[int] = Counter()
    for value, count in counts.items():
        binned[(value - start) // step] += count
    highest = max(binned.values(), default=0)
    bars = []
    for bin_, count in sorted(binned.items()):
        first = start + bin_ * step
        held = f"{first}" if step == 1 else f"{first} to {first + step - 1}"
        bars.append((f"{held} {unit}", count, bin_ * step * width, step * width, 100 * count / highest))
    every = max(1, round((end - start) / 8 / 5) * 5)
    ticks = [((value - start + 0.5) * width, str(value)) for value in range(start, end) if value % every == 0]
    return Histogram(bars, [((place - start + edge) * width, label) for place, label in marks], ticks, highest)


def _sources(connection: duckdb.DuckDBPyConnection) -> list[tuple[str, int, list[Bar]]]:
    """Of each fact its name, in how many captions it is, and the fields that it comes from, the commonest first."""
    found: dict[str, list[tuple[str, int]]] = {}
    for row in query_rows(connection, _SOURCES):
        found.setdefault(FACT_NAMES.get(row["fact"], "other facts"), []).append((row["source"] or "not said", row["n"]))
    facts = []
    for name in (*FACT_NAMES.values(), "other facts"):
        if name in found:
            counts, rest = found[name][:LONGEST_LIST], found[name][LONGEST_LIST:]
            if rest:
                name_of_rest = "1 other field" if len(rest) == 1 else f"{len(rest)} other fields"
                counts.append((name_of_rest, sum(count for _, count in rest)))
            facts.append((name, sum(count for _, count in counts), _bars(counts)))
    return facts


def _age(row: Mapping[str, str | None]) -> str:
    return " via ".join(part for part in (row["source"] or "not said", row["formula"]) if part)


def _in_words(conflict: str) -> str:
    for source, words in _SOURCE_WORDS.items():
        conflict = conflict.replace(source, words)
    return conflict


def _templates(connection: duckdb.DuckDBPyConnection) -> dict[bool, list[Bar]]:
    rows = query_rows(connection, _TEMPLATES)
    return {
        region: _bars([(row["name"], row["n"]) for row in rows if row["region"] == region]) for region in (False, True)
    }

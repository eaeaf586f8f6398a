"""The page's figures: one function each, which asks the tables and returns what is to be drawn."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sono.manifests.vocabulary import Vocabulary

from .charts import Bar, Histogram, bars_of, histogram
from .names import FACT_NAMES, LONGEST_LIST, plane_name, structure_name
from .tables import query_rows

if TYPE_CHECKING:
    import duckdb

_SOURCE_WORDS = {
    "explicit": "the stated age",
    "edd": "the due date",
    "lmp": "the last menstrual period",
    "crl": "the crown-rump length",
    "biometry": "the measurements",
}
"""What the page calls the sources of ``records.ga_source`` in conflicts."""

_RANKS = {0: "coded", 1: "found in prose by rules", 2: "found in prose by a language model"}


def totals(database: duckdb.DuckDBPyConnection) -> dict[str, int]:
    """Counts of captions, records and examinations."""
    return query_rows(database, _TOTALS)[0]


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


def group_facts(database: duckdb.DuckDBPyConnection) -> None:
    """Make the table ``sets``, which other figures read: many captions have equal facts, whose JSON is parsed once."""
    database.execute(_SETS)


_SETS = """
CREATE TEMP TABLE sets AS SELECT region_id IS NOT NULL AS region, facts, coalesce(dropped, []) AS dropped, count(*) AS n
FROM captions GROUP BY ALL
"""


def planes(database: duckdb.DuckDBPyConnection, vocabulary: Vocabulary) -> list[tuple[str, int, int]]:
    """Name, frames, and frames with a caption, in the vocabulary's order."""
    counts: dict[str, list[int]] = {}
    for row in query_rows(database, _PLANES):
        count = counts.setdefault(plane_name(vocabulary, row["plane"]), [0, 0])
        count[0] += row["frames"]
        count[1] += row["captioned"]
    order = [plane.name for plane in vocabulary.planes.values()] + sorted(counts)
    return [(name, counts[name][0], counts[name][1]) for name in dict.fromkeys(order) if name in counts]


_PLANES = """
SELECT plane, count(*) AS frames, count(captioned.frame_id) AS captioned
FROM frames LEFT JOIN (SELECT DISTINCT frame_id FROM captions WHERE region_id IS NULL) captioned USING (frame_id)
GROUP BY plane
"""


def structures(database: duckdb.DuckDBPyConnection, vocabulary: Vocabulary) -> dict[str, Any]:
    """Rows of name, accepted regions, region captions and global captions that name it, the most frequent first."""
    outlined, of_regions, of_frames = (
        _by_structure(database, sql, vocabulary) for sql in (_OUTLINED, _OF_REGIONS, _OF_FRAMES)
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


def dropped_structures(database: duckdb.DuckDBPyConnection, vocabulary: Vocabulary, shortened: int) -> list[Bar]:
    """Structures left out of captions that were too long, with their share of the ``shortened`` captions."""
    counts = _by_structure(database, _DROPPED, vocabulary)
    return [Bar(name, count, count / shortened) for name, count in counts.most_common()]


_DROPPED = """
SELECT structure, count(*) AS n FROM (SELECT unnest(dropped) AS structure FROM captions WHERE len(dropped) > 0)
GROUP BY structure
"""


def _by_structure(database: duckdb.DuckDBPyConnection, sql: str, vocabulary: Vocabulary) -> Counter[str]:
    counts: Counter[str] = Counter()
    for row in query_rows(database, sql):
        counts[structure_name(vocabulary, row["structure"])] += row["n"]
    return counts


def lengths(database: duckdb.DuckDBPyConnection, context_length: int | None) -> dict[bool, Histogram]:
    """Tokens of global captions (False) and of region captions (True), on one axis."""
    counts: dict[bool, dict[int, int]] = {False: {}, True: {}}
    for row in query_rows(database, _LENGTHS):
        counts[row["region"]][row["tokens"]] = row["n"]
    longest = max((tokens for found in counts.values() for tokens in found), default=0)
    end = max(longest, context_length or 0) + 1
    marks = [(context_length, f"context length {context_length}")] if context_length else []
    return {
        region: histogram(found, 0, end, "tokens", [(max(found), f"longest {max(found)}"), *marks])
        for region, found in counts.items()
        if found
    }


_LENGTHS = """
SELECT region_id IS NOT NULL AS region, tokens, count(*) AS n FROM captions WHERE tokens IS NOT NULL GROUP BY ALL
"""


def equal_captions(database: duckdb.DuckDBPyConnection) -> dict[bool, dict[int, int]]:
    """For global (False) and region captions (True): size of a group of equal captions -> number of such groups."""
    groups: dict[bool, dict[int, int]] = {False: {}, True: {}}
    for row in query_rows(database, _GROUPS):
        groups[row["region"]][row["size"]] = row["groups"]
    return groups


_GROUPS = """
SELECT region, size, count(*) AS groups FROM (
    SELECT region_id IS NOT NULL AS region, count(*) AS size FROM captions GROUP BY region, text
) GROUP BY region, size
"""


def weeks(database: duckdb.DuckDBPyConnection) -> Histogram | None:
    """Captioned frames by gestational age; None if no caption states one."""
    counts = {row["week"]: row["n"] for row in query_rows(database, _WEEKS)}
    if not counts:
        return None
    trimesters = [(14, "second trimester, from 14+0"), (28, "third, from 28+0")]
    return histogram(counts, min(*counts, 11), max(*counts, 40) + 1, "weeks", trimesters, edge=0)


_WEEKS = """
SELECT json_extract_string(facts, '$.ga_days.value')::INT // 7 AS week, sum(n)::BIGINT AS n
FROM sets WHERE NOT region AND json_extract_string(facts, '$.ga_days.value') IS NOT NULL GROUP BY week
"""


def sources(database: duckdb.DuckDBPyConnection) -> list[tuple[str, int, list[Bar]]]:
    """For each fact its name, the captions that have it, and the fields it comes from, the most frequent first."""
    found: dict[str, list[tuple[str, int]]] = {}
    for row in query_rows(database, _SOURCES):
        found.setdefault(FACT_NAMES.get(row["fact"], "other facts"), []).append((row["source"] or "not said", row["n"]))
    facts = []
    for name in (*FACT_NAMES.values(), "other facts"):
        if name in found:
            counts, rest = found[name][:LONGEST_LIST], found[name][LONGEST_LIST:]
            if rest:
                name_of_rest = "1 other field" if len(rest) == 1 else f"{len(rest)} other fields"
                counts.append((name_of_rest, sum(count for _, count in rest)))
            facts.append((name, sum(count for _, count in counts), bars_of(counts)))
    return facts


_SOURCES = """
SELECT entry.key AS fact, entry.value ->> '$.source' AS source, sum(n)::BIGINT AS n
FROM (SELECT unnest(map_entries(facts::JSON::MAP(VARCHAR, JSON))) AS entry, n FROM sets)
GROUP BY ALL ORDER BY n DESC, source
"""


def ages(database: duckdb.DuckDBPyConnection) -> list[Bar]:
    """Examinations by what their age was computed from."""
    return bars_of([(_age_source(row), row["n"]) for row in query_rows(database, _AGES)])


_AGES = """
SELECT ga_source AS source, ga_formula AS formula, count(DISTINCT study_key) AS n
FROM records WHERE ga_days IS NOT NULL GROUP BY ALL ORDER BY n DESC, source, formula
"""


def _age_source(row: Mapping[str, str | None]) -> str:
    return " via ".join(part for part in (row["source"] or "not said", row["formula"]) if part)


def conflicts(database: duckdb.DuckDBPyConnection) -> list[Bar]:
    """Examinations without an age by which of their sources disagree."""
    return bars_of([(_in_words(row["name"]), row["n"]) for row in query_rows(database, _CONFLICTS)])


_CONFLICTS = """
SELECT ga_conflict AS name, count(DISTINCT study_key) AS n
FROM records WHERE ga_conflict IS NOT NULL GROUP BY ALL ORDER BY n DESC, name
"""


def _in_words(conflict: str) -> str:
    for source, words in _SOURCE_WORDS.items():
        conflict = conflict.replace(source, words)
    return conflict


def gaps(database: duckdb.DuckDBPyConnection) -> list[dict[str, Any]]:
    """Exclusions by stage and reason, with one of the reason's messages."""
    return query_rows(database, _GAPS)


_GAPS = """
SELECT stage, reason, min(regexp_replace(message, '^[^:]*: ', '')) AS message, count(*) AS n FROM exclusions
WHERE stage IN ('caption', 'records', 'statements') GROUP BY stage, reason ORDER BY stage, n DESC, reason
"""  # a message about a record begins with its place, of which there are many


def ranks(database: duckdb.DuckDBPyConnection) -> list[Bar]:
    """Statements by how they were read."""
    return bars_of([(_RANKS.get(row["rank"], "otherwise"), row["n"]) for row in query_rows(database, _STATEMENT_RANKS)])


_STATEMENT_RANKS = """
SELECT rank, count(*) AS n FROM statements WHERE fact NOT IN ('identity', 'several_fetuses') GROUP BY rank ORDER BY rank
"""


def templates(database: duckdb.DuckDBPyConnection) -> dict[bool, list[Bar]]:
    """Global (False) and region captions (True) by template."""
    rows = query_rows(database, _TEMPLATES)
    return {
        region: bars_of([(row["name"], row["n"]) for row in rows if row["region"] == region])
        for region in (False, True)
    }


_TEMPLATES = """
SELECT region_id IS NOT NULL AS region, template AS name, count(*) AS n
FROM captions GROUP BY ALL ORDER BY region, n DESC, name
"""

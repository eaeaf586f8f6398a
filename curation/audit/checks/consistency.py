"""Whether keys and what they stand for agree both ways, over all parts at once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sono.curation.audit.findings import PAIR, Findings
from sono.manifests.query import query

_SQL = """
WITH pairs AS (
    SELECT action, reason AS column_name, identity, pseudonym, sum(checks) AS checks
    FROM read_parquet($paths) WHERE outcome = $pair GROUP BY ALL
), counted AS (
    SELECT *, count(*) OVER (PARTITION BY action, column_name, identity) AS pseudonyms,
        count(*) OVER (PARTITION BY action, column_name, pseudonym) AS identities
    FROM pairs
)
SELECT action, column_name, count(DISTINCT identity)::BIGINT AS sources,
    sum(checks)::BIGINT AS checks,
    coalesce(sum(checks) FILTER (pseudonyms > 1), 0)::BIGINT AS split,
    coalesce(sum(checks) FILTER (pseudonyms = 1 AND identities > 1), 0)::BIGINT AS merged,
    max(identities)::BIGINT AS sharing
FROM counted GROUP BY ALL ORDER BY ALL
"""


def judge_pairs(parts: Sequence[Path], findings: Findings) -> None:
    """Judge the pairs in the parts of ``FINDINGS``.

    A patient's, study's or series' key must be the only one and stand for nothing else. Days must all be moved alike on
    one calendar, and differently on most others.
    """
    if not parts:
        return
    rows = query(_SQL, {"paths": [str(path) for path in parts], "pair": PAIR}).to_pylist()
    for row in rows:
        action, column = row["action"], row["column_name"]
        if column == "study_day":
            _judge_calendars(row["sources"], row["sharing"], row["checks"], row["split"], findings)
            continue
        bad = row["split"] + row["merged"]
        if row["split"]:
            findings.failed(action, f"several_{column}s_for_one", checks=row["split"])
        if row["merged"]:
            findings.failed(action, f"one_{column}_for_several", checks=row["merged"])
        if row["checks"] > bad:
            findings.passed(action, checks=row["checks"] - bad)


def _judge_calendars(calendars: int, sharing: int, checks: int, split: int, findings: Findings) -> None:
    """Two calendars may be moved alike by chance, once in a century of days; most of them cannot."""
    if split:
        findings.failed("date_shifted", "intervals_have_changed", checks=split)
    elif calendars > 1 and 2 * sharing > calendars:
        findings.failed("date_shifted", "dates_are_not_shifted", checks=checks)
    else:
        findings.passed("date_shifted", checks=checks)

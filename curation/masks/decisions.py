"""Which masks were decided upon, as conditions of SQL on the table of regions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sono.manifests.schemas import ACCEPTED_STATUSES, PREDICTED_SOURCES

ACCEPTED = f"status IN ({', '.join(map(repr, ACCEPTED_STATUSES))})"
"""Masks that datasets are built with."""

_A_PROGRAMS = ", ".join(f"'{source}'" for source in PREDICTED_SOURCES)

ACCEPTED_BY_PERSON = (
    f"(status = 'edited' OR (status = 'accepted' AND (updated_at IS NOT NULL OR source NOT IN ({_A_PROGRAMS}))))"
)
"""Masks that a person drew, edited or accepted: ``masks import --predicted`` accepts what nobody has looked at."""

WAITS = f"(status = 'proposed' OR (status = 'accepted' AND updated_at IS NULL AND source IN ({_A_PROGRAMS})))"
"""Masks that a program made and nobody has decided upon."""


def waits(row: Mapping[str, Any]) -> bool:
    """The same of a row of regions."""
    unseen = row["status"] == "accepted" and row["updated_at"] is None and row["source"] in PREDICTED_SOURCES
    return row["status"] == "proposed" or unseen

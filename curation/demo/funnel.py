"""How many frames are left after each step, and why the others were left out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from sono.manifests.filenames import MARKER
from sono.manifests.query import query
from sono.manifests.schemas import EXCLUSIONS, QC, TableSpec
from sono.manifests.store import TableStore

from .plan import DemoLayout


@dataclass(frozen=True)
class FunnelStep:
    """How much is left, and what was left out since the step before, by reason."""

    name: str
    count: int
    left_out: Mapping[str, int]


@dataclass(frozen=True)
class Funnel:
    """From the archive's files to the dataset's frames. ``splits`` are rows of the dataset by split."""

    steps: tuple[FunnelStep, ...]
    splits: Mapping[str, int]


def read_funnel(layout: DemoLayout, store: TableStore) -> Funnel:
    files = sum(1 for path in (layout.phantoms / "dicom").rglob("*") if path.is_file())
    excluded = _counts(store, EXCLUSIONS, "reason", "stage = 'ingest'")
    verdicts = _counts(store, QC, "verdict", "true")
    rejected = _counts(store, QC, "array_to_string(reasons, ', ')", "verdict <> 'accept'")
    description = json.loads((layout.dataset / MARKER).read_text())
    splits = {name: int(split["rows"]) for name, split in description["splits"].items()}
    steps = (
        FunnelStep("files in the archive", files, {}),
        FunnelStep("frames read", sum(verdicts.values()), excluded),
        FunnelStep("frames accepted", verdicts.get("accept", 0), rejected),
        FunnelStep("frames in the dataset", sum(splits.values()), description["left_out"]),
    )
    return Funnel(steps, splits)


def _counts(store: TableStore, table: TableSpec, key: str, where: str) -> dict[str, int]:
    """Rows by the value of the SQL expression ``key``, the most frequent first."""
    paths = [str(path) for path in store.paths(table)]
    if not paths:
        return {}
    rows = query(
        f"SELECT {key} AS name, count(*) AS n FROM read_parquet($paths) WHERE {where} "
        "GROUP BY ALL ORDER BY n DESC, name",
        {"paths": paths},
    ).to_pylist()
    return {row["name"]: row["n"] for row in rows}

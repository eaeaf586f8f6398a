"""What happened to every fault that was put into the archive.

A fault is followed through the workspace by hashing its file's name again: the workspace itself keeps no names.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from sono.curation.phantom.truth import TRUE_DUPLICATES, TRUE_FAULTS
from sono.manifests.query import query
from sono.manifests.schemas import CAPTIONS, EXCLUSIONS, FRAMES, QC, TableSpec
from sono.manifests.store import TableStore
from sono.manifests.workspace import Workspace

from .plan import DemoLayout

_IN_DATASET = "in the dataset"
_NOT_READ = "not read"
_DUPLICATES_KEPT = ("both left out", "one of the two in the dataset", "both in the dataset")

_DUPLICATES = {
    "exact": "the same pixels in a second file",
    "near": "the same view saved again at another gain; no step looks for these yet",
}


@dataclass(frozen=True)
class InjectedFault:
    """A fault put in on purpose: how often, and what became of each, counted by outcome."""

    name: str
    meaning: str
    count: int
    outcomes: Mapping[str, int]


def read_faults(layout: DemoLayout, workspace: Workspace) -> list[InjectedFault]:
    truth = TableStore(layout.phantoms / "truth")
    outcomes = _read_outcomes(workspace.store)
    counted: dict[tuple[str, str], Counter[str]] = {}
    for row in truth.read_all(TRUE_FAULTS).to_pylist():
        if row["file"] is None:
            outcome = outcomes.of_study(workspace.keys.study(row["study_uid"]))
        else:
            outcome = outcomes.of_source(_source_key(workspace, row["file"]))
        counted.setdefault((row["fault"], row["meaning"]), Counter())[outcome] += 1
    for row in truth.read_all(TRUE_DUPLICATES).to_pylist():
        pair = [outcomes.of_source(_source_key(workspace, file)) for file in (row["file"], row["original"])]
        outcome = _DUPLICATES_KEPT[pair.count(_IN_DATASET)]
        counted.setdefault((f"{row['kind']}_duplicate", _DUPLICATES[row["kind"]]), Counter())[outcome] += 1
    return [
        InjectedFault(name, meaning, counts.total(), dict(counts.most_common()))
        for (name, meaning), counts in sorted(counted.items())
    ]


def _source_key(workspace: Workspace, file: str) -> str:
    below_center = file.partition("/")[2]  # each hospital's folder was ingested on its own
    return workspace.keys.source(below_center)


@dataclass(frozen=True)
class _Outcomes:
    """What became of files and of studies, in words, by their pseudonyms."""

    by_source: Mapping[str, str]
    by_study: Mapping[str, Counter[str]]

    def of_source(self, key: str) -> str:
        return self.by_source.get(key, _NOT_READ)

    def of_study(self, key: str) -> str:
        """The outcome of most of its frames."""
        counts = self.by_study.get(key)
        return counts.most_common(1)[0][0] if counts else _NOT_READ


def _read_outcomes(store: TableStore) -> _Outcomes:
    rows = query(
        "SELECT source_key, study_key, CASE WHEN verdict <> 'accept' THEN 'qc: ' || array_to_string(reasons, ', ') "
        f"WHEN captions.frame_id IS NULL THEN 'no caption' ELSE '{_IN_DATASET}' END AS outcome "
        "FROM read_parquet($frames) frames JOIN read_parquet($qc) qc USING (frame_id) LEFT JOIN "
        "(SELECT frame_id FROM read_parquet($captions) WHERE region_id IS NULL) captions USING (frame_id) "
        "ORDER BY source_key, frame_index DESC",
        {"frames": _paths(store, FRAMES), "qc": _paths(store, QC), "captions": _paths(store, CAPTIONS)},
    ).to_pylist()
    by_study: dict[str, Counter[str]] = {}
    for row in rows:
        by_study.setdefault(row["study_key"], Counter())[row["outcome"]] += 1
    by_source = {row["source_key"]: row["outcome"] for row in rows}  # a cine's first frame speaks for it
    return _Outcomes(by_source | _ingest_exclusions(store), by_study)


def _ingest_exclusions(store: TableStore) -> dict[str, str]:
    if not store.paths(EXCLUSIONS):
        return {}
    rows = query(
        "SELECT source_key, reason FROM read_parquet($exclusions) WHERE stage = 'ingest'",
        {"exclusions": _paths(store, EXCLUSIONS)},
    ).to_pylist()
    return {row["source_key"]: f"ingest: {row['reason']}" for row in rows}


def _paths(store: TableStore, table: TableSpec) -> list[str]:
    return [str(path) for path in store.paths(table)]

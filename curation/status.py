"""Where a workspace stands: what each table holds, what is stale, and what to do next."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow.compute as pc
import pyarrow.parquet as pq

from sono.curation.qc.parts import qc_parts
from sono.curation.qc.stage import QcSection, QcStage
from sono.manifests.exclusions import count_exclusions
from sono.manifests.schemas import CAPTIONS, FRAMES, QC, RECORDS, REGIONS, VERDICTS, TableSpec
from sono.manifests.stages import stale_parts
from sono.manifests.store import TableStore
from sono.manifests.workspace import Workspace


@dataclass(frozen=True)
class Status:
    """Counts of a workspace; ``next_step`` is the command that is due, as one would type it."""

    center: str  # of files whose center nobody names
    patients: int
    frames: int
    frames_by_center: Mapping[str, int]
    frames_by_plane: Mapping[str, int]
    exclusions: Mapping[str, Mapping[str, int]]  # stage -> reason -> count
    verdicts: Mapping[str, int]
    regions: Mapping[str, int]  # structure -> count
    records: int
    captions: int
    stale: Mapping[str, int]  # stage -> parts that a run would compute
    next_step: str


def status(workspace: Workspace) -> Status:
    """Read the tables' small columns; pixels and masks are not touched."""
    store = workspace.store
    frames = store.read_all(FRAMES, ["patient_key", "center", "plane"])
    verdicts = store.read_all(QC, ["verdict"])["verdict"].to_pylist()
    structures = store.read_all(REGIONS, ["structure"])["structure"]
    planes = frames["plane"].fill_null("unknown")
    stale = {"qc": stale_parts(QcStage(workspace.section("qc", QcSection)), qc_parts(store), store)}
    counts = {table.name: _rows(store, table) for table in (FRAMES, QC, RECORDS, CAPTIONS)}
    return Status(
        center=workspace.center,
        patients=pc.count_distinct(frames["patient_key"]).as_py(),
        frames=frames.num_rows,
        frames_by_center=_count(frames["center"].fill_null("unknown").to_pylist()),
        frames_by_plane=_count(planes.to_pylist()),
        exclusions=_exclusions(store),
        verdicts={verdict: verdicts.count(verdict) for verdict in VERDICTS},
        regions=_count(structures.to_pylist()),
        records=counts["records"],
        captions=counts["captions"],
        stale={stage: parts for stage, parts in stale.items() if parts},
        next_step=_next(str(workspace.path), counts, stale, structures=len(structures)),
    )


def _next(path: str, counts: Mapping[str, int], stale: Mapping[str, int], structures: int) -> str:
    if not counts["frames"]:
        return f"sono-curate ingest {path} SOURCE"
    if stale["qc"]:
        return f"sono-curate qc {path}"
    if not structures:
        return f"sono-curate masks import {path} DIR --structure S --format png"
    if not counts["captions"]:
        return f"sono-curate caption {path} --records RECORDS"
    return f"sono-curate build {path} OUT"


def _count(values: list[str]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for value in values:
        counts[value] = counts.get(value, 0) + 1
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _exclusions(store: TableStore) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    for count in count_exclusions(store):
        found.setdefault(count.stage, {})[count.reason] = count.rows
    return found


def _rows(store: TableStore, table: TableSpec) -> int:
    return sum(pq.read_metadata(path).num_rows for path in store.paths(table))

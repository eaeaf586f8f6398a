"""Where a workspace stands: what each table holds, what is stale, and what to do next."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from sono.curation.dataset.latest import LatestDataset, latest_dataset
from sono.curation.masks.carry.run import stale_carried
from sono.curation.masks.checks.judged import count_faults
from sono.curation.masks.checks.parts import check_parts
from sono.curation.masks.checks.stage import MaskCheckStage
from sono.curation.masks.decisions import ACCEPTED
from sono.curation.masks.propose.stale import stale_proposed
from sono.curation.qc.parts import qc_parts
from sono.curation.qc.stage import QcSection, QcStage
from sono.manifests.exclusions import count_exclusions
from sono.manifests.journal_events import REVIEWER
from sono.manifests.projection import decisions_pending
from sono.manifests.pulled import read_pulled
from sono.manifests.query import connect, view_table
from sono.manifests.schemas import CAPTIONS, FRAMES, QC, RECORDS, REGIONS, VERDICTS
from sono.manifests.stages import stale_parts
from sono.manifests.store import TableStore
from sono.manifests.withdrawn import read_withdrawn
from sono.manifests.workspace import Workspace

if TYPE_CHECKING:
    import duckdb


@dataclass(frozen=True)
class Status:
    """Counts of a workspace; ``next_step`` is the command that is due, as one would type it."""

    center: str  # of files whose center is not given otherwise
    pulled_from: str | None  # the dataset that the frames are from, if they were not ingested
    patients: int
    frames: int
    frames_by_center: Mapping[str, int]
    frames_by_plane: Mapping[str, int]
    exclusions: Mapping[str, Mapping[str, int]]  # stage -> reason -> count
    verdicts: Mapping[str, int]
    regions: Mapping[str, int]  # structure -> count of accepted masks
    proposed: Mapping[str, int]  # structure -> count of masks that await a decision
    decided: Mapping[str, int]  # status -> count of masks that reviewers decided on; frames -> count of those
    decisions_pending: int  # that are not in the tables yet
    mask_checks: Mapping[str, int]  # check -> accepted and proposed masks that fail it
    masks_not_measured: int  # by masks check, so that some checks say nothing of them
    records: int
    captions: int
    stale: Mapping[str, int]  # stage -> parts that a run would compute
    dataset: LatestDataset | None
    next_step: str


def read_status(workspace: Workspace) -> Status:
    """Count in the tables, and compare the parts with what a run would make; no pixels are read.

    Rows are counted and compared in DuckDB, which spills to disk, or a part at a time.
    """
    store = workspace.store
    counts = _count(store)
    faults = count_faults(store, workspace.vocabulary)
    stale = {
        "qc": stale_parts(QcStage(workspace.section("qc", QcSection)), qc_parts(store), store),
        "masks-propose": stale_proposed(workspace),
        "masks-carry": stale_carried(workspace),
        "masks-check": stale_parts(MaskCheckStage(), check_parts(store), store),
    }
    captions = store.count_rows(CAPTIONS)
    dataset = latest_dataset(workspace)
    pulled = read_pulled(workspace.path)
    return Status(
        center=workspace.center,
        pulled_from=f"{pulled.name}{'' if pulled.complete else ' (interrupted: pull again)'}" if pulled else None,
        patients=counts.patients,
        frames=sum(counts.centers.values()),
        frames_by_center=counts.centers,
        frames_by_plane=counts.planes,
        exclusions=_exclusions(store),
        verdicts={verdict: counts.verdicts.get(verdict, 0) for verdict in VERDICTS},
        regions=counts.accepted,
        mask_checks={name: count for name, count in faults.items() if name != "not_measured"},
        masks_not_measured=faults["not_measured"],
        decided=counts.decided,
        decisions_pending=decisions_pending(store),
        proposed=counts.proposed,
        records=store.count_rows(RECORDS),
        captions=captions,
        stale={stage: parts for stage, parts in stale.items() if parts},
        dataset=dataset,
        next_step=_next_step(
            str(workspace.path),
            withdrawing=read_withdrawn(workspace.path).unfinished,
            frames=sum(counts.centers.values()),
            qc_stale=stale["qc"] > 0,
            regions=len(counts.accepted),
            proposed=sum(counts.proposed.values()),
            captions=captions,
            dataset=dataset,
        ),
    )


class _Counts(NamedTuple):
    """What the tables of frames, verdicts and masks hold; every mapping has the most frequent value first."""

    patients: int
    centers: Mapping[str, int]
    planes: Mapping[str, int]
    verdicts: Mapping[str, int]
    accepted: Mapping[str, int]
    proposed: Mapping[str, int]
    decided: Mapping[str, int]


def _count(store: TableStore) -> _Counts:
    with connect() as database:
        for table in (FRAMES, QC, REGIONS):
            view_table(database, store, table)
        ((patients, judged),) = database.sql(_TOTALS).fetchall()
        decided = _by_value(database, "status", "regions WHERE reviewer IS NOT NULL")
        return _Counts(
            patients=patients,
            centers=_by_value(database, "center", "frames"),
            planes=_by_value(database, "plane", "frames"),
            verdicts=_by_value(database, "verdict", "qc"),
            accepted=_by_value(database, "structure", f"regions WHERE {ACCEPTED}"),
            proposed=_by_value(database, "structure", "regions WHERE status = 'proposed'"),
            decided={**decided, **({"frames": judged} if judged else {})},
        )


_TOTALS = f"""
SELECT (SELECT count(DISTINCT patient_key) FROM frames), (
    SELECT count(*) FROM qc WHERE len([r FOR r IN reasons IF r = '{REVIEWER}' OR starts_with(r, '{REVIEWER}_')]) > 0
)
"""
"""Patients, and frames that a person has judged: ``journal.is_reviewers`` in SQL."""


def _by_value(database: duckdb.DuckDBPyConnection, column: str, rows: str) -> dict[str, int]:
    """How often each value of a column occurs; null counts as ``unknown``."""
    counted = f"SELECT coalesce({column}, 'unknown') AS value, count(*) AS n FROM {rows} GROUP BY value"
    return dict(database.sql(f"{counted} ORDER BY n DESC, value").fetchall())


def _next_step(
    path: str,
    *,
    withdrawing: bool,
    frames: int,
    qc_stale: bool,
    regions: int,
    proposed: int,
    captions: int,
    dataset: LatestDataset | None,
) -> str:
    if withdrawing:  # until it is finished, nothing else can be done
        return f"sono-curate withdraw {path} --patients FILE"
    if not frames:
        return f"sono-curate ingest {path} SOURCE"
    if qc_stale:
        return f"sono-curate qc {path}"
    if proposed and not regions:
        return f"sono-curate review {path}"
    if not captions:
        if not regions:
            return f"sono-curate masks import {path} DIR --structure NAME"
        return f"sono-curate caption {path} --records FILE"
    if dataset is None:
        return f"sono-curate build {path} OUT"
    if not dataset.up_to_date:
        return shlex.join(["sono-curate", "build", path, _short(dataset.path), *dataset.options])
    return f"sono-train pretrain {shlex.quote(_short(dataset.path))} RUN --recipe tiny"


def _short(path: Path) -> str:
    """The path as one would type it here."""
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def _exclusions(store: TableStore) -> dict[str, dict[str, int]]:
    by_stage: dict[str, dict[str, int]] = {}
    for count in count_exclusions(store):
        by_stage.setdefault(count.stage, {})[count.reason] = count.rows
    return by_stage

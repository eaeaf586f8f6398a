"""Where a workspace stands: what each table holds, what is stale, and what to do next."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sono.curation.dataset.latest import LatestDataset, latest_dataset
from sono.curation.masks.carry.run import stale_carried
from sono.curation.masks.checks.judged import count_faults
from sono.curation.masks.checks.parts import check_parts
from sono.curation.masks.checks.stage import MaskCheckStage
from sono.curation.qc.parts import qc_parts
from sono.curation.qc.stage import QcSection, QcStage
from sono.manifests.exclusions import count_exclusions
from sono.manifests.journal import is_reviewers
from sono.manifests.projection import decisions_pending
from sono.manifests.schemas import ACCEPTED_STATUSES, CAPTIONS, FRAMES, QC, RECORDS, REGIONS, VERDICTS
from sono.manifests.stages import stale_parts
from sono.manifests.store import TableStore
from sono.manifests.workspace import Workspace


@dataclass(frozen=True)
class Status:
    """Counts of a workspace; ``next_step`` is the command that is due, as one would type it."""

    center: str  # of files whose center is not given otherwise
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
    """Read the tables' metadata and small columns, but neither pixels nor masks."""
    store = workspace.store
    frames = store.read_all(FRAMES, ["patient_key", "center", "plane"])
    judged = store.read_all(QC, ["verdict", "reasons"])
    verdicts = Counter(judged["verdict"].to_pylist())
    masks = store.read_all(REGIONS, ["structure", "status", "reviewer"]).to_pylist()
    regions = _by_count(mask["structure"] for mask in masks if mask["status"] in ACCEPTED_STATUSES)
    faults = count_faults(store, workspace.vocabulary)
    stale = {
        "qc": stale_parts(QcStage(workspace.section("qc", QcSection)), qc_parts(store), store),
        "masks-carry": stale_carried(workspace),
        "masks-check": stale_parts(MaskCheckStage(), check_parts(store), store),
    }
    captions = store.count_rows(CAPTIONS)
    dataset = latest_dataset(workspace)
    return Status(
        center=workspace.center,
        patients=len(set(frames["patient_key"].to_pylist())),
        frames=frames.num_rows,
        frames_by_center=_by_count(frames["center"].to_pylist()),
        frames_by_plane=_by_count(frames["plane"].to_pylist()),
        exclusions=_exclusions(store),
        verdicts={verdict: verdicts[verdict] for verdict in VERDICTS},
        regions=regions,
        mask_checks={name: count for name, count in faults.items() if name != "not_measured"},
        masks_not_measured=faults["not_measured"],
        decided=_decided(masks, judged["reasons"].to_pylist()),
        decisions_pending=decisions_pending(store),
        proposed=_by_count(mask["structure"] for mask in masks if mask["status"] == "proposed"),
        records=store.count_rows(RECORDS),
        captions=captions,
        stale={stage: parts for stage, parts in stale.items() if parts},
        dataset=dataset,
        next_step=_next_step(
            str(workspace.path),
            frames=frames.num_rows,
            qc_stale=stale["qc"] > 0,
            regions=len(regions),
            proposed=sum(mask["status"] == "proposed" for mask in masks),
            captions=captions,
            dataset=dataset,
        ),
    )


def _next_step(
    path: str, *, frames: int, qc_stale: bool, regions: int, proposed: int, captions: int, dataset: LatestDataset | None
) -> str:
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


def _by_count(values: Iterable[str | None]) -> dict[str, int]:
    """How often each value occurs, the most frequent first; null counts as ``unknown``."""
    counts = Counter("unknown" if value is None else value for value in values)
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _decided(masks: Sequence[Mapping[str, str | None]], reasons: Sequence[Sequence[str]]) -> dict[str, int]:
    by_status = _by_count(mask["status"] for mask in masks if mask["reviewer"] is not None)
    frames = sum(any(map(is_reviewers, given)) for given in reasons)
    return by_status | ({"frames": frames} if frames else {})


def _exclusions(store: TableStore) -> dict[str, dict[str, int]]:
    by_stage: dict[str, dict[str, int]] = {}
    for count in count_exclusions(store):
        by_stage.setdefault(count.stage, {})[count.reason] = count.rows
    return by_stage

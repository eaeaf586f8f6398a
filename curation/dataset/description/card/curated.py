"""How a dataset was curated, counted in the workspace: what was checked, left out, drawn, accepted and audited."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sono.curation.audit.report.result import LatestAudit, latest_audit
from sono.curation.qc.stage import QcSection
from sono.curation.review.agreement.figures import AgreementFigures, agreement_figures
from sono.curation.review.agreement.pairs import read_pairs
from sono.curation.review.config import ReviewSection
from sono.manifests.errors import UserError
from sono.manifests.exclusions import ExclusionCount, count_exclusions
from sono.manifests.journal import open_journal
from sono.manifests.query import query
from sono.manifests.schemas import CAPTIONS, REGIONS
from sono.manifests.workspace import Workspace


@dataclass(frozen=True)
class MaskSource:
    """Masks of one source by what people decided on them."""

    source: str
    accepted: int
    edited: int
    rejected: int
    proposed: int


@dataclass(frozen=True)
class Template:
    """A template of captions, and how many captions of frames and regions were written with it."""

    name: str
    frames: int
    regions: int


@dataclass(frozen=True)
class Curated:
    """How the workspace came to what is in the dataset; ``agreement`` between readers is None if nobody compared it."""

    thresholds: Mapping[str, Any]
    exclusions: Sequence[ExclusionCount]
    masks: Sequence[MaskSource]
    templates: Sequence[Template]
    agreement: Sequence[AgreementFigures] | None
    audit: LatestAudit | None


def read_curated(workspace: Workspace) -> Curated:
    """Read it from the tables, the journal and the latest audit."""
    store = workspace.store
    return Curated(
        thresholds=workspace.section("qc", QcSection).model_dump(),
        exclusions=count_exclusions(store),
        masks=_masks([str(path) for path in store.paths(REGIONS)]),
        templates=_templates([str(path) for path in store.paths(CAPTIONS)]),
        agreement=_agreement(workspace),
        audit=latest_audit(workspace),
    )


def _masks(paths: list[str]) -> list[MaskSource]:
    if not paths:
        return []
    rows = query(
        "SELECT source, "
        + ", ".join(
            f"count(*) FILTER (status = '{status}') AS {status}"
            for status in ("accepted", "edited", "rejected", "proposed")
        )
        + " FROM read_parquet($paths) GROUP BY source ORDER BY source",
        {"paths": paths},
    )
    return [MaskSource(**row) for row in rows.to_pylist()]


def _templates(paths: list[str]) -> list[Template]:
    rows = query(
        "SELECT template AS name, count(*) FILTER (region_id IS NULL) AS frames, count(region_id) AS regions "
        "FROM read_parquet($paths) GROUP BY template ORDER BY frames DESC, regions DESC, name",
        {"paths": paths},
    )
    return [Template(**row) for row in rows.to_pylist()]


def _agreement(workspace: Workspace) -> list[AgreementFigures] | None:
    """Of two readers, if ``sono-curate masks agreement`` has compared them."""
    journal = open_journal(workspace.path)
    if journal is None or not (workspace.reports / "agreement.html").exists():
        return None
    alike_iou = workspace.section("review", ReviewSection).alike_iou
    left_out: Counter[str] = Counter()
    try:
        pairs = [pair for pair in read_pairs(journal, workspace.store, alike_iou, left_out) if not pair.is_repeat]
        return [each for each in agreement_figures(pairs) if each.readers is None]
    except UserError:  # the packages that compared them are missing by now
        return None

"""Captions for a workspace's frames and regions, from clinical records: what ``sono-curate caption`` runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sono.captioning.exams.database import captions_database
from sono.captioning.exams.linkage import linked_parts, records_reach_images
from sono.captioning.exams.stage import RecordsStage
from sono.captioning.readers.stage import read_statements
from sono.manifests.errors import UserError
from sono.manifests.query import query
from sono.manifests.schemas import CAPTIONS
from sono.manifests.stages import Engine, Progress, RunReport, run_stage
from sono.manifests.store import TableStore
from sono.manifests.workspace import Workspace

from .join import Matches, joined_parts
from .plan import plan_captions

if TYPE_CHECKING:
    import duckdb


@dataclass(frozen=True)
class CaptionReport:
    """What a run did in its three stages, and what the captions table holds now.

    Attributes:
        statements: what the files say, one fact per row; its exclusions are lines and values that were left out.
        records: examinations and their planes; its exclusions are contradictions and gaps.
        captions: its exclusions are frames and regions without a caption.
        context_length: tokens that the model reads, by the configuration.
    """

    statements: RunReport
    records: RunReport
    captions: RunReport
    matches: Matches
    global_captions: int
    region_captions: int
    context_length: int


def caption_workspace(
    workspace: Workspace,
    records: Sequence[Path],
    *,
    mapping: Path | None = None,
    templates: str | None = None,
    seed: int | None = None,
    engine: Engine,
    progress: Callable[[Progress], None] = lambda _: None,
) -> CaptionReport:
    """Bring the tables ``statements``, ``records`` and ``captions`` up to date with the given clinical records.

    Only the given records count: facts from a file that an earlier run read and this one does not are removed. The
    caller holds ``workspace.writing()``.

    Args:
        records: CSV, JSON lines, Parquet, FHIR JSON or NDJSON, DICOM SR, or folders of them; see docs/captions.md.
        mapping: TOML file that says which column of a table holds what.
        templates: a packaged pack's name or a folder; if omitted, the configuration's.
        seed: if omitted, the configuration's.

    Raises:
        UserError: there are no frames, or records, mapping or templates cannot be used, and nothing has been written;
            or no record is about an examination with images, and the captions of an earlier run stay.
    """
    plan = plan_captions(workspace, records, mapping=mapping, templates=templates, seed=seed)
    store = workspace.store
    statements = read_statements(
        plan.files,
        plan.reading,
        plan.mapping,
        store,
        config=plan.statement_settings,
        engine=engine,
        progress=progress,
    )
    with captions_database(store) as database:
        with linked_parts(database, store, workspace.keys) as parts:
            _keep_captions_of_last_run(workspace, database, statements)
            examinations = run_stage(RecordsStage(), parts, store, engine=engine, progress=progress)
        with joined_parts(database, store) as (parts, matches):
            captions = run_stage(plan.stage, parts, store, engine=engine, progress=progress)
    regions = _count_region_captions(store)
    return CaptionReport(
        statements, examinations, captions, matches, captions.rows - regions, regions, plan.context_length
    )


def _keep_captions_of_last_run(workspace: Workspace, database: duckdb.DuckDBPyConnection, read: RunReport) -> None:
    """Stop if the run would remove all captions.

    Raises:
        UserError: there are captions, and no record matches an examination with images.
    """
    has_captions = any(info.rows for info in workspace.store.parts(CAPTIONS).values())
    if not has_captions or records_reach_images(database):
        return
    fix = "check that records and images use the same identifiers for patients and studies"
    if read.exclusions:
        left_out = ", ".join(f"{count:,} {reason}" for reason, count in read.exclusions.items())
        fix = f"run sono-curate exclusions to see what is wrong with each of {left_out}"
    raise UserError(
        "no record matches an examination with images, so the records and captions of the last run were kept",
        where=str(workspace.path),
        fix=fix,
    )


def _count_region_captions(store: TableStore) -> int:
    paths = [str(path) for path in store.paths(CAPTIONS)]
    found = query("SELECT count(region_id) AS n FROM read_parquet($paths)", {"paths": paths})
    count: int = found["n"][0].as_py()
    return count

"""Which frames go into a dataset, and into which split."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from sono.curation.qc.current_tables import refuse_interrupted, refuse_missing, refuse_outdated_verdicts
from sono.manifests.errors import UserError
from sono.manifests.pulled import require_complete, split_of_parts
from sono.manifests.query import connect, view_table
from sono.manifests.schemas import CAPTIONS, FRAMES, QC, RECORDS, REGIONS
from sono.manifests.splits import SplitPlan, assign
from sono.manifests.store import TableStore
from sono.manifests.workspace import Workspace

if TYPE_CHECKING:
    import duckdb


def select(workspace: Workspace, *, allow_unchecked_text: bool) -> tuple[pa.Table, dict[str, int]]:
    """The frames that go into a dataset, in the order of their parts, and a count of the others by reason.

    Columns: part, frame_id, patient_key, patient_center_key, center, manufacturer, model, plane, height, width,
    ga_days, duplicate_group, burned_in_text.
    """
    with connect() as database:
        view_selection(database, workspace.store, allow_unchecked_text=allow_unchecked_text)
        left_out = database.sql(
            "SELECT reason, count(*) FROM judged WHERE reason IS NOT NULL GROUP BY ALL ORDER BY ALL"
        )
        counts = dict(left_out.fetchall())
        rows = database.sql(
            "SELECT * EXCLUDE (reason, study_key, pixel_digest, row) FROM judged "
            "WHERE reason IS NULL ORDER BY part, row"
        )
        return rows.to_arrow_table(), counts


def view_selection(database: duckdb.DuckDBPyConnection, store: TableStore, *, allow_unchecked_text: bool) -> None:
    """Make the frames readable under the name ``judged``, each with the ``reason`` why it is left out of datasets.

    Columns beside those of ``select``: study_key, pixel_digest, and the ``row`` in the part.
    """
    for table in (FRAMES, QC, CAPTIONS, RECORDS):
        view_table(database, store, table)
    database.execute(
        f"""
        CREATE VIEW judged AS
        SELECT parse_filename(f.filename, true)[6:] AS part, f.frame_id, f.patient_key,
               f.patient_center_key, f.center, f.manufacturer, f.model, f.plane, f.height, f.width,
               r.ga_days, q.duplicate_group, f.burned_in_text, f.study_key, f.pixel_digest, f.file_row_number AS row,
               CASE WHEN q.frame_id IS NULL THEN 'not_checked'
                    WHEN q.verdict <> 'accept' THEN 'qc_' || q.verdict
                    WHEN c.frame_id IS NULL THEN 'no_caption'
                    WHEN c.plane <> f.plane OR c.ga_days IS DISTINCT FROM r.ga_days
                    THEN 'caption_outdated'
                    WHEN f.burned_in_text = 'unchecked' AND NOT {allow_unchecked_text} THEN 'text_unchecked'
               END AS reason
        FROM frames f
        LEFT JOIN qc q ON q.frame_id = f.frame_id AND parse_filename(q.filename) = parse_filename(f.filename)
        LEFT JOIN (
            SELECT frame_id, facts ->> '$.plane.value' AS plane,
                   CAST(facts ->> '$.ga_days.value' AS INTEGER) AS ga_days
            FROM captions WHERE region_id IS NULL
        ) c ON c.frame_id = f.frame_id
        LEFT JOIN records r ON r.study_key = f.study_key AND r.plane IS NULL
        """
    )


def check_tables(workspace: Workspace) -> None:
    """Check that the tables are there, complete, and judged by today's quality control.

    Raises:
        UserError: they are not; the text names the command to run.
    """
    pulled = require_complete(workspace.path, workspace.store)
    frames, masks, captions = ("pull",) * 3 if pulled else ("ingest", "masks import", "caption")
    refuse_missing(workspace, ((FRAMES, frames), (QC, "qc"), (CAPTIONS, captions)))
    refuse_interrupted(workspace, ((FRAMES, frames), (REGIONS, masks), (CAPTIONS, captions)))
    refuse_outdated_verdicts(workspace)


def assign_splits(selection: pa.Table, plan: SplitPlan) -> dict[str, str]:
    """The split of every patient in the selection.

    Patients of one number in one center stay together: where only some of the files say who issued the number, a
    patient has two keys.

    Raises:
        UserError: the held-out center is unknown.
    """
    pairs = selection.group_by(["patient_key", "center"]).aggregate([])
    joined: set[tuple[str, str]] = set()
    for group in ("duplicate_group", "patient_center_key"):
        rows = selection.filter(pc.is_valid(selection[group]))
        joined.update(zip(rows[group].to_pylist(), rows["patient_key"].to_pylist(), strict=True))
    return assign(
        zip(pairs["patient_key"].to_pylist(), pairs["center"].to_pylist(), strict=True),
        sorted(joined),
        plan,
    )


def pulled_splits(workspace: Workspace, selection: pa.Table, plan: SplitPlan) -> dict[str, str]:
    """The split of every patient in a selection of pulled frames: the one that the dataset had them in.

    Raises:
        UserError: another plan was asked for, or a patient is in two splits.
    """
    if plan != SplitPlan():
        raise UserError(
            "the patients of a pulled dataset stay in its splits: who was trained on must not be tested on",
            fix="leave out --validation, --test, --seed and --holdout-center",
        )
    by_part = split_of_parts(workspace.store)
    splits: dict[str, str] = {}
    rows = selection.group_by(["patient_key", "part"]).aggregate([])
    for patient, part in zip(rows["patient_key"].to_pylist(), rows["part"].to_pylist(), strict=True):
        if splits.setdefault(patient, by_part[part]) != by_part[part]:
            raise UserError(
                "a patient is in two splits of the dataset that was pulled",
                where=str(workspace.path),
                fix="ask whoever published it to build it again",
            )
    return splits

"""Builds the queue: every mask that waits for a decision, on frames in the order in which people should see them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from sono.manifests.journal import Journal, open_journal
from sono.manifests.projection import applied_until
from sono.manifests.query import connect, insert_rows, view_table
from sono.manifests.schemas import FRAMES, MASK_CHECKS, QC, REGIONS
from sono.manifests.store import TableStore
from sono.manifests.workspace import Workspace

from .features import Signs, prepare, signs_of
from .order import Order, fit_order
from .queue_file import write_queue
from .queue_rows import queue_rows
from .reviewed import decided_masks, reviewed_signs

if TYPE_CHECKING:
    import duckdb


@dataclass(frozen=True)
class QueueReport:
    """What was built.

    Attributes:
        regions: masks in the queue, on frames of it; ``frames`` counts those to be judged themselves, too.
        other_pixels: proposed masks that are not in it: they were drawn on other pixels than their frame has now.
        rejected_frames: proposed masks that are not in it, because their frame is rejected.
        reviewed: decisions that the order was calibrated on; 0 where it is the stated one.
        auroc_stated, auroc_calibrated: see ``Order``.
    """

    build_id: str
    frames: int
    regions: int
    other_pixels: int
    rejected_frames: int
    reviewed: int
    auroc_stated: float | None
    auroc_calibrated: float | None
    seconds: float


def queue_path(workspace: Workspace) -> Path:
    """Where a workspace keeps its queue; it may be deleted at any time."""
    return workspace.path / "cache" / "review" / "queue.arrow"


def build_queue(workspace: Workspace, out: Path | None = None) -> QueueReport:
    """Write the queue of a workspace, in the place of an earlier one.

    It reads tables and journal, and needs no lock: run it in another process while people review. What has been decided
    is not in it.

    Args:
        out: the file; ``queue_path`` if omitted.
    """
    started = time.monotonic()
    journal = open_journal(workspace.path)
    with _tables(workspace) as database:
        order = _order(database, journal, queue_path(workspace).with_name("reviewed.arrow"))
        _make_waiting(database, workspace.store, journal)
        signs = signs_of(database, "waiting", ["part", "tie"])
        rows = queue_rows(_frames(database), signs, order.p_bad(signs))
        (left_out,) = database.execute(_LEFT_OUT).fetchall()
    facts = {
        "frames": rows.num_rows,
        "regions": len(signs),
        "other_pixels": left_out[0],
        "rejected_frames": left_out[1],
        "reviewed": order.reviewed,
        "auroc_stated": order.auroc_stated,
        "auroc_calibrated": order.auroc_calibrated,
    }
    build_id = write_queue(out or queue_path(workspace), rows, facts)
    return QueueReport(build_id, **facts, seconds=round(time.monotonic() - started, 3))


def waiting_signs(workspace: Workspace) -> Signs:
    """The signs of all masks that wait for a decision, in no order; their keys also have ``patient_key``."""
    with _tables(workspace) as database:
        _make_waiting(database, workspace.store, open_journal(workspace.path))
        return signs_of(database, "waiting", ["patient_key"])


def _order(database: duckdb.DuckDBPyConnection, journal: Journal | None, cache: Path) -> Order:
    decided = decided_masks(journal) if journal else []
    return fit_order(reviewed_signs(database, decided, cache)) if decided else Order(0, None, None)


def _make_waiting(database: duckdb.DuckDBPyConnection, store: TableStore, journal: Journal | None) -> None:
    """The tables ``proposed`` and ``waiting``: what ``signs_of`` needs, and ``part``."""
    _judge(database, store, journal)
    database.execute(_PROPOSED, {"decided": _decided_since(database, store, journal)})
    database.execute(_WAITING)


def _decided_since(database: duckdb.DuckDBPyConnection, store: TableStore, journal: Journal | None) -> list[str]:
    """Masks that the tables still show as proposed although a decision on them stands."""
    if journal is None:
        return []
    changed = [region_id for region_id, *_ in journal.changed("region", after=applied_until(store))]
    sql = "SELECT region_id FROM known WHERE waits AND region_id IN (SELECT unnest($ids))"
    shown = [row[0] for row in database.execute(sql, {"ids": changed}).fetchall()]
    return [region_id for region_id, event in journal.latest(shown).items() if event.decided]


def _judge(database: duckdb.DuckDBPyConnection, store: TableStore, journal: Journal | None) -> None:
    """Put the verdicts that people have given, and that the tables do not have yet, into ``frame_fields``."""
    if journal is None:
        return
    changed = [frame_id for frame_id, *_ in journal.changed("frame", after=applied_until(store))]
    verdicts = [
        (frame_id, ((stands or latest).after or {}).get("verdict"))
        for frame_id, (latest, stands) in journal.standing(changed).items()
    ]
    database.execute("CREATE TEMP TABLE judged (frame_id VARCHAR, verdict VARCHAR)")
    insert_rows(database, "judged", verdicts)
    database.execute(_JUDGED)


@contextmanager
def _tables(workspace: Workspace) -> Iterator[duckdb.DuckDBPyConnection]:
    with connect() as database:
        for table in (FRAMES, QC, REGIONS, MASK_CHECKS):
            view_table(database, workspace.store, table)
        prepare(database, workspace.vocabulary)
        yield database


_JUDGED = """
UPDATE frame_fields SET verdict = judged.verdict FROM judged WHERE judged.frame_id = frame_fields.frame_id
"""

_PROPOSED = """
CREATE TEMP TABLE proposed AS
SELECT k.*, coalesce(f.verdict = 'reject', false) AS frame_rejected FROM known k JOIN frame_fields f USING (frame)
WHERE k.waits AND k.region_id NOT IN (SELECT unnest($decided::VARCHAR[]))
"""

_WAITING = """
CREATE TEMP TABLE checks AS
SELECT region_id, specks, holes, outside_px, coalesce(list_max([o.share FOR o IN m.overlaps]), 0) AS overlap, agreement
FROM mask_checks m;
CREATE TEMP TABLE agreeing AS
WITH pairs AS (SELECT region_id, unnest(agreement) AS other FROM checks WHERE len(agreement) > 0)
SELECT region_id, avg(iou) AS others FROM (
    SELECT region_id, other.iou AS iou FROM pairs UNION ALL SELECT other.region_id, other.iou FROM pairs
) GROUP BY region_id;
CREATE TEMP TABLE waiting AS
SELECT p.* EXCLUDE (plane), hash(p.region_id) AS tie, m.* EXCLUDE (region_id, agreement), a.others
FROM proposed p LEFT JOIN checks m USING (region_id) LEFT JOIN agreeing a USING (region_id)
WHERE p.same_pixels AND NOT p.frame_rejected
"""

_LEFT_OUT = """
SELECT count(*) FILTER (NOT same_pixels AND NOT frame_rejected), count(*) FILTER (frame_rejected) FROM proposed
"""


def _frames(database: duckdb.DuckDBPyConnection) -> pa.Table:
    """All frames of the workspace in the order of their numbers."""
    sql = "SELECT frame_id, part, plane, center, verdict FROM frame_fields ORDER BY frame"
    return database.sql(sql).to_arrow_table()

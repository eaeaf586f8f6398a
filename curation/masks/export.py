"""Exports masks in any format of the registry, for other tools; names are pseudonyms."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sono.curation.images.pixels import ExcludedError
from sono.curation.qc.current_tables import refuse_interrupted, refuse_outdated_verdicts
from sono.manifests import masks
from sono.manifests.errors import UserError
from sono.manifests.query import connect, view_table
from sono.manifests.schemas import ACCEPTED_STATUSES, CAPTIONS, FRAMES, PREDICTED_SOURCES, QC, REGIONS
from sono.manifests.stages import Progress
from sono.manifests.store import TableStore
from sono.manifests.workspace import Workspace

from .exported_folder import new_folder
from .formats.protocol import ExportedFrame, ExportedRegion, Writer
from .formats.registry import mask_format as format_named

if TYPE_CHECKING:
    import duckdb


@dataclass
class ExportReport:
    """What was exported, what was left out by reason, and what the format could not hold.

    Attributes:
        changed: masks that readers of the export see otherwise than the workspace has them.
        changed_pixels: in which these differ, of all of them together.
        dice_mean: of the changed masks with themselves in the workspace; None if there is none.
        dice_least: of the mask that changed most.
    """

    frames: int = 0
    masks: int = 0
    left_out: dict[str, int] = field(default_factory=dict)
    changed: int = 0
    changed_pixels: int = 0
    dice_mean: float | None = None
    dice_least: float | None = None


def export_masks(
    workspace: Workspace,
    out: Path,
    *,
    mask_format: str,
    structures: Sequence[str] = (),
    statuses: Sequence[str] = ACCEPTED_STATUSES,
    progress: Callable[[Progress], None] = lambda _: None,
) -> ExportReport:
    """Write masks into the new folder ``out``, named after their frames' ids.

    Of several masks of a structure in a frame, one is written: a person's before a program's. Masks drawn on pixels
    that have changed since are left out. Formats with images hold frames that passed quality control and have captions.

    Args:
        structures: which to write; all, if empty.
        statuses: of the regions to write.

    Raises:
        UserError: ``out`` holds something else, a structure is unknown, there is nothing to export, the format cannot
            hold the masks, or a command was interrupted that has to finish first.
    """
    formatted, vocabulary = format_named(mask_format), workspace.vocabulary
    wanted = [vocabulary.require_structure(structure) for structure in structures]
    _check_tables(workspace, with_images=formatted.with_images)
    report, differences = ExportReport(), _Differences()
    with new_folder(out, workspace.path) as folder, connect() as database:
        _select(database, workspace.store, wanted, statuses, with_images=formatted.with_images)
        report.left_out = _counts(database)
        present = {name for (name,) in database.execute("SELECT DISTINCT structure FROM chosen").fetchall()}
        if not present:
            raise _nothing(workspace, report.left_out)
        writer = formatted.writer(folder, vocabulary, [name for name in vocabulary.structures if name in present])
        for frame in _frames(database, workspace.store, formatted.with_images, report, progress):
            _add(writer, frame, report, differences)
        if report.masks == 0:
            raise _nothing(workspace, report.left_out)
        writer.close()
    differences.into(report)
    return report


def _check_tables(workspace: Workspace, *, with_images: bool) -> None:
    refuse_interrupted(workspace, ((FRAMES, "ingest"), (REGIONS, "masks import")))
    if with_images:
        refuse_interrupted(workspace, ((CAPTIONS, "caption"),))
        refuse_outdated_verdicts(workspace)


_RANKED = """
CREATE TABLE chosen AS
WITH ranked AS (
    SELECT r.region_id, r.structure, r.source, r.area_px, r.filename AS region_file, f.filename AS frame_file,
        f.frame_id, f.height, f.width, f.study_key, f.plane, f.pixel_mm_x, f.pixel_mm_y, f.burned_in_text, q.verdict,
        r.pixel_digest IS DISTINCT FROM f.pixel_digest AS outdated,
        row_number() OVER (
            PARTITION BY r.frame_id, r.structure, r.area_px = 0, r.pixel_digest IS DISTINCT FROM f.pixel_digest
            ORDER BY CASE WHEN r.source = 'manual' OR r.status = 'edited' THEN 0 WHEN r.source = 'import' THEN 1
                ELSE 2 END, r.updated_at DESC NULLS LAST, r.region_id
        ) AS place
    FROM regions r
    LEFT JOIN frames f ON f.frame_id = r.frame_id
    LEFT JOIN qc q ON q.frame_id = f.frame_id AND parse_filename(q.filename) = parse_filename(f.filename)
    WHERE list_contains($statuses, r.status)
        AND (len($structures) = 0 OR list_contains($structures, r.structure))
)
SELECT *, CASE
        WHEN frame_id IS NULL THEN 'no_frame'
        WHEN outdated THEN 'pixels_changed'
        WHEN area_px = 0 THEN 'empty_mask'
        WHEN place > 1 THEN 'second_mask'
        WHEN NOT $images THEN NULL
        WHEN verdict IS DISTINCT FROM 'accept' THEN coalesce('qc_' || verdict, 'not_checked')
        WHEN burned_in_text = 'unchecked' THEN 'text_unchecked'
    END AS reason
FROM ranked
"""


def _select(
    database: duckdb.DuckDBPyConnection,
    store: TableStore,
    structures: Sequence[str],
    statuses: Sequence[str],
    *,
    with_images: bool,
) -> None:
    """The table ``chosen``: the regions to write, without their masks."""
    for table in (FRAMES, REGIONS, QC, CAPTIONS):
        view_table(database, store, table)
    parameters = {"statuses": list(statuses), "structures": list(structures), "images": with_images}
    database.execute(_RANKED, parameters)


def _counts(database: duckdb.DuckDBPyConnection) -> dict[str, int]:
    """Regions that are left out, by reason; they are removed from ``chosen``."""
    counts = database.execute(
        "SELECT reason, count(*) FROM chosen WHERE reason IS NOT NULL GROUP BY reason ORDER BY reason"
    ).fetchall()
    database.execute("DELETE FROM chosen WHERE reason IS NOT NULL")
    return dict(counts)


def _nothing(workspace: Workspace, left_out: Mapping[str, int]) -> UserError:
    reasons = ", ".join(f"{count} {reason}" for reason, count in left_out.items()) or "no such masks"
    return UserError(f"there is nothing to export: {reasons}", where=str(workspace.path), fix="see sono-curate status")


_WITH_MASKS = """
SELECT c.*, r.mask, r.status, a.text AS caption, g.text AS frame_caption
FROM chosen c
JOIN read_parquet($regions) r ON r.region_id = c.region_id AND r.frame_id = c.frame_id
LEFT JOIN captions a ON $images AND a.frame_id = c.frame_id AND a.region_id = c.region_id
LEFT JOIN captions g ON $images AND g.frame_id = c.frame_id AND g.region_id IS NULL
WHERE c.frame_file = $part
ORDER BY c.frame_id, c.structure
"""


def _frames(
    database: duckdb.DuckDBPyConnection,
    store: TableStore,
    with_images: bool,
    report: ExportReport,
    progress: Callable[[Progress], None],
) -> Iterator[ExportedFrame]:
    """The frames to write, part by part; no more than a part's masks are in memory."""
    parts = database.execute(
        "SELECT frame_file, list(DISTINCT region_file) FROM chosen GROUP BY frame_file ORDER BY frame_file"
    ).fetchall()
    for done, (part, region_files) in enumerate(parts):
        progress(Progress("export", len(parts), done, report.masks, sum(report.left_out.values())))
        parameters = {"part": part, "regions": region_files, "images": with_images}
        rows = database.sql(_WITH_MASKS, params=parameters).to_arrow_table().to_pylist()
        by_frame = {frame_id: list(group) for frame_id, group in itertools.groupby(rows, lambda row: row["frame_id"])}
        if not with_images:
            yield from (_frame(group) for group in by_frame.values())
            continue
        for image in store.find_rows(Path(part), FRAMES, by_frame.keys(), ["image"]):
            yield _frame(by_frame[image["frame_id"]], image["image"]["bytes"])
    progress(Progress("export", len(parts), len(parts), report.masks, sum(report.left_out.values())))


def _frame(rows: Sequence[Mapping[str, Any]], png: bytes = b"") -> ExportedFrame:
    first = rows[0]
    size = first["height"], first["width"]
    return ExportedFrame(
        frame_id=first["frame_id"],
        height=first["height"],
        width=first["width"],
        study_key=first["study_key"],
        plane=first["plane"],
        pixel_mm=(first["pixel_mm_x"], first["pixel_mm_y"]) if first["pixel_mm_x"] and first["pixel_mm_y"] else None,
        regions=[
            ExportedRegion(
                row["structure"],
                masks.decode(row["mask"], size),
                row["caption"],
                row["source"] in PREDICTED_SOURCES and row["status"] != "edited",
            )
            for row in rows
        ],
        png=png,
        caption=first["frame_caption"],
    )


def _add(writer: Writer, frame: ExportedFrame, report: ExportReport, differences: _Differences) -> None:
    try:
        seen = writer.add(frame)
    except ExcludedError as error:
        report.left_out[error.reason] = report.left_out.get(error.reason, 0) + len(frame.regions)
        return
    report.frames += 1
    report.masks += len(seen)
    for region, mask in zip(frame.regions, seen, strict=True):
        differences.add(region.mask, mask)


class _Differences:
    """How masks come out of an export, compared with how they went in."""

    def __init__(self) -> None:
        self._dice: list[float] = []
        self._pixels = 0

    def add(self, mask: masks.Mask, seen: masks.Mask) -> None:
        if seen is mask:
            return
        pixels = int(np.count_nonzero(mask != seen))
        if pixels:
            self._pixels += pixels
            self._dice.append(2 * masks.area_px(mask & seen) / (masks.area_px(mask) + masks.area_px(seen)))

    def into(self, report: ExportReport) -> None:
        report.changed, report.changed_pixels = len(self._dice), self._pixels
        if self._dice:
            report.dice_mean, report.dice_least = float(np.mean(self._dice)), min(self._dice)

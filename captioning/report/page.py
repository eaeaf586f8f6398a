"""The page that shows what the captions are like: coverage, lengths, repetition, sources of facts, and examples."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from sono.manifests import pages
from sono.manifests.errors import UserError
from sono.manifests.store import write_atomically
from sono.manifests.thumbnails import THUMBNAIL_PX
from sono.manifests.workspace import Workspace

from . import figures
from .examples import illustrated_frames
from .repetition import repeated_share
from .tables import report_tables

if TYPE_CHECKING:
    import duckdb

BATCH_SIZES = tuple(2**power for power in range(5, 16))


def write_caption_report(workspace: Workspace, *, context_length: int | None = None) -> Path:
    """Write ``reports/captions.html`` from the tables as they are, and return its path.

    Args:
        context_length: tokens that the model to be trained can read; shown beside the captions' lengths.

    Raises:
        UserError: there are no captions.
    """
    with report_tables(workspace.store) as database:
        totals = figures.totals(database)
        if not totals["captions"]:
            raise UserError(
                "there are no captions to report on", where=str(workspace.path), fix="run sono-curate caption first"
            )
        page = _page(database, workspace, totals, context_length)
    path = workspace.reports / "captions.html"
    write_atomically(path, lambda file: file.write(page.encode()))
    return path


def _page(
    database: duckdb.DuckDBPyConnection, workspace: Workspace, totals: Mapping[str, int], context_length: int | None
) -> str:
    vocabulary = workspace.vocabulary
    figures.group_facts(database)
    planes = figures.planes(database, vocabulary)
    names = {name for name, _, _ in planes}
    groups = figures.equal_captions(database)
    return pages.render(
        __package__,
        "page.html",
        center=workspace.center,
        percent=pages.percent,
        totals=totals,
        context_length=context_length,
        frames=sum(frames for _, frames, _ in planes),
        captioned=sum(captioned for _, _, captioned in planes),
        distinct={region: sum(sizes.values()) for region, sizes in groups.items()},
        planes=planes,
        planes_absent=[plane.name for plane in vocabulary.planes.values() if plane.name not in names],
        structures=figures.structures(database, vocabulary),
        dropped=figures.dropped_structures(database, vocabulary, totals["shortened"]),
        lengths=figures.lengths(database, context_length),
        batches=BATCH_SIZES,
        repeated={region: [repeated_share(sizes, batch) for batch in BATCH_SIZES] for region, sizes in groups.items()},
        weeks=figures.weeks(database),
        sources=figures.sources(database),
        ages=figures.ages(database),
        read=figures.ranks(database),
        conflicts=figures.conflicts(database),
        gaps=figures.gaps(database),
        templates=figures.templates(database),
        examples=list(illustrated_frames(database, vocabulary)),
        thumbnail_px=THUMBNAIL_PX,
    )

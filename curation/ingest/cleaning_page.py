"""The page that shows how frames were cleaned, for whoever signs that they show ultrasound only and identify nobody."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from sono.curation.cleaning.config import CleaningSection
from sono.manifests import pages
from sono.manifests.exclusions import count_exclusions
from sono.manifests.fingerprints import tables_fingerprint
from sono.manifests.schemas import FRAMES
from sono.manifests.store import write_atomically
from sono.manifests.thumbnails import THUMBNAIL_PX
from sono.manifests.workspace import Workspace

from . import cleaning_figures as figures
from . import cleaning_pictures as pictures
from .stage import made_with

SCANNERS, LAYOUTS, CENTERS = 30, 48, 30
"""As many of each are shown, the largest first; the others are counted."""

RECORDS = 12
"""Of what frames were cleaned with: so many are shown."""

_EXAMPLES = 12  # per reason, and of what was painted over


def write_cleaning_report(workspace: Workspace) -> Path:
    """Write ``reports/cleaning.html`` from the tables as they are; a page that is about just these frames stays.

    Neither the memory that it takes nor the page's size grows with the number of frames.

    Returns:
        The page's path.
    """
    path = workspace.reports / "cleaning.html"
    fingerprint = tables_fingerprint(workspace.store, [FRAMES])
    if not _is_about(path, fingerprint):
        page = _page(workspace, fingerprint)
        write_atomically(path, lambda file: file.write(page.encode()))
    return path


def _is_about(path: Path, fingerprint: str) -> bool:
    return path.exists() and f'content="{fingerprint}"' in path.read_text(encoding="utf-8")[:2000]


def _page(workspace: Workspace, fingerprint: str) -> str:
    store = workspace.store
    parts = list(store.parts(FRAMES).values())
    left_out, left_out_before = figures.left_out(count_exclusions(store))
    with figures.judged_frames(store) as database:
        totals = figures.totals(database)
        reasons = figures.review_reasons(database)
        layouts = figures.by_layout(database, totals, LAYOUTS)
        of_layouts = [pictures.Example(row["frame_id"], row["filename"]) for row in layouts.rows]
        of_reasons = pictures.reason_examples(database, _EXAMPLES)
        painted = pictures.painted_examples(database, _EXAMPLES)
        groups = [of_layouts, *of_reasons.values(), *painted.values()]
        return pages.render(
            __package__,
            "cleaning_page.html",
            center=workspace.center,
            fingerprint=fingerprint,
            written=datetime.now(UTC),
            percent=pages.percent,
            totals=totals,
            readers=figures.by_readers(database),
            centers=figures.by_center(database, totals, CENTERS),
            reasons=reasons,
            left_out=left_out,
            left_out_before=left_out_before,
            edited=figures.edited_fractions(database),
            edited_limits=figures.EDITED,
            scanners=figures.by_scanner(database, totals, SCANNERS),
            layouts=layouts,
            pictures=pictures.draw(store, [example for group in groups for example in group]),
            of_reasons=of_reasons,
            painted=painted,
            most_examples=_EXAMPLES,
            made_with=figures.made_with(
                parts, made_with(workspace.section("cleaning", CleaningSection), cropped=False)
            ),
            most_records=RECORDS,
            thumbnail_px=THUMBNAIL_PX,
        )

"""What the page of masks counts and shows: the worst first, agreement, pace, and what is missing."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from sono.curation.masks import page_figures as figures
from sono.curation.masks.checks.judged import judged_masks
from sono.curation.masks.checks.run import check_masks
from sono.curation.masks.page import write_masks_report
from sono.manifests.stages import in_process
from sono.manifests.workspace import Workspace

from .tables import Tables, disc

DAY, NEXT = datetime(2026, 3, 1, 23, tzinfo=UTC), datetime(2026, 3, 2, 1, tzinfo=UTC)


def fill(workspace: Workspace) -> None:
    tables = Tables()
    for number in range(4):
        tables.frame(f"frame{number}")
    tables.frame("other", plane=None)
    pierced = disc(50, 40, 20)
    pierced[40, 50] = False
    tables.region("frame0", "head", disc(50, 40, 20), updated_at=DAY)
    tables.region("frame1", "head", pierced, status="edited", updated_at=NEXT)
    tables.region("frame0", "head", disc(50, 40, 18), source="flow", status="proposed", scores='{"confidence": 0.9}')
    tables.region("frame2", "head", disc(50, 40, 20), source="sam", status="proposed", scores='{"score": 0.4}')
    tables.region("frame3", "head", disc(50, 40, 20), source="sam", status="rejected", updated_at=NEXT)
    tables.region("other", "head", disc(50, 40, 20))
    tables.write(workspace)
    check_masks(workspace, engine=in_process)


def test_figures_are_those_of_the_tables(workspace: Workspace) -> None:
    fill(workspace)
    with judged_masks(workspace.store, workspace.vocabulary) as database:
        totals = figures.totals(database)
        (plane,) = figures.missing(database, workspace.vocabulary)
        (pair,) = figures.agreement(database, 10)
        pace = figures.pace(database, 10)
    assert totals == {"masks": 5, "accepted": 3, "proposed": 2, "faulty": 1, "not_measured": 0}
    assert (plane.plane, plane.frames) == ("transthalamic", 4)
    assert dict(plane.structures)["head"] == 2
    assert dict(plane.structures)["thalami"] == 0
    assert (pair["one"], pair["other"], pair["pairs"]) == ("flow", "import", 1)
    assert 0.75 < pair["iou"] < 0.9
    assert [(row["day"], row["accepted"], row["edited"], row["rejected"]) for row in pace] == [
        ("2026-03-02", 0, 1, 1),
        ("2026-03-01", 1, 0, 0),
    ]


def test_faults_come_before_low_scores_and_these_before_the_rest(workspace: Workspace) -> None:
    fill(workspace)
    page = write_masks_report(workspace).read_text(encoding="utf-8")
    gallery = page.partition('<h2 id="head">')[2]
    shown = re.findall(r"</code> (\w+), (\w+)</div>", gallery)
    assert shown == [
        ("import", "edited"), ("sam", "proposed"), ("flow", "proposed"), ("import", "accepted"), ("import", "accepted"),
    ]  # fmt: skip
    assert gallery.count("faults") == 1


def test_a_mask_that_cannot_be_read_or_has_no_frame_does_not_stop_the_page(workspace: Workspace) -> None:
    tables = Tables()
    broken = {"mask": {"size": [80, 100], "counts": "0"}}
    tables.region(tables.frame("broken"), "head", disc(50, 40, 20), **broken)
    tables.region("gone", "falx", disc(50, 40, 20))
    tables.write(workspace)
    check_masks(workspace, engine=in_process)
    page = write_masks_report(workspace).read_text(encoding="utf-8")
    assert "Their frames are no longer in the workspace, or cannot be decoded." in page
    assert "undecodable</div>" in page

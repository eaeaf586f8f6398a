"""Agreement of readers, from a real journal over real tables to text, JSON and page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from sono.curation.cli import app
from sono.curation.review.agreement.figures import AgreementFigures
from sono.curation.review.agreement.run import report_agreement
from sono.manifests.errors import UserError
from sono.manifests.journal import Journal
from sono.manifests.journal_file import journal_path
from sono.manifests.masks import Mask
from sono.manifests.workspace import Workspace, create
from tests.curation.masks.checks.tables import SIZE, Tables, disc
from tests.curation.review.decisions import Decisions, region_row

HEAD, SMALLER = disc(50, 40, 20), disc(50, 40, 17)
NOTHING = np.zeros(SIZE, np.bool_)


class World:
    """A workspace with frames of a patient each, and a journal to decide in."""

    def __init__(self, path: Path) -> None:
        self.workspace = create(path, "Hospital A")
        self.tables = Tables()
        self.decisions = Decisions(Journal(journal_path(path)))
        self.count = 0

    def read(
        self, *readings: tuple[Any, ...], structure: str = "head", patient: str | None = None, **frame: Any
    ) -> str:
        """A proposed head on a frame of its own, and what is decided: (reviewer, action, mask, reading)."""
        self.count += 1
        named = {"patient_key": patient} if patient else {}
        name = self.tables.frame(f"frame{self.count}", **named, **frame)
        region = self.decisions.propose(region_row(f"region{self.count}", name, structure, HEAD))
        for reviewer, action, mask, reading in readings:
            self.decisions.decide(region, reviewer, action, mask, reading=reading)
        return region

    def twice(self, one: tuple[str, Mask | None], other: tuple[str, Mask | None], **others: Any) -> str:
        return self.read(("ada", *one, "first"), ("bea", *other, "second"), **others)

    def written(self) -> Workspace:
        self.tables.regions = []
        self.tables.write(self.workspace)
        return self.workspace


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "workspace")


KEPT: tuple[str, Mask | None] = ("accept", None)
REJECTED: tuple[str, Mask | None] = ("reject", None)


def row(figures: Any, structure: str | None = None) -> AgreementFigures:
    (found,) = (each for each in figures if each.structure == structure and each.readers)
    return found


def test_answers_and_masks_are_compared(world: World) -> None:
    for _ in range(3):
        world.twice(KEPT, KEPT)
    world.twice(KEPT, ("edit", SMALLER))
    world.twice(REJECTED, REJECTED)
    world.twice(KEPT, REJECTED)
    world.twice(REJECTED, ("edit", SMALLER))
    found = row(report_agreement(world.written()).between)
    assert found.readers == ("ada", "bea")
    assert (found.masks, found.patients) == (7, 7)
    assert (found.both_kept, found.both_rejected, found.only_one, found.only_other) == (4, 1, 1, 1)
    assert found.kappa.value == pytest.approx((5 / 7 - 29 / 49) / (1 - 29 / 49))
    iou = SMALLER.sum() / HEAD.sum()
    assert found.iou.value == pytest.approx((3 + iou) / 4)
    assert found.dice.value == pytest.approx((3 + 2 * iou / (1 + iou)) / 4)
    assert found.hausdorff_mm.value == pytest.approx(1.5 / 4, abs=0.1)  # 3 px of 0.5 mm, once in four
    assert (found.masks_mm, found.masks_px, found.hausdorff_px.value) == (4, 0, None)
    assert (found.unchanged, found.empty) == (3, 0)
    assert (found.disagreements, found.adjudicated) == (3, 0)


def test_what_was_adjudicated_is_counted(world: World) -> None:
    region = world.twice(KEPT, REJECTED)
    world.twice(KEPT, REJECTED)
    world.decisions.decide(region, "eve", "accept", reading="adjudication")
    found = row(report_agreement(world.written()).between)
    assert (found.disagreements, found.adjudicated) == (2, 1)


def test_distances_are_in_px_where_the_scale_is_not_known(world: World) -> None:
    world.twice(KEPT, ("edit", SMALLER))
    world.twice(KEPT, ("edit", SMALLER), pixel_mm_x=None)
    found = row(report_agreement(world.written()).between)
    assert (found.masks_mm, found.masks_px) == (1, 1)
    assert found.hausdorff_px.value is not None
    assert found.hausdorff_mm.value == pytest.approx(found.hausdorff_px.value / 2)


def test_emptied_masks_are_counted_and_have_no_distance(world: World) -> None:
    world.twice(KEPT, ("edit", NOTHING))
    world.twice(("edit", NOTHING), ("edit", NOTHING))
    found = row(report_agreement(world.written()).between)
    assert (found.both_kept, found.empty, found.masks_mm) == (2, 2, 0)
    assert (found.dice.value, found.hausdorff_mm.value) == (0.5, None)


def test_one_sided_rejections_alone_are_told(world: World) -> None:
    world.twice(KEPT, REJECTED)
    found = row(report_agreement(world.written()).between)
    assert (found.masks, found.only_one, found.dice.value, found.kappa.value, found.alike.value) == (1, 1, None, 0, 0)


def test_who_names_another_structure_does_not_keep_the_mask_as_this_one(world: World) -> None:
    region = world.read(("ada", *KEPT, "first"))
    world.decisions.decide(region, "bea", "edit", structure="thalami", reading="second")
    found = row(report_agreement(world.written()).between, "head")
    assert (found.only_one, found.renamed, found.dice.value, found.disagreements) == (1, 1, None, 1)


def test_a_single_patient_has_figures_without_intervals(world: World) -> None:
    for mask in (SMALLER, HEAD, disc(50, 40, 18)):
        world.twice(KEPT, ("edit", mask), patient="the only one")
    found = row(report_agreement(world.written()).between)
    assert (found.masks, found.patients, found.dice.low, found.dice.high) == (3, 1, None, None)
    assert found.dice.value is not None


def test_repeats_of_one_reader_stand_apart(world: World) -> None:
    world.read(("ada", *KEPT, "first"), ("ada", "edit", SMALLER, "repeat"), ("bea", *REJECTED, "second"))
    report = report_agreement(world.written())
    assert row(report.between).readers == ("ada", "bea")
    within = row(report.within)
    assert (within.readers, within.both_kept, within.only_one) == (("ada", "ada"), 1, 0)
    assert within.iou.value == pytest.approx(SMALLER.sum() / HEAD.sum())


def test_every_pair_of_readers_and_structure_has_figures_and_all_of_them_together(world: World) -> None:
    world.twice(KEPT, KEPT)
    world.twice(KEPT, REJECTED, structure="thalami")
    world.read(("eve", *REJECTED, "first"), ("ada", *KEPT, "second"))
    found = {(each.readers, each.structure): each for each in report_agreement(world.written()).between}
    assert list(found) == [
        (None, None), (None, "head"), (None, "thalami"),
        (("ada", "bea"), None), (("ada", "bea"), "head"), (("ada", "bea"), "thalami"),
        (("ada", "eve"), None), (("ada", "eve"), "head"),
    ]  # fmt: skip
    of_both = found[("ada", "eve"), "head"]
    assert (of_both.only_one, of_both.only_other) == (1, 0)  # in the order of the names, whoever read first
    assert (found[None, None].masks, found[None, None].only_one) == (3, 2)


def test_what_cannot_be_compared_is_counted_by_reason(world: World) -> None:
    world.twice(KEPT, KEPT)
    world.twice(KEPT, KEPT)
    world.tables.frames.pop()
    undone = world.twice(KEPT, KEPT)
    world.decisions.journal.undo("ada", "undone")
    assert world.decisions.journal.history(undone)[-1].stands is None
    report = report_agreement(world.written())
    assert report.left_out == {"frame_missing": 1, "no_first_reading": 1}
    assert row(report.between).masks == 1


def test_text_json_and_page_say_the_same_and_name_no_patient(world: World) -> None:
    world.twice(KEPT, ("edit", SMALLER), patient="Jane Doe 4711")
    world.twice(REJECTED, KEPT)
    workspace = world.written()
    run = CliRunner().invoke(app, ["masks", "agreement", str(workspace.path)], catch_exceptions=False)
    assert run.exit_code == 0
    assert (
        "ada and bea, all structures: 2 masks of 2 patients, 1 kept by both, 0 rejected by both, 1 by one" in run.output
    )
    assert "No mask has been read twice by one person." in run.output
    again = CliRunner().invoke(app, ["masks", "agreement", str(workspace.path), "--json"], catch_exceptions=False)
    told = json.loads(again.output)
    assert told["between"][0]["readers"] == ["ada", "bea"]
    assert told["between"][0]["dice"]["low"] is None
    page = (workspace.reports / "agreement.html").read_text()
    assert f"{told['between'][0]['dice']['value']:.3f}" in page
    for text in (run.output, again.output, page):
        assert "Jane" not in text
        assert "patient of" not in text


def test_a_workspace_where_nobody_has_decided_anything_is_told_so(tmp_path: Path) -> None:
    workspace = create(tmp_path / "new", "Hospital A")
    with pytest.raises(UserError, match="nobody has reviewed anything"):
        report_agreement(workspace)
    assert not journal_path(workspace.path).exists()


def test_a_journal_without_second_readings_gives_an_empty_page(world: World) -> None:
    world.read(("ada", *KEPT, "first"))
    report = report_agreement(world.written())
    assert (report.between, report.within) == ([], [])
    assert "No mask has been read by two people" in report.path.read_text()

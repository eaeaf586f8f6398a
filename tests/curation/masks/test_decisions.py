"""Whatever command runs again, decided masks stay as people decided, and undone ones are what they were."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from sono.curation.check import check_workspace
from sono.curation.cli import app
from sono.curation.masks.run import import_masks, kept_decisions
from sono.curation.qc.run import qc
from sono.curation.status import read_status
from sono.manifests import masks
from sono.manifests.schemas import FRAMES, QC, REGIONS
from sono.manifests.stages import in_process
from sono.manifests.store import PartInfo, TableStore, part_name, write_part
from sono.manifests.workspace import Workspace, open_to_read
from tests.manifests.reviewing import Reviewer

from .conftest import draw_masks, save

Row = dict[str, Any]


def regions(workspace: Workspace) -> dict[str, Row]:
    rows = workspace.store.read_all(REGIONS).to_pylist()
    found = {row["region_id"]: row for row in rows}
    assert len(found) == len(rows), "a region is in two parts"
    return found


@pytest.fixture
def files(_six_frames: Path, tmp_path: Path) -> Path:
    """Three masks for each of the six frames."""
    return Path(shutil.copytree(_six_frames / "masks", tmp_path / "masks"))


@pytest.fixture
def imported(empty: Workspace, files: Path) -> Workspace:
    """The six frames with these masks."""
    import_again(empty, files)
    return empty


def import_again(workspace: Workspace, files: Path) -> None:
    with workspace.writing():
        import_masks(workspace, files, mask_format="png", engine=in_process)


def test_an_import_of_other_masks_keeps_decided_ones_and_says_how_many(imported: Workspace, files: Path) -> None:
    anna = Reviewer(imported)
    first, second, third = sorted(regions(imported))[:3]
    edited = np.zeros_like(masks.decode(regions(imported)[first]["mask"]))
    edited[10:20, 10:30] = True
    anna.decide("edit", first, edited)
    anna.decide("reject", second)
    open_to_read(imported.path)
    decided = regions(imported)
    assert (decided[first]["area_px"], decided[first]["source"]) == (200, "import")
    assert kept_decisions(imported) == 0

    for seed in range(6):
        for structure, mask in draw_masks(seed + 100).items():
            save(files / structure / f"P{seed // 2}/scan{seed % 2}.png", mask.astype(np.uint8) * 255)
    import_again(imported, files)
    again = regions(imported)
    assert {key: again[key] for key in (first, second)} == {key: decided[key] for key in (first, second)}
    assert again[third]["mask"] != decided[third]["mask"]
    assert kept_decisions(imported) == 2
    assert check_workspace(imported).problems == []

    anna.undo()
    anna.undo()
    open_to_read(imported.path)
    shutil.rmtree(imported.path / "review")
    undone = regions(imported)
    shutil.rmtree(imported.path / "regions")
    import_again(imported, files)
    assert undone == regions(imported)


def test_decided_masks_outlive_their_files(imported: Workspace, files: Path) -> None:
    anna = Reviewer(imported)
    rows = regions(imported)
    kept = next(key for key, row in rows.items() if row["structure"] == "thalami")
    anna.decide("accept", kept)
    shutil.rmtree(files / "thalami")
    import_again(imported, files)
    assert {key for key, row in regions(imported).items() if row["structure"] == "thalami"} == {kept}
    assert check_workspace(imported).problems == []
    anna.undo()
    open_to_read(imported.path)
    assert kept not in regions(imported)


def test_drawn_masks_are_exported_and_checked_like_others(drawn: Workspace, tmp_path: Path) -> None:
    frame = drawn.store.read_all(FRAMES, ["frame_id", "pixel_digest"]).to_pylist()[0]
    mask = draw_masks(7)["head"]
    Reviewer(drawn).draw(frame["frame_id"], "falx", mask, "f" * 32, frame["pixel_digest"])
    report = CliRunner().invoke(app, ["masks", "export", str(drawn.path), str(tmp_path / "out"), "--structure", "falx"])
    assert report.exit_code == 0, report.output
    assert "1 masks of 1 frames" in report.output
    assert CliRunner().invoke(app, ["masks", "check", str(drawn.path)]).exit_code == 0
    assert "f" * 32 in drawn.store.read_all(REGIONS, ["region_id"])["region_id"].to_pylist()
    assert check_workspace(drawn).problems == []


def test_status_applies_decisions_or_says_how_many_wait(drawn: Workspace) -> None:
    first, second = sorted(regions(drawn))[:2]
    anna = Reviewer(drawn)
    anna.decide("accept", first)
    anna.decide("reject", second)
    with drawn.writing():
        anna.decide("edit", first)
        shown = CliRunner().invoke(app, ["status", str(drawn.path)]).output
        assert "decided     1 accepted, 1 rejected\n" in shown
        assert "1 decisions are not in the tables yet" in shown
    found = json.loads(CliRunner().invoke(app, ["status", str(drawn.path), "--json"]).output)
    assert (found["decided"], found["decisions_pending"]) == ({"edited": 1, "rejected": 1}, 0)


def test_a_verdict_outlives_quality_control(empty: Workspace) -> None:
    with empty.writing():
        qc(empty, engine=in_process)
    before = empty.store.read_all(QC).to_pylist()
    frame = before[0]["frame_id"]
    anna = Reviewer(empty)
    anna.judge(frame, "reject", "reviewer_wrong_plane")
    (empty.path / "sono.toml").write_text("[qc]\nmin_sharpness = 1.0\n")
    assert CliRunner().invoke(app, ["qc", str(empty.path)]).exit_code == 0
    assert "reviewer_wrong_plane" in (empty.path / "reports" / "qc.html").read_text()
    (row,) = [row for row in empty.store.read_all(QC).to_pylist() if row["frame_id"] == frame]
    assert (row["verdict"], row["reasons"]) == ("reject", ["reviewer_wrong_plane"])
    assert read_status(empty).decided == {"frames": 1}
    anna.undo()
    (empty.path / "sono.toml").write_text("")
    assert CliRunner().invoke(app, ["qc", str(empty.path)]).exit_code == 0
    assert empty.store.read_all(QC).to_pylist() == before


def test_check_finds_what_contradicts_the_journal(drawn: Workspace) -> None:
    first, second = sorted(regions(drawn))[:2]
    anna = Reviewer(drawn)
    anna.decide("accept", first)
    open_to_read(drawn.path)
    older = anna.journal.path.parent / "older"
    anna.journal.close()
    shutil.copy(anna.journal.path, older)
    anna.decide("reject", second)
    open_to_read(drawn.path)
    assert check_workspace(drawn).problems == []
    anna.journal.close()

    for path in drawn.store.paths(REGIONS):
        info, rows = drawn.store.parts(REGIONS)[part_name(path)], drawn.store.read(REGIONS, part_name(path))
        _write_without_journal(drawn, info, [dict(row, reviewer=None, updated_at=None) for row in rows.to_pylist()])
    (problem,) = [each for each in check_workspace(drawn).problems if each.place == "regions"]
    assert problem.what == "2 rows are not as people decided"
    assert "remove" in problem.repair
    (drawn.path / "review" / "applied.json").unlink()
    with drawn.writing():
        pass
    assert check_workspace(drawn).problems == []

    older.replace(anna.journal.path)
    (problem,) = check_workspace(drawn).problems
    assert (problem.place, problem.what) == (
        "review/journal.sqlite",
        "1 decisions in the table regions are not in it",
    )
    anna.journal.path.write_bytes(b"damaged" * 1000)
    (problem,) = check_workspace(drawn).problems
    assert (problem.place, problem.what) == ("review/journal.sqlite", "not a journal of decisions")


def test_status_counts_masks_without_holding_them(imported: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a whole table in memory")

    store = imported.store
    for name, info in store.parts(FRAMES).items():
        rows = store.read(FRAMES, name).to_pylist()
        store.write(FRAMES, info, FRAMES.from_rows([{**row, "plane": None, "center": "A"} for row in rows]))
    expected = Counter(row["structure"] for row in store.read_all(REGIONS).to_pylist())
    monkeypatch.setattr(TableStore, "read_all", refuse)
    status = read_status(imported)
    assert status.regions == dict(expected)
    assert list(status.regions.values()) == sorted(expected.values(), reverse=True)
    assert (status.frames_by_plane, status.frames_by_center) == ({"unknown": 6}, {"A": 6})
    assert (status.frames, status.patients, status.proposed, status.decided) == (6, 3, {}, {})


def _write_without_journal(workspace: Workspace, info: PartInfo, rows: list[Row]) -> None:
    write_part(workspace.store.path(REGIONS, info.name), REGIONS, info, REGIONS.from_rows(rows))

"""Masks go out in every format, named by pseudonyms, and come back bit by bit where the format can hold them."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pydicom
import pytest
from typer.testing import CliRunner

from sono.curation.cli import app
from sono.curation.commands import options
from sono.curation.masks.export import ExportReport, export_masks
from sono.curation.masks.exported_folder import new_folder
from sono.curation.masks.formats.png import read_mask
from sono.curation.masks.formats.protocol import ExportedFrame, ExportedRegion
from sono.curation.masks.formats.registry import FORMATS
from sono.curation.masks.formats.release import _expression
from sono.curation.masks.run import import_masks
from sono.curation.qc.run import qc
from sono.manifests import masks
from sono.manifests.errors import UserError
from sono.manifests.schemas import CAPTIONS, FRAMES, REGIONS, TableSpec
from sono.manifests.stages import in_process
from sono.manifests.store import PartInfo
from sono.manifests.vocabulary import load
from sono.manifests.workspace import Workspace

from .conftest import SIZE, STRUCTURES, add_captions

EXACT = [name for name in FORMATS if name != "outline"]


def stored(workspace: Workspace) -> dict[tuple[str, str], npt.NDArray[np.bool_]]:
    rows = workspace.store.read_all(REGIONS).to_pylist()
    return {(row["frame_id"], row["structure"]): masks.decode(row["mask"]) for row in rows}


def export(workspace: Workspace, out: Path, mask_format: str, **options: object) -> ExportReport:
    if mask_format == "release":
        qc(workspace, engine=in_process)
        add_captions(workspace)
    return export_masks(workspace, out, mask_format=mask_format, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("mask_format", EXACT)
def test_masks_come_back_bit_by_bit(drawn: Workspace, empty: Workspace, tmp_path: Path, mask_format: str) -> None:
    report = export(drawn, tmp_path / "out", mask_format)
    assert (report.frames, report.masks, report.left_out) == (6, 18, {})
    back = import_masks(empty, tmp_path / "out", mask_format=mask_format, engine=in_process)
    assert (back.rows, back.exclusions) == (18, {})
    before, after = stored(drawn), stored(empty)
    assert before.keys() == after.keys()
    for key, mask in before.items():
        assert np.array_equal(after[key], mask), key


def test_what_a_person_has_edited_is_not_called_a_programs(drawn: Workspace, tmp_path: Path) -> None:
    for name, info in drawn.store.parts(REGIONS).items():
        rows = drawn.store.read(REGIONS, name).to_pylist()
        for row in rows:
            row |= {"source": "sam", "status": "accepted" if row["structure"] == "head" else "edited"}
        drawn.store.write(REGIONS, info, REGIONS.from_rows(rows))
    export(drawn, tmp_path / "out", "dicom-seg")
    segments = [
        segment for path in (tmp_path / "out").rglob("*.dcm") for segment in pydicom.dcmread(path).SegmentSequence
    ]
    assert len(segments) == 18
    assert {segment.SegmentAlgorithmType for segment in segments if segment.SegmentLabel == "head"} == {"AUTOMATIC"}
    assert {segment.SegmentAlgorithmType for segment in segments if segment.SegmentLabel != "head"} == {"MANUAL"}


def test_outlines_lose_holes_and_specks_and_the_report_says_how_much(
    drawn: Workspace, empty: Workspace, tmp_path: Path
) -> None:
    report = export(drawn, tmp_path / "out", "outline")
    import_masks(empty, tmp_path / "out", mask_format="outline", engine=in_process)
    before, after = stored(drawn), stored(empty)
    different = [np.count_nonzero(mask != after[key]) for key, mask in before.items()]
    assert report.changed == len(different) == 18
    assert report.changed_pixels == sum(different) > 0
    dice = [2 * np.count_nonzero(m & after[k]) / (m.sum() + after[k].sum()) for k, m in before.items()]
    assert (report.dice_mean, report.dice_least) == (pytest.approx(np.mean(dice)), pytest.approx(min(dice)))


def test_what_labelme_itself_would_draw_is_compared(drawn: Workspace, tmp_path: Path) -> None:
    report = export(drawn, tmp_path / "out", "labelme")
    assert report.changed == 18  # it also draws the pixels on a polygon's line
    assert report.dice_least is not None
    assert 0.5 < report.dice_least < report.dice_mean < 1  # type: ignore[operator]


@pytest.mark.parametrize("mask_format", ["index-png", "nifti"])
def test_a_label_map_refuses_structures_that_overlap(drawn: Workspace, tmp_path: Path, mask_format: str) -> None:
    (name, *_) = drawn.store.parts(REGIONS)
    table = drawn.store.read(REGIONS, name).to_pylist()
    for row in table:
        row["mask"] = masks.encode(np.ones(row["mask"]["size"], bool))
    drawn.store.write(REGIONS, drawn.store.parts(REGIONS)[name], REGIONS.from_rows(table))
    with pytest.raises(UserError, match=r"and \w+ overlap in frame [0-9a-f]{32}"):
        export(drawn, tmp_path / "out", mask_format)
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.glob(".tmp-*"))
    assert export(drawn, tmp_path / "out", mask_format, structures=["head"]).masks == 6


def test_only_what_was_accepted_is_exported(drawn: Workspace, tmp_path: Path) -> None:
    for name, info in drawn.store.parts(REGIONS).items():
        rows = drawn.store.read(REGIONS, name).to_pylist()
        for row in rows:
            row["status"] = "proposed" if row["structure"] == "head" else row["status"]
            row["pixel_digest"] = "0" * 32 if row["structure"] == "thalami" else row["pixel_digest"]
        drawn.store.write(REGIONS, info, REGIONS.from_rows(rows))
    report = export(drawn, tmp_path / "out", "png")
    assert (report.masks, report.left_out) == (6, {"pixels_changed": 6})
    assert export(drawn, tmp_path / "proposed", "png", statuses=["proposed"]).masks == 6
    with pytest.raises(UserError, match="nothing to export: no such masks"):
        export(drawn, tmp_path / "none", "png", structures=["femur"])


def edit_heads(workspace: Workspace, **changes: object) -> None:
    for name, info in workspace.store.parts(REGIONS).items():
        rows = workspace.store.read(REGIONS, name).to_pylist()
        edited = [{**row, **changes} if row["structure"] == "head" else row for row in rows]
        workspace.store.write(REGIONS, info, REGIONS.from_rows(edited))


def test_an_empty_mask_is_left_out_because_no_format_brings_it_back(drawn: Workspace, tmp_path: Path) -> None:
    edit_heads(drawn, mask=masks.encode(np.zeros(SIZE, bool)), area_px=0, bbox=[0, 0, 0, 0])
    report = export(drawn, tmp_path / "out", "via")
    assert (report.masks, report.left_out) == (12, {"empty_mask": 6})


def test_a_mask_that_a_person_edited_comes_before_an_imported_one(drawn: Workspace, tmp_path: Path) -> None:
    rows = [row for row in drawn.store.read_all(REGIONS).to_pylist() if row["structure"] == "head"]
    whole = {"mask": masks.encode(np.ones(SIZE, bool)), "area_px": SIZE[0] * SIZE[1], "source": "sam"}
    edited = [{**row, **whole, "region_id": f"e{row['region_id']}", "status": "edited"} for row in rows]
    drawn.store.write(REGIONS, PartInfo("e", "masks-propose", "0", "", len(edited)), REGIONS.from_rows(edited))
    report = export(drawn, tmp_path / "out", "png", structures=["head"])
    assert (report.masks, report.left_out) == (6, {"second_mask": 6})
    assert all(read_mask(path).all() for path in (tmp_path / "out" / "head").iterdir())


@pytest.mark.parametrize(("table", "command"), [(FRAMES, "ingest"), (REGIONS, "masks import"), (CAPTIONS, "caption")])
def test_what_an_interrupted_command_left_twice_is_not_exported_twice(
    drawn: Workspace, tmp_path: Path, table: TableSpec, command: str
) -> None:
    add_captions(drawn)
    name = next(iter(drawn.store.parts(table)))
    drawn.store.path(table, "copy").write_bytes(drawn.store.path(table, name).read_bytes())
    mask_format = "release" if table is CAPTIONS else "coco"
    with pytest.raises(UserError, match=f"sono-curate {command} was interrupted"):
        export_masks(drawn, tmp_path / "out", mask_format=mask_format)
    if table is CAPTIONS:  # of which the other formats need none
        assert export_masks(drawn, tmp_path / "out", mask_format="coco").masks == 18


def test_images_are_not_published_on_verdicts_that_are_out_of_date(drawn: Workspace, tmp_path: Path) -> None:
    qc(drawn, engine=in_process)
    add_captions(drawn)
    (drawn.path / "sono.toml").write_text("[qc]\nmin_short_side_px = 4000\n")
    with pytest.raises(UserError, match="quality control is out of date"):
        export_masks(Workspace(drawn.path), tmp_path / "out", mask_format="release")


def test_a_folder_with_anything_else_in_it_is_refused_and_an_unchanged_export_is_replaced(
    drawn: Workspace, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    export(drawn, out, "labelme")
    export(drawn, out, "png", structures=["head"])
    assert sorted(path.name for path in out.iterdir()) == [".sono-masks.json", "head"]
    (out / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="changed since they were exported"):
        export(drawn, out, "png")
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "a.txt").write_text("mine")
    with pytest.raises(UserError, match="no export wrote"):
        export(drawn, tmp_path / "foreign", "png")
    with pytest.raises(UserError, match="lies in the workspace"):
        export(drawn, drawn.path / "out", "png")


KILLED = """
import os, signal, sys
from pathlib import Path
from sono.curation.masks.exported_folder import new_folder

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

out, moment = Path(sys.argv[1]), sys.argv[2]
if moment == "between the renames":
    real = Path.rename
    Path.rename = lambda self, to: die() if to == out else real(self, to)
with new_folder(out, out.parent / "workspace") as folder:
    (folder / "half.png").write_text("a frame")
    if moment == "writing":
        die()
"""


@pytest.mark.parametrize("moment", ["writing", "between the renames"])
def test_what_a_killed_export_leaves_is_cleared_by_the_next(drawn: Workspace, tmp_path: Path, moment: str) -> None:
    out = tmp_path / "exports" / "out"
    export(drawn, out, "png")
    killed = subprocess.run([sys.executable, "-c", KILLED, str(out), moment], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert out.exists() == (moment == "writing")
    with pytest.raises(UserError, match="nothing to export"):
        export(drawn, out, "png", structures=["femur"])
    assert [path.name for path in out.parent.iterdir()] == ["out"]
    assert sorted(path.name for path in out.iterdir()) == [".sono-masks.json", *sorted(STRUCTURES)]
    export(drawn, out, "coco")
    assert [path.name for path in out.parent.iterdir()] == ["out"]
    assert sorted(path.name for path in out.iterdir()) == [".sono-masks.json", "annotations.json"]


def test_two_exports_to_one_folder_are_not_mixed(tmp_path: Path) -> None:
    with new_folder(tmp_path / "out", tmp_path / "workspace") as folder:
        (folder / "a").write_text("first")
        with (
            pytest.raises(UserError, match="another command is writing here"),
            new_folder(tmp_path / "out", tmp_path / "workspace"),
        ):
            raise AssertionError("it is locked")
    assert (tmp_path / "out" / "a").read_text() == "first"


def test_an_export_may_go_where_a_link_leads(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    for content in ("first", "second"):
        with new_folder(tmp_path / "link", tmp_path / "workspace") as folder:
            (folder / "a").write_text(content)
    assert (tmp_path / "real" / "a").read_text() == "second"
    assert (tmp_path / "link").is_symlink()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "real"]


@pytest.mark.parametrize("mask_format", FORMATS)
def test_no_name_of_the_archive_leaves(drawn: Workspace, tmp_path: Path, mask_format: str) -> None:
    export(drawn, tmp_path / "out", mask_format)
    files = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert files
    patients = drawn.store.read_all(FRAMES, ["patient_key"]).column(0).to_pylist()
    for path in files:
        content = path.read_bytes()
        for word in (b"scan0", b"P0/", b"Hospital", *(key.encode() for key in patients)):
            assert word not in content
            assert word.decode() not in str(path.relative_to(tmp_path))


def test_the_papers_layout_holds_images_captions_and_masks(drawn: Workspace, tmp_path: Path) -> None:
    export(drawn, tmp_path / "out", "release")
    ids = (tmp_path / "out" / "ids.txt").read_text().split()
    assert len(ids) == 6
    frames = {row["frame_id"]: row for row in drawn.store.read_all(FRAMES).to_pylist()}
    content = json.loads((tmp_path / "out" / f"{ids[0]}.json").read_text())
    assert (tmp_path / "out" / f"{ids[0]}.png").read_bytes() == frames[ids[0]]["image"]["bytes"]
    assert len(content["ref_exps"]) == len(content["mask_captions"]) == len(content["seudo_masks"]) == 3
    first, last, *box, confidence = content["ref_exps"][content["structures"].index("thalami")]
    assert content["caption"][first:last] == "thalami"
    assert confidence == 1
    assert 0 <= box[0] < box[2] <= 1
    assert 0 <= box[1] < box[3] <= 1


def test_a_structure_is_named_by_words_not_by_parts_of_them() -> None:
    region = ExportedRegion("head", np.ones(SIZE, bool), "head")
    caption = "the forehead, then the Head and a headline"
    frame = ExportedFrame("0" * 32, *SIZE, "0" * 32, None, None, [region], caption=caption)
    assert _expression(load(), frame, caption, region)[:2] == [23, 27]
    assert _expression(load(), frame, "a femur", region)[:2] == [0, len("a femur")]


def test_frames_that_may_show_text_are_not_published_as_images(drawn: Workspace, tmp_path: Path) -> None:
    for name, info in drawn.store.parts(FRAMES).items():
        rows = drawn.store.read(FRAMES, name).to_pylist()
        drawn.store.write(FRAMES, info, FRAMES.from_rows([{**row, "burned_in_text": "unchecked"} for row in rows]))
    with pytest.raises(UserError, match="nothing to export: 18 text_unchecked"):
        export(drawn, tmp_path / "out", "release")


def test_the_command_exports_and_imports(
    drawn: Workspace, empty: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(options, "local_engine", lambda workers: in_process)
    out = str(tmp_path / "out")
    words = ["masks", "export", str(drawn.path), out, "--format", "labelme", "--structure", "head"]
    exported = CliRunner().invoke(app, words, catch_exceptions=False)
    assert "6 masks of 6 frames" in exported.stdout
    assert "6 masks look different in this format" in exported.stdout
    words = ["masks", "import", str(empty.path), out, "--format", "labelme", "--json", "--label"]
    imported = CliRunner().invoke(app, [*words, "head=fetal head"], catch_exceptions=False)
    assert json.loads(imported.stdout)["run"]["rows"] == 6
    with pytest.raises(UserError, match="write --label LABEL=NAME"):
        CliRunner().invoke(app, [*words, "head"], catch_exceptions=False)


def test_a_missing_library_is_one_line_with_the_command_that_installs_it(
    drawn: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("nibabel", "highdicom"):
        monkeypatch.setitem(sys.modules, module, None)
    for mask_format in ("nifti", "dicom-seg"):
        with pytest.raises(UserError, match=r"which is not installed; run: pip install 'sono-curate\[formats\]'"):
            export(drawn, tmp_path / mask_format, mask_format)

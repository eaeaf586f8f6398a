"""Masks go out in every format, named by pseudonyms, and come back bit by bit where the format can hold them."""

from __future__ import annotations

import json
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
from sono.curation.masks.formats.registry import FORMATS
from sono.curation.masks.run import import_masks
from sono.curation.qc.run import qc
from sono.manifests import masks
from sono.manifests.errors import UserError
from sono.manifests.schemas import FRAMES, REGIONS
from sono.manifests.stages import in_process
from sono.manifests.workspace import Workspace

from .conftest import add_captions

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

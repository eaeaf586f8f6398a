"""Ingest: what is stored, what is excluded, and what a second run does."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from pydicom.data import get_testdata_file

from sono.curation.images.stored_png import decode_png
from sono.curation.ingest.exclusions import list_exclusions
from sono.curation.ingest.run import IngestReport, ingest
from sono.manifests.errors import UserError
from sono.manifests.schemas import EXCLUSIONS, FRAMES
from sono.manifests.stages import in_process
from sono.manifests.workspace import Workspace, create

Image = npt.NDArray[np.uint8]
BY_FOLDER = r"^(P\d)/"


def run(
    workspace: Workspace,
    source: Path,
    regex: str | None = BY_FOLDER,
    metadata: Path | None = None,
    force: bool = False,
) -> IngestReport:
    return ingest(
        workspace, [source], engine=in_process, patient_regex=regex, metadata=metadata, force=force, cropped=True
    )[0]


def everything(workspace: Workspace) -> bytes:
    """All bytes the workspace holds, but for its key."""
    files = sorted(path for path in workspace.path.rglob("*") if path.is_file() and path.name != "secret.key")
    return b"".join(str(path.relative_to(workspace.path)).encode() + path.read_bytes() for path in files)


def test_pixels_arrive_unchanged_under_pseudonyms(
    workspace: Workspace, archive: Path, draw: Callable[..., Image]
) -> None:
    report = run(workspace, archive)
    assert (report.run.rows, report.files) == (12, 12)
    rows = workspace.store.read_all(FRAMES).to_pylist()
    keys = workspace.keys
    by_source = {row["source_key"]: row for row in rows}
    row = by_source[keys.source("P2/scan1.png")]
    assert np.array_equal(decode_png(row["image"]["bytes"]), draw(21))
    assert row["patient_key"] == keys.patient_keys("P2", center="Hospital A").patient
    assert row["center"] == "Hospital A"
    assert (row["burned_in_text"], row["text_readers"][0]) == ("none", "detector")
    assert (row["height"], row["width"], list(row["crop"])) == (200, 260, [0, 0, 260, 200])
    assert len({row["frame_id"] for row in rows}) == 12
    assert set(Counter(row["patient_key"] for row in rows).values()) == {3}


def test_no_name_of_a_file_or_patient_is_in_the_workspace(
    workspace: Workspace, tmp_path: Path, draw: Callable[..., Image]
) -> None:
    folder = tmp_path / "CANARYFOLDER"
    folder.mkdir()
    cv2.imwrite(str(folder / "CANARYNAME^JANE_1980.png"), draw(1))
    (folder / "CANARYTEXT.txt").write_text("CANARYCONTENT")
    (folder / "CANARYBROKEN.png").write_bytes(b"\x89PNG\r\n\x1a\nCANARYBYTES")
    metadata = tmp_path / "CANARY.csv"
    metadata.write_text(
        "file,patient_id,study_id\nCANARYNAME^JANE_1980,CANARYID,CANARYSTUDY\nCANARYBROKEN,CANARYID,S\n"
    )
    report = run(workspace, folder, None, metadata)
    assert report.run.rows == 1
    assert report.run.exclusions == {"not_an_image": 1, "undecodable": 1}
    assert b"CANARY" not in everything(workspace)


def test_dicom_identifiers_are_not_stored(workspace: Workspace, tmp_path: Path) -> None:
    import pydicom

    folder = tmp_path / "dicom"
    folder.mkdir()
    path = get_testdata_file("examples_rgb_color.dcm")
    assert isinstance(path, str)
    dataset = pydicom.dcmread(path)
    dataset.PatientName = dataset.PatientID = dataset.InstitutionName = dataset.AccessionNumber = "CANARY"
    dataset.SeriesDescription = "CANARY transthalamic"
    dataset.ProtocolName = "TT"
    dataset.save_as(folder / "x.dcm")
    assert run(workspace, folder, None).run.rows == 1
    assert b"CANARY" not in everything(workspace)
    row = workspace.store.read_all(FRAMES).to_pylist()[0]
    assert row["patient_key"] == workspace.keys.patient_keys("CANARY", center="Hospital A").patient
    assert (row["plane"], row["plane_source"]) == ("transthalamic", "header")


def test_running_again_computes_nothing_and_changes_nothing(workspace: Workspace, archive: Path) -> None:
    run(workspace, archive)
    before = everything(workspace)
    again = run(workspace, archive)
    assert again.run.computed == 0
    assert everything(workspace) == before


def test_new_changed_and_deleted_files_are_noticed_and_the_rest_is_untouched(
    workspace: Workspace, tmp_path: Path, draw: Callable[..., Image]
) -> None:
    folder = tmp_path / "many" / "P1"
    folder.mkdir(parents=True)
    for number in range(300):
        cv2.imwrite(str(folder / f"{number:03}.png"), draw(number, 40, 40))
    first = run(workspace, folder.parent)
    assert first.run.computed > 2
    cv2.imwrite(str(folder / "100x.png"), draw(1000, 40, 40))
    added = run(workspace, folder.parent)
    assert added.run.rows == 301
    assert added.run.computed <= 2
    cv2.imwrite(str(folder / "100.png"), draw(2000, 40, 40))
    (folder / "200.png").unlink()
    changed = run(workspace, folder.parent)
    assert changed.run.rows == 300
    assert 1 <= changed.run.computed <= 3
    rows = {row["source_key"]: row for row in workspace.store.read_all(FRAMES).to_pylist()}
    assert len(rows) == 300
    assert np.array_equal(decode_png(rows[workspace.keys.source("P1/100.png")]["image"]["bytes"]), draw(2000, 40, 40))


def test_tables_do_not_depend_on_the_order_of_runs(tmp_path: Path, archive: Path, draw: Callable[..., Image]) -> None:
    one, two = create(tmp_path / "one", "A"), create(tmp_path / "two", "A")
    for name in ("secret.key", "key-check"):
        shutil.copy(one.path / name, two.path / name)
    run(one, archive)
    cv2.imwrite(str(archive / "P1" / "later.png"), draw(99))
    run(one, archive)
    run(two, archive)
    assert everything(one) == everything(two)


def test_a_second_folder_adds_to_the_first(
    workspace: Workspace, archive: Path, tmp_path: Path, draw: Callable[..., Image]
) -> None:
    run(workspace, archive)
    other = tmp_path / "other" / "P9"
    other.mkdir(parents=True)
    cv2.imwrite(str(other / "scan.png"), draw(500))
    run(workspace, other.parent)
    assert workspace.store.read_all(FRAMES, ["frame_id"]).num_rows == 13
    shutil.rmtree(other)
    cv2.imwrite(str(tmp_path / "other" / "P9.png"), draw(501))
    run(workspace, other.parent, r"(P9)", force=True)  # the folder's only frame goes
    assert workspace.store.read_all(FRAMES, ["frame_id"]).num_rows == 13


def test_the_same_path_in_two_folders_is_refused_and_nothing_is_lost(
    workspace: Workspace, archive: Path, tmp_path: Path
) -> None:
    run(workspace, archive)
    before = everything(workspace)
    shutil.copytree(archive, tmp_path / "copy", copy_function=shutil.copyfile)
    with pytest.raises(UserError, match="12 files have the same path as files already ingested from another folder"):
        run(workspace, tmp_path / "copy")
    with pytest.raises(UserError, match="same path in two of the folders"):
        ingest(workspace, [archive, tmp_path / "copy"], engine=in_process, patient_regex=BY_FOLDER)
    assert everything(workspace) == before


def test_a_folder_that_was_moved_is_the_same_archive(workspace: Workspace, archive: Path, tmp_path: Path) -> None:
    run(workspace, archive)
    before = workspace.store.read_all(FRAMES)
    archive.rename(tmp_path / "moved")
    run(workspace, tmp_path / "moved")
    assert workspace.store.read_all(FRAMES).equals(before)
    (tmp_path / "moved" / "P1" / "scan0.png").unlink()
    assert run(workspace, tmp_path / "moved").run.rows == 11
    assert workspace.store.read_all(FRAMES, ["frame_id"]).num_rows == 11


def test_bad_files_are_counted_by_reason_and_do_not_stop_the_run(
    workspace: Workspace, archive: Path, tmp_path: Path
) -> None:
    path = get_testdata_file("examples_ybr_color.dcm")
    ct = get_testdata_file("CT_small.dcm")
    assert isinstance(path, str)
    assert isinstance(ct, str)
    bad = archive / "P1"
    (bad / "empty.png").write_bytes(b"")
    (bad / "text.dcm").write_text("no DICOM at all")
    (bad / "half.dcm").write_bytes(Path(path).read_bytes()[:5000])
    shutil.copy(ct, bad / "ct.dcm")
    (bad / "cut.png").write_bytes((bad / "scan0.png").read_bytes()[:900])
    shutil.copy(bad / "scan1.png", archive / "nobody.png")
    report = run(workspace, archive)
    assert report.run.rows == 12
    assert report.run.exclusions == {
        "empty_file": 1,
        "not_an_image": 1,
        "damaged_dicom": 1,
        "not_ultrasound": 1,
        "undecodable": 1,
        "patient_unknown": 1,
    }
    named = {row.name: row.reason for row in list_exclusions(workspace, [archive])}
    assert named["P1/ct.dcm"] == "not_ultrasound"
    assert named["nobody.png"] == "patient_unknown"
    stored = workspace.store.read_all(EXCLUSIONS).to_pylist()
    assert all("P1" not in row["message"] for row in stored)


def test_a_file_that_vanishes_during_the_run_is_excluded(workspace: Workspace, archive: Path) -> None:
    def engine(function: Callable[[Any], Any], arguments: Sequence[Any]) -> Iterator[Any]:
        (archive / "P1" / "scan0.png").unlink()
        yield from map(function, arguments)

    report = ingest(workspace, [archive], engine=engine, patient_regex=BY_FOLDER)[0]
    assert (report.run.rows, report.run.exclusions) == (11, {"unreadable": 1})


def test_a_frame_without_a_patient_is_left_out_unless_the_study_replaces_the_patient(
    workspace: Workspace, tmp_path: Path
) -> None:
    import pydicom

    folder = tmp_path / "dicom"
    folder.mkdir()
    path = get_testdata_file("examples_rgb_color.dcm")
    assert isinstance(path, str)
    dataset = pydicom.dcmread(path)
    dataset.PatientID = ""
    dataset.save_as(folder / "x.dcm")
    assert run(workspace, folder, None).run.exclusions == {"patient_unknown": 1}
    config = (workspace.path / "sono.toml").read_text()
    (workspace.path / "sono.toml").write_text(
        config.replace('# missing_patient = "exclude"', 'missing_patient = "study"')
    )
    again = run(Workspace(workspace.path), folder, None)
    assert (again.run.rows, again.run.exclusions) == (1, {})


def test_files_that_differ_only_in_their_extension_are_both_left_out(
    workspace: Workspace, archive: Path, draw: Callable[..., Image]
) -> None:
    cv2.imwrite(str(archive / "P1" / "scan0.bmp"), draw(7))
    (archive / "P1" / "scan1.txt").write_text("a note beside an image")
    report = run(workspace, archive)
    assert report.run.exclusions == {"two_extensions": 2, "not_an_image": 1}
    assert report.run.rows == 11


def test_the_csv_takes_precedence_over_the_header_and_bare_names_must_be_unique(
    workspace: Workspace, archive: Path, tmp_path: Path
) -> None:
    metadata = tmp_path / "metadata.csv"
    metadata.write_text("file,patient_id,plane,center,pixel_mm\nP1/scan0.png,X,femur,B,0.2\nscan1.png,Y,,,\n")
    report = run(workspace, archive, None, metadata)
    assert report.run.rows == 1
    assert report.run.exclusions == {"ambiguous_name": 4, "not_in_metadata": 7}
    row = workspace.store.read_all(FRAMES).to_pylist()[0]
    assert (row["plane"], row["plane_source"], row["center"], row["pixel_mm_x"]) == ("femur", "metadata", "B", 0.2)


@pytest.mark.parametrize(("regex", "words"), [("[", "not a regular expression"), ("P1", "has no group")])
def test_an_invalid_patient_regex_is_refused(workspace: Workspace, archive: Path, regex: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        run(workspace, archive, regex)


def test_missing_and_empty_folders_are_refused(workspace: Workspace, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="folder not found"):
        run(workspace, tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="contains no files"):
        run(workspace, tmp_path / "empty")


@pytest.mark.parametrize(
    ("issuers", "centers", "scope", "patients"),
    [
        (("", ""), ("north", "south"), "center", 2),
        (("", ""), ("north", "north"), "center", 1),
        (("A", "B"), ("north", "north"), "center", 2),
        (("A", "a "), ("north", "south"), "center", 1),
        (("A", "B"), ("north", "south"), "global", 1),
    ],
)
def test_one_number_is_one_patient_in_its_namespace(tmp_path, draw, issuers, centers, scope, patients) -> None:  # type: ignore[no-untyped-def]
    workspace = create(tmp_path / "namespaces", "Hospital A")
    (workspace.path / "sono.toml").write_text(f'[workspace]\npatient_scope = "{scope}"\n')
    folder = tmp_path / "files"
    folder.mkdir()
    lines = ["file,patient_id,issuer,center"]
    for number in (0, 1):
        cv2.imwrite(str(folder / f"{number}.png"), draw(number))
        lines.append(f"{number}.png,4711,{issuers[number]},{centers[number]}")
    metadata = tmp_path / "metadata.csv"
    metadata.write_text("\n".join(lines) + "\n")
    run(workspace, folder, None, metadata)
    rows = workspace.store.read_all(FRAMES).to_pylist()
    assert len({row["patient_key"] for row in rows}) == patients
    assert {row["patient_number_key"] for row in rows} == {workspace.keys.patient("", "4711")}

"""A run that would remove most of a folder's frames is refused before anything is removed."""

from __future__ import annotations

import os
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.data import get_testdata_file

from sono.curation.ingest import losses
from sono.curation.ingest.run import ingest
from sono.manifests.errors import UserError
from sono.manifests.schemas import FRAMES
from sono.manifests.stages import in_process
from sono.manifests.workspace import Workspace, open_workspace

BY_FOLDER = r"^(P\d)/"


def count(workspace: Workspace) -> int:
    return workspace.store.count_rows(FRAMES)


def rows_for(archive: Path, names: list[str]) -> Path:
    path = archive.parent / "metadata.csv"
    path.write_text("\n".join(["file,patient_id", *(f"{name},P1" for name in names)]))
    return path


def all_names(archive: Path) -> list[str]:
    return [path.relative_to(archive).as_posix() for path in sorted(archive.rglob("*.*"))]


def dicom_without_patient(folder: Path, files: int, name: str = "examples_ybr_color.dcm") -> None:
    path = get_testdata_file(name)
    assert isinstance(path, str)
    image = dcmread(path)
    image.PatientID = ""
    folder.mkdir(parents=True)
    for number in range(files):
        image.save_as(folder / f"IM{number}.dcm")


MISTAKES: dict[str, tuple[Callable[[Path], dict[str, object]], str]] = {
    "the expression is forgotten": (lambda archive: {}, "nothing names the patient of 12"),
    "the expression matches nothing": (lambda archive: {"patient_regex": r"^(Q\d)/"}, "of 12"),
    "the metadata has other files": (
        lambda archive: {"metadata": rows_for(archive, ["x.png"])},
        "the metadata has no row for 12",
    ),
    "the metadata has few of the files": (
        lambda archive: {"metadata": rows_for(archive, all_names(archive)[:5])},
        "7 of 12 frames of this folder would be removed: the metadata has no row for 7",
    ),
    "the folder is nearly empty": (
        lambda archive: (
            [shutil.rmtree(archive / f"P{number}") for number in (1, 2, 3)] and {"patient_regex": BY_FOLDER}
        ),  # type: ignore[list-item, return-value]
        "9 of 12 frames of this folder would be removed: the files of 9 are not there",
    ),
}


@pytest.mark.parametrize(("mistake", "text"), MISTAKES.values(), ids=MISTAKES)
def test_a_run_that_would_remove_most_frames_needs_force(
    workspace: Workspace, archive: Path, mistake: Callable[[Path], dict[str, object]], text: str
) -> None:
    ingest(workspace, [archive], engine=in_process, patient_regex=BY_FOLDER)
    before = {path: path.read_bytes() for path in workspace.store.paths(FRAMES)}
    arguments = mistake(archive)
    with pytest.raises(UserError) as caught:
        ingest(workspace, [archive], engine=in_process, **arguments)  # type: ignore[arg-type]
    assert text in str(caught.value)
    assert "--force" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert {path: path.read_bytes() for path in workspace.store.paths(FRAMES)} == before
    ingest(workspace, [archive], engine=in_process, force=True, **arguments)  # type: ignore[arg-type]
    assert count(workspace) < 6


def test_half_of_the_frames_may_go(workspace: Workspace, archive: Path) -> None:
    ingest(workspace, [archive], engine=in_process, patient_regex=BY_FOLDER)
    for number in (1, 2):
        shutil.rmtree(archive / f"P{number}")
    ingest(workspace, [archive], engine=in_process, patient_regex=BY_FOLDER)
    assert count(workspace) == 6


@pytest.mark.parametrize("sample", [100, 2], ids=["every header", "a sample"])
def test_dicom_files_that_only_the_metadata_gives_a_patient(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sample: int
) -> None:
    monkeypatch.setattr(losses, "_HEADERS_MOST", sample)
    folder = tmp_path / "dicom"
    dicom_without_patient(folder, 4)
    metadata = rows_for(folder, all_names(folder))
    ingest(workspace, [folder], engine=in_process, metadata=metadata)
    frames = count(workspace)
    assert frames >= 4
    with pytest.raises(UserError, match=f"nothing names the patient of {frames}"):
        ingest(workspace, [folder], engine=in_process)
    for path in folder.glob("*.dcm"):
        image = dcmread(path)
        image.PatientID = "P7"
        image.save_as(path)
    ingest(workspace, [folder], engine=in_process)
    assert count(workspace) == frames


def test_no_warning_quotes_the_headers(workspace: Workspace, tmp_path: Path) -> None:
    toml = workspace.path / "sono.toml"
    toml.write_text(toml.read_text().replace('# missing_patient = "exclude"', 'missing_patient = "study"'))
    folder = tmp_path / "dicom"
    dicom_without_patient(folder, 1, "examples_rgb_color.dcm")
    (path,) = folder.iterdir()
    uid = dcmread(path).StudyInstanceUID.encode()
    path.write_bytes(path.read_bytes().replace(uid, b"CANARY" + uid[6:]))
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        for time in (1, 2):
            os.utime(path, (time, time))  # so that the file is read again
            ingest(open_workspace(workspace.path), [folder], engine=in_process)
    assert count(workspace) == 1
    assert not [each for each in seen if "CANARY" in str(each.message)]


def test_other_folders_and_new_ones_are_not_looked_at(workspace: Workspace, archive: Path, tmp_path: Path) -> None:
    ingest(workspace, [archive], engine=in_process, patient_regex=BY_FOLDER)
    dicom_without_patient(tmp_path / "new", 2)
    assert ingest(workspace, [tmp_path / "new"], engine=in_process)[0].run.rows == 0
    assert count(workspace) == 12

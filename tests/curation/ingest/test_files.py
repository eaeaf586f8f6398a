"""Odd names and things that are no files: none of them ends a run, and what cannot be read is counted."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sono.curation.engines.local import LocalEngine
from sono.curation.images.signatures import SIGNATURE_BYTES, read_image_file
from sono.curation.ingest.exclusions import list_exclusions
from sono.curation.ingest.run import ingest
from sono.manifests.pseudonyms import Pseudonymizer
from sono.manifests.stages import in_process
from sono.manifests.workspace import Workspace

KEYS = Pseudonymizer(bytes(32))


def test_a_name_that_is_not_utf_8_is_a_name(workspace: Workspace, archive: Path) -> None:
    (archive / "P1" / "scan0.png").rename(os.fsdecode(os.fsencode(archive / "P1") + b"/M\xfcller.png"))
    report = ingest(workspace, [archive], engine=LocalEngine(1), patient_regex=r"^(P\d)/")[0]
    assert (report.run.rows, report.run.exclusions) == (12, {})
    again = ingest(workspace, [archive], engine=in_process, patient_regex=r"^(P\d)/")[0]
    assert again.run.computed == 0


def test_an_excluded_file_with_such_a_name_can_be_listed(workspace: Workspace, archive: Path) -> None:
    Path(os.fsdecode(os.fsencode(archive / "P1") + b"/M\xfcller.png")).write_bytes(b"no image")
    ingest(workspace, [archive], engine=in_process, patient_regex=r"^(P\d)/")
    (row,) = list_exclusions(workspace, [archive])
    assert row.name == "P1/M\\udcfcller.png"
    row.name.encode("utf-8")


def test_pipes_and_links_to_nowhere_are_not_files(workspace: Workspace, archive: Path) -> None:
    os.mkfifo(archive / "P1" / "pipe.png")
    (archive / "P1" / "link.png").symlink_to(archive / "gone.png")
    report = ingest(workspace, [archive], engine=in_process, patient_regex=r"^(P\d)/")[0]
    assert (report.files, report.run.rows) == (12, 12)


def test_a_link_to_itself_is_counted_beside_metadata(workspace: Workspace, archive: Path) -> None:
    (archive / "P1" / "loop.png").symlink_to(archive / "P1" / "loop.png")
    metadata = archive / "metadata.csv"
    names = sorted(path.relative_to(archive).as_posix() for path in archive.rglob("scan*.png"))
    metadata.write_text("\n".join(["file,patient_id", *(f"{name},{name[:2]}" for name in names)]))
    report = ingest(workspace, [archive], engine=in_process, metadata=metadata)[0]
    assert report.run.rows == len(names)


def test_a_file_that_is_no_image_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "disk.iso"
    with path.open("wb") as file:
        file.truncate(2**40)  # which no memory holds; the file system does, as a hole
    content, kind = read_image_file(path)
    assert (len(content), kind) == (SIGNATURE_BYTES, None)


def test_what_lies_too_deep_for_the_system_is_counted(
    workspace: Workspace, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(archive / "P1")
    for _ in range(20):  # 20 names of 250 bytes: more than a path may have
        name = "x" * 250
        os.mkdir(name)  # noqa: PTH102 - only relative to where we are
        os.chdir(name)
    with open("deep.png", "wb") as file:  # noqa: PTH123 - as above
        file.write(b"deep")
    monkeypatch.chdir(archive)
    report = ingest(workspace, [archive], engine=in_process, patient_regex=r"^(P\d)/")[0]
    assert report.run.rows == 12
    assert report.run.exclusions == {"unreadable": 1}


@pytest.mark.parametrize("text", ["M\udcfcller", "lone \ud800 surrogate", "both \ud800 \udcfc"])
def test_any_text_has_a_pseudonym(text: str) -> None:
    assert len(KEYS.source(text)) == len(KEYS.patient("center", text)) == 32
    assert KEYS.source(text) != KEYS.source(text.encode("ascii", "replace").decode())

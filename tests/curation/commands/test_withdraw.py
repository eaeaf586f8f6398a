"""Nothing of a patient who took back the consent is left in a workspace, and nothing comes back."""

from __future__ import annotations

import json
import sqlite3
import uuid
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest

from sono.manifests.errors import UserError
from sono.manifests.journal import Journal
from sono.manifests.journal_events import NewEvent
from sono.manifests.journal_file import journal_path
from sono.manifests.schemas import CAPTIONS, FRAMES, QC, RECORDS, REGIONS, STATEMENTS, TABLES
from sono.manifests.withdrawn import read_withdrawn
from sono.manifests.workspace import Workspace

from .conftest import SonoCurate

REMEMBERED = ("withdrawn.json", "withdrawals")  # the list that keeps them out, and the proof


@pytest.fixture
def reviewed(captioned: Workspace, tmp_path: Path, sono_curate: SonoCurate) -> Workspace:
    """Every frame has a proposed mask, and every mask was rejected by somebody; reports and caches are there."""
    for patient in range(1, 5):
        for scan in range(3):
            mask = np.zeros((200, 260), np.uint8)
            cv2.circle(mask, (130, 100), 20 + 5 * patient + scan, 255, -1)
            path = tmp_path / "masks" / f"P{patient}" / f"scan{scan}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            assert cv2.imwrite(str(path), mask)
    sono_curate("masks", "import", captioned.path, tmp_path / "masks", "--structure", "heart", "--predicted")
    journal = Journal(journal_path(captioned.path))
    for row in captioned.store.read_all(REGIONS).to_pylist():
        journal.append(
            NewEvent(
                event_id=uuid.uuid4().hex, reviewer="anna", subject="region", frame_id=row["frame_id"],
                region_id=row["region_id"], structure=row["structure"], action="reject", before=row, after=row,
            ),
            expected=None,
        )  # fmt: skip
    sono_curate("masks", "check", captioned.path)  # which brings the decisions into the tables
    sono_curate("caption", captioned.path, "--records", tmp_path / "records.csv")
    (captioned.path / "cache" / "embeddings").mkdir(parents=True)
    (captioned.path / "cache" / "embeddings" / "kept.npz").write_bytes(b"of anybody")
    return captioned


def keys_of(workspace: Workspace, patient: str) -> set[str]:
    """Every key by which a row names the patient, or something of theirs."""
    number = workspace.keys.patient("", patient)
    known = workspace.keys.patient_keys(patient, center=workspace.center)
    frames = [row for row in workspace.store.read_all(FRAMES).to_pylist() if row["patient_key"] == known.patient]
    assert len(frames) == 3
    names = ("frame_id", "patient_key", "study_key", "series_key", "source_key", "source_digest", "pixel_digest")
    keys = {row[name] for row in frames for name in names if row[name]} | {number, *known}
    ids = {row["frame_id"] for row in frames}
    for table, key in ((REGIONS, "region_id"), (CAPTIONS, "caption_id")):
        keys |= {row[key] for row in workspace.store.read_all(table).to_pylist() if row["frame_id"] in ids}
    statements = workspace.store.read_all(STATEMENTS).to_pylist()
    return keys | {row["source_key"] for row in statements if row["patient_key"] in known}


def content_of(workspace: Path) -> dict[str, str]:
    """All that the files of a workspace say, Parquet and SQLite decoded, and their names."""
    found: dict[str, str] = {}
    for path in workspace.rglob("*"):
        name = str(path.relative_to(workspace))
        if path.is_dir() or name.startswith(REMEMBERED):
            continue
        raw = path.read_bytes()
        found[name] = name + raw.decode("latin-1")
        if path.suffix == ".parquet":
            found[name] += json.dumps(pq.ParquetFile(path).read().to_pylist(), default=repr)
    with sqlite3.connect(journal_path(workspace)) as database:
        found["journal"] = repr(database.execute("SELECT * FROM events").fetchall())
    return found


def found_in(content: dict[str, str], keys: set[str]) -> list[tuple[str, str]]:
    return [(name, key) for name, text in content.items() for key in keys if key in text]


def rows_of(workspace: Workspace) -> dict[str, int]:
    return {name: workspace.store.count_rows(table) for name, table in TABLES.items() if name != "exclusions"}


def test_nothing_is_left_of_who_withdraws(
    reviewed: Workspace, archive: Path, tmp_path: Path, sono_curate: SonoCurate
) -> None:
    theirs, others = keys_of(reviewed, "P2"), keys_of(reviewed, "P3")
    masks = {row["mask"]["counts"] for row in reviewed.store.read_all(REGIONS).to_pylist()}
    assert found_in(content_of(reviewed.path), theirs)
    before = rows_of(reviewed)
    (tmp_path / "gone.txt").write_text("P2\nP9\n")

    printed = sono_curate("withdraw", reviewed.path, "--patients", tmp_path / "gone.txt")
    assert "1 patients removed" in printed
    assert "1 of the list have no data here" in printed
    assert "P2" not in printed

    content = content_of(reviewed.path)
    assert found_in(content, theirs) == []
    assert {key for _, key in found_in(content, others)} >= others - {reviewed.keys.patient("", "P3")}
    assert len({row["mask"]["counts"] for row in reviewed.store.read_all(REGIONS).to_pylist()}) == len(masks) * 3 / 4
    after = rows_of(reviewed)
    assert {name: after[name] for name in before if before[name]} == {
        name: before[name] * 3 // 4 for name in before if before[name]
    }
    proof = json.loads((reviewed.path / "withdrawals" / "0001.json").read_text())
    assert len(proof["frame_ids"]) == 3
    assert set(proof["frame_ids"]) < theirs
    assert not read_withdrawn(reviewed.path).unfinished
    assert "nothing wrong" in sono_curate("check", reviewed.path)

    # Nor does anything come back.
    for name in ("frames", "statements", "records"):
        for part in (reviewed.path / name).glob("*.parquet"):
            part.unlink()  # so that all is read again
    printed = sono_curate("ingest", reviewed.path, archive, "--metadata", tmp_path / "files.csv", "--cropped")
    assert "left out 3: withdrawn" in printed
    sono_curate("qc", reviewed.path)
    sono_curate("caption", reviewed.path, "--records", tmp_path / "records.csv")
    assert found_in(content_of(reviewed.path), theirs) == []
    assert reviewed.store.count_rows(FRAMES) == reviewed.store.count_rows(QC) == 9
    assert reviewed.store.count_rows(RECORDS) > 0


def test_an_interrupted_withdrawal_resumes(
    reviewed: Workspace, tmp_path: Path, sono_curate: SonoCurate, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sono.curation.publishing import withdraw as module
    from sono.curation.publishing.patient_list import read_patients

    theirs = keys_of(reviewed, "P2")
    (tmp_path / "gone.txt").write_text("P2\n")
    real, calls = module._write, 0

    def failing(*arguments: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise OSError("pulled plug")
        real(*arguments)

    monkeypatch.setattr(module, "_write", failing)
    with pytest.raises(OSError, match="pulled plug"), reviewed.writing():
        module.withdraw(reviewed, read_patients(tmp_path / "gone.txt"))
    assert read_withdrawn(reviewed.path).unfinished
    monkeypatch.undo()
    sono_curate("withdraw", reviewed.path, "--patients", tmp_path / "gone.txt")
    assert found_in(content_of(reviewed.path), theirs) == []


@pytest.mark.parametrize("step", ["_remove", "_prove"])
def test_an_interrupted_withdrawal_knows_what_has_to_go_when_its_frames_are_gone(
    reviewed: Workspace, archive: Path, tmp_path: Path, sono_curate: SonoCurate, step: str
) -> None:
    theirs = keys_of(reviewed, "P2")
    (tmp_path / "gone.txt").write_text("P2\n")

    def failing(*_: Any, **__: Any) -> None:
        raise OSError("pulled plug")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(f"sono.curation.publishing.withdraw.{step}", failing)
        with pytest.raises(OSError, match="pulled plug"):
            sono_curate("withdraw", reviewed.path, "--patients", tmp_path / "gone.txt")
    ingest = ("ingest", reviewed.path, archive, "--metadata", tmp_path / "files.csv", "--cropped")
    with pytest.raises(UserError, match="a withdrawal was interrupted"):
        sono_curate(*ingest)
    for name in ("frames", "statements"):
        for part in (reviewed.path / name).glob("*.parquet"):
            part.unlink()
    printed = sono_curate("withdraw", reviewed.path, "--patients", tmp_path / "gone.txt")
    assert printed.startswith("1 patients removed")
    assert "An earlier run was interrupted" in printed
    assert found_in(content_of(reviewed.path), theirs) == []
    proof = json.loads((reviewed.path / "withdrawals" / "0001.json").read_text())
    assert (len(proof["frame_ids"]), len(proof["study_keys"])) == (3, 1)
    assert (proof["removed"]["patients"], proof["removed"]["unknown"]) == (1, 0)
    assert [path.name for path in (reviewed.path / "withdrawals").iterdir()] == ["0001.json"]
    assert "left out 3: withdrawn" in sono_curate(*ingest)


def test_a_number_that_two_centers_use_is_not_guessed(
    workspace: Workspace, archive: Path, tmp_path: Path, sono_curate: SonoCurate
) -> None:
    files = [f"P{patient}/scan{scan}" for patient in range(1, 5) for scan in range(3)]
    rows = [f"{file},7,{'north' if file < 'P3' else 'south'}" for file in files]
    (tmp_path / "files.csv").write_text("\n".join(["file,patient_id,center", *rows]))
    sono_curate("ingest", workspace.path, archive, "--metadata", tmp_path / "files.csv", "--cropped")
    (tmp_path / "gone.csv").write_text("7\n")
    with pytest.raises(UserError, match="used in 2 centers"):
        sono_curate("withdraw", workspace.path, "--patients", tmp_path / "gone.csv")
    (tmp_path / "gone.csv").write_text("patient_id,center\n7,north\n")
    sono_curate("withdraw", workspace.path, "--patients", tmp_path / "gone.csv")
    assert workspace.store.read_all(FRAMES, ["center"])["center"].to_pylist() == ["south"] * 6


def test_a_number_of_two_issuers_in_one_center_is_that_of_the_one_who_is_named(
    workspace: Workspace, archive: Path, tmp_path: Path, sono_curate: SonoCurate
) -> None:
    issuers = {"P1": "Hospital", "P2": "Practice", "P3": "", "P4": "Practice"}  # P3: nobody knows whose of the two
    files = [f"P{patient}/scan{scan}" for patient in range(1, 5) for scan in range(3)]
    rows = [f"{file},{8 if file > 'P4' else 7},{issuers[file[:2]]}" for file in files]
    (tmp_path / "files.csv").write_text("\n".join(["file,patient_id,issuer", *rows]))
    sono_curate("ingest", workspace.path, archive, "--metadata", tmp_path / "files.csv", "--cropped")
    by_issuer = {name: workspace.keys.patient_keys("7", issuer=name).patient for name in ("Hospital", "Practice")}
    for text in ("7\n", f"patient_id,center\n7,{workspace.center}\n"):
        (tmp_path / "gone.csv").write_text(text)
        with pytest.raises(UserError, match="used by 2 issuers of this workspace; add a column issuer"):
            sono_curate("withdraw", workspace.path, "--patients", tmp_path / "gone.csv")
    assert not (workspace.path / "withdrawn.json").exists()

    (tmp_path / "gone.csv").write_text("patient_id,issuer\n7,Hospital\n")
    printed = sono_curate("withdraw", workspace.path, "--patients", tmp_path / "gone.csv")
    assert "1 with the same number in the same center stay" in printed
    left = workspace.store.read_all(FRAMES, ["patient_key"])["patient_key"].to_pylist()
    assert len(left) == 6
    assert left.count(by_issuer["Practice"]) == 3
    assert not read_withdrawn(workspace.path).names({"patient_key": by_issuer["Practice"]})

    (tmp_path / "gone.csv").write_text("patient_id,issuer\n7,Hospital\n7,Practice\n")
    printed = sono_curate("withdraw", workspace.path, "--patients", tmp_path / "gone.csv")
    assert "stay" not in printed
    left = workspace.store.read_all(FRAMES, ["patient_key"])["patient_key"].to_pylist()
    assert left == [workspace.keys.patient_keys("8", issuer="Practice").patient] * 3


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "names nobody"),
        ("a,b\n", "several columns without names"),
        ("patient_id,centre\nP1,x\n", "did you mean 'center'"),
        ("P1;A\nP2;A\n", "several columns without names"),
        ("P1\nP2;A\n", "line 2 of the list has several columns, the first has one"),
        ("patient_id,center\nP1,North, Hospital of\n", "line 2 of the list has more columns than the first"),
        ("patient_id\nP1\nP2\tA\n", "line 3 of the list has several columns, the first has one"),
    ],
)
def test_lists_that_cannot_be_read(
    workspace: Workspace, tmp_path: Path, sono_curate: SonoCurate, text: str, said: str
) -> None:
    (tmp_path / "gone.txt").write_text(text)
    with pytest.raises(UserError, match=said):
        sono_curate("withdraw", workspace.path, "--patients", tmp_path / "gone.txt")
    assert not (workspace.path / "withdrawn.json").exists()


def test_a_list_that_is_not_there_is_said_to_be_missing(
    workspace: Workspace, tmp_path: Path, sono_curate: SonoCurate
) -> None:
    for path, said in ((tmp_path / "gone.txt", "gone.txt: file not found"), (tmp_path, "not a file")):
        with pytest.raises(UserError, match=said):
            sono_curate("withdraw", workspace.path, "--patients", path)


@pytest.mark.parametrize(("delimiter", "encoding"), [(";", "utf-8-sig"), ("\t", "utf-16"), (",", "utf-8")])
def test_a_list_may_come_from_any_spreadsheet(
    captioned: Workspace, tmp_path: Path, sono_curate: SonoCurate, delimiter: str, encoding: str
) -> None:
    lines = ["patient_id", "center"], ["P2", captioned.center], ["P3", captioned.center]
    (tmp_path / "gone.csv").write_text("\n".join(map(delimiter.join, lines)) + "\n", encoding=encoding)
    assert sono_curate("withdraw", captioned.path, "--patients", tmp_path / "gone.csv").startswith("2 patients removed")
    assert captioned.store.count_rows(FRAMES) == 6


def test_a_list_of_others_deletes_nothing_and_says_so(
    reviewed: Workspace, tmp_path: Path, sono_curate: SonoCurate
) -> None:
    (reviewed.path / "audit").mkdir()
    (reviewed.path / "audit" / "audit.json").write_text("{}")
    before = {name: text for name, text in content_of(reviewed.path).items() if "journal.sqlite" not in name}
    (tmp_path / "gone.txt").write_text("p 2\n")
    printed = sono_curate("withdraw", reviewed.path, "--patients", tmp_path / "gone.txt")
    assert printed.startswith("None of the list is known here")
    assert content_of(reviewed.path).items() >= before.items()
    assert reviewed.keys.patient("", "p 2") in read_withdrawn(reviewed.path).keys["patient_number_key"]
    assert not read_withdrawn(reviewed.path).unfinished
    (tmp_path / "gone.txt").write_text("P2\n")
    assert sono_curate("withdraw", reviewed.path, "--patients", tmp_path / "gone.txt").startswith("1 patients removed")
    assert not (reviewed.path / "audit").exists()


@pytest.mark.parametrize("how", ["older", "missing"])
def test_with_a_list_from_an_older_backup_nothing_is_written(
    reviewed: Workspace, archive: Path, tmp_path: Path, sono_curate: SonoCurate, how: str
) -> None:
    (tmp_path / "gone.txt").write_text("P2\n")
    sono_curate("withdraw", reviewed.path, "--patients", tmp_path / "gone.txt")
    older = (reviewed.path / "withdrawn.json").read_bytes()
    (tmp_path / "gone.txt").write_text("P3\n")
    sono_curate("withdraw", reviewed.path, "--patients", tmp_path / "gone.txt")
    newest = (reviewed.path / "withdrawn.json").read_bytes()
    (reviewed.path / "withdrawn.json").unlink()
    if how == "older":
        (reviewed.path / "withdrawn.json").write_bytes(older)
    command = ("ingest", reviewed.path, archive, "--metadata", tmp_path / "files.csv", "--cropped")
    with pytest.raises(UserError, match="took back their consent is older than withdrawals/"):
        sono_curate(*command)
    (reviewed.path / "withdrawn.json").write_bytes(newest)
    assert "left out" in sono_curate(*command) or reviewed.store.count_rows(FRAMES) == 6

"""The audit passes on a clean workspace, and fails by name on each fault that is put back on purpose."""

from __future__ import annotations

import datetime
import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pydicom
import pytest
from typer.testing import CliRunner

from sono.curation.audit.checks import pixel_checks
from sono.curation.audit.checks.cleaned import sector_area
from sono.curation.audit.checks.readable_text import Text
from sono.curation.audit.findings import ACTIONS
from sono.curation.audit.report.result import AuditReport, latest_audit
from sono.curation.audit.run import audit
from sono.curation.cli import app
from sono.curation.commands import options
from sono.curation.ingest.files import find_files
from sono.curation.ingest.run import ingest
from sono.curation.publishing.patient_list import ListedPatient
from sono.curation.publishing.withdraw import withdraw
from sono.curation.qc.run import qc
from sono.manifests.errors import UserError
from sono.manifests.schemas import EXCLUSIONS, FRAMES, QC
from sono.manifests.stages import in_process
from sono.manifests.store import PartInfo
from sono.manifests.withdrawn import PATIENT_COLUMNS, Withdrawn
from sono.manifests.workspace import Workspace

from .conftest import Audited, Row, repaint

pytestmark = pytest.mark.slow


def failed(report: AuditReport) -> set[tuple[str, str]]:
    return {(reason.action, reason.reason) for reason in report.failures}


def first(change: Callable[[Row], object]) -> Callable[[list[Row]], object]:
    """A change of the first row of a part only."""
    return lambda rows: change(rows[0])


def header(audited: Audited, row: Row) -> pydicom.Dataset:
    """What the file of a row says."""
    keys = audited.workspace.keys
    for frame in audited.phantom.frames:
        if keys.source(frame["file"].partition("/")[2]) == row["source_key"]:
            return pydicom.dcmread(audited.phantom.path(frame["file"]), stop_before_pixels=True)
    raise AssertionError("a frame of no file")


def test_a_clean_workspace_passes_and_every_action_judges_something(audited: Audited) -> None:
    found = latest_audit(audited.workspace)
    assert found is not None
    assert found.up_to_date
    assert found.report.passed
    assert set(found.report.actions) == set(ACTIONS)
    assert len(ACTIONS) == 10
    assert all(counts.passed for counts in found.report.actions.values())
    assert found.report.frames == len(audited.workspace.store.read_all(FRAMES, ["frame_id"]))


# One fault for each action: what is done to the rows of ``frames``, the action that must fail, and its reason.
Fault = Callable[[Audited], object]


def lose_a_pixel_size(audited: Audited) -> None:
    audited.edit(first(lambda row: row.update(pixel_mm_x=(row["pixel_mm_x"] or 0.2) * 1.01)))


def lose_a_series(audited: Audited) -> None:
    audited.edit(first(lambda row: row.update(series_key=None)))


def change_a_scanner(audited: Audited) -> None:
    audited.edit(first(lambda row: row.update(model="Voluson E8" if row["model"] != "Voluson E8" else "EPIQ 7")))


def name_a_patient_in_a_report(audited: Audited) -> None:
    row = audited.workspace.store.read_all(FRAMES).to_pylist()[0]
    family = str(header(audited, row).PatientName).partition("^")[0]
    page = audited.workspace.reports / "qc.html"
    page.write_text(page.read_text() + f"<p>scan of Mrs {family.title()}, blurred</p>")


def leave_dates_unshifted(audited: Audited) -> None:
    def change(rows: list[Row]) -> None:
        for row in rows:
            day = datetime.datetime.strptime(header(audited, row).StudyDate, "%Y%m%d").date()
            row["study_day"] = day.toordinal() - datetime.date(1900, 1, 1).toordinal()

    audited.edit(change)


def write_a_uid(audited: Audited) -> None:
    audited.edit(first(lambda row: row.update(plane_source=f"header of {header(audited, row).SOPInstanceUID}")))


def split_a_study(audited: Audited) -> None:
    audited.edit(first(lambda row: row.update(study_key="5" * 32)))


def split_a_patient(audited: Audited) -> None:
    audited.edit(first(lambda row: row.update(patient_key="6" * 32)))


def change_a_pixel_of_tissue(audited: Audited) -> None:
    def paint(pixels: Any) -> Any:
        pixels[pixels.shape[0] // 2, pixels.shape[1] // 2] ^= 1
        return pixels

    audited.edit(first(lambda row: repaint(row, paint, audited.workspace)))


def leave_a_name_over_the_ultrasound(audited: Audited) -> None:
    """As if the detector had not seen it."""
    keys, phantom = audited.workspace.keys, audited.phantom
    named = {text["file"] for text in phantom.texts if text["identity"] and text["inside"]}
    originals = {
        (keys.source(row["file"].partition("/")[2]), row["frame_index"]): row
        for row in phantom.frames
        if row["file"] in named
    }

    def change(rows: list[Row]) -> None:
        for row in rows:
            true = originals.get((row["source_key"], row["frame_index"]))
            if true is not None and row["burned_in_text"] == "removed":
                x, y, width, height = row["crop"]
                area = sector_area(row["sectors"], height, width)
                original = phantom.pixels(true)[y : y + height, x : x + width]
                repaint(row, lambda _, kept=(original.T * area.T).T: kept, audited.workspace)  # type: ignore[misc]
                row.update(text_boxes=[], mark_boxes=[], edited_fraction=0.0, burned_in_text="none")

    audited.edit(change)


FAULTS: dict[str, tuple[Fault, str]] = {
    "tag_retained": (lose_a_pixel_size, "another_pixel_mm_x"),
    "text_not_null": (lose_a_series, "series_key_is_empty"),
    "text_retained": (change_a_scanner, "another_model"),
    "text_removed": (name_a_patient_in_a_report, "PatientName"),
    "date_shifted": (leave_dates_unshifted, "dates_are_not_shifted"),
    "uid_changed": (write_a_uid, "a_uid_of_the_source"),
    "uid_consistent": (split_a_study, "several_study_keys_for_one"),
    "patient_id_consistent": (split_a_patient, "several_patient_keys_for_one"),
    "pixels_retained": (change_a_pixel_of_tissue, "pixels_changed_in_the_sector"),
    "pixels_hidden": (leave_a_name_over_the_ultrasound, "what_the_source_says_can_be_read"),
}


def test_there_is_a_fault_for_every_action() -> None:
    assert set(FAULTS) == set(ACTIONS)


@pytest.mark.parametrize("action", FAULTS)
def test_a_fault_put_back_on_purpose_fails_by_name(audited: Audited, action: str) -> None:
    fault, reason = FAULTS[action]
    fault(audited)
    report = audited.audit()
    assert not report.passed
    assert (action, reason) in failed(report)
    wrong = {name for name, counts in report.actions.items() if counts.failed}
    assert wrong == {action}


def test_the_corner_of_a_screen_that_was_left_is_found(audited: Audited) -> None:
    def paint(pixels: Any) -> Any:
        cv2.putText(pixels, "DOE, JANE", (4, 16), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (255, 255, 255))
        return pixels

    audited.edit(first(lambda row: repaint(row, paint, audited.workspace)))
    frames = {row["frame_id"] for row in audited.workspace.store.read_all(FRAMES).to_pylist()}
    failures = {reason.reason: reason for reason in audited.audit().failures}
    assert set(failures["not_blank_outside_the_sector"].examples) <= frames
    assert len(failures["not_blank_outside_the_sector"].examples) == 2  # one in each part


def test_without_a_reader_the_audit_says_how_to_get_it(audited: Audited, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sono.curation.cleaning.required.LANGUAGE", "none")
    with pytest.raises(UserError, match=r"none\.traineddata was not found") as caught:
        audited.audit()
    assert caught.value.fix


def test_identifying_text_in_a_table_is_named_by_its_attribute_and_never_quoted(audited: Audited) -> None:
    keys = audited.workspace.keys
    files = {
        keys.source(row["file"].partition("/")[2]): row["file"].partition("/")[2] for row in audited.phantom.frames
    }

    def change(row: Row) -> None:
        said = header(audited, row)
        row["mode"] = str(said.PatientID)
        row["series_key"] = str(said.PatientID).lower()
        row["center"] = said.PatientName.given_name
        row["plane_source"] = str(said.AccessionNumber)
        row["plane"] = f"x{said.ReferringPhysicianName.family_name.upper()}x"
        row["model"] = Path(files[row["source_key"]]).parent.as_posix()

    audited.edit(first(change))
    report = audited.audit()
    places = {(reason.table, reason.reason) for reason in report.failures if reason.action == "text_removed"}
    assert {
        ("frames.mode", "PatientID"),
        ("frames.series_key", "PatientID"),
        ("frames.center", "PatientName"),
        ("frames.plane_source", "AccessionNumber"),
        ("frames.plane", "ReferringPhysicianName"),
        ("frames.model", "path"),
    } <= places
    results = (audited.workspace.path / "audit" / "audit.json", audited.workspace.reports / "audit.html")
    written = "".join(path.read_text() for path in results)
    for file in {row["file"] for row in audited.phantom.frames}:
        data = pydicom.dcmread(audited.phantom.path(file), stop_before_pixels=True)
        for text in (data.PatientID, data.PatientName.family_name, data.AccessionNumber, data.StudyInstanceUID):
            assert str(text) not in written


def test_dates_are_found_in_any_notation(audited: Audited) -> None:
    forms = {"mode": "%Y%m%d", "model": "%d.%m.%Y", "plane": "%Y-%m-%d", "plane_source": "%m/%d/%Y"}

    def change(row: Row) -> None:
        day = datetime.datetime.strptime(header(audited, row).PatientBirthDate, "%Y%m%d")
        row.update({column: f"born {day:{form}}" for column, form in forms.items()})

    audited.edit(first(change))
    found = {reason.table for reason in audited.audit().failures if reason.reason == "a_date_of_the_source"}
    assert found == {f"frames.{column}" for column in forms}


def test_only_the_date_on_which_a_page_was_written_may_be_on_it(audited: Audited) -> None:
    page = audited.workspace.reports / "cleaning.html"
    written = page.read_text()
    assert '<time class="written">' in written
    for added in ("2024-05-31", "<time>2024-05-31</time>", '<time class="written">born 2024-05-31</time>'):
        page.write_text(f"{written}<p>{added}</p>")
        assert ("date_shifted", "a_readable_date") in failed(audited.audit())


def test_a_changed_interval_between_two_examinations_is_found(audited: Audited) -> None:
    audited.edit(first(lambda row: row.update(study_day=row["study_day"] + 1)))
    assert {("date_shifted", "not_the_patients_calendar"), ("date_shifted", "intervals_have_changed")} <= failed(
        audited.audit()
    )


def test_two_patients_under_one_key_are_found(audited: Audited) -> None:
    audited.edit(lambda rows: [row.update(patient_key="7" * 32) for row in rows])
    assert ("patient_id_consistent", "one_patient_key_for_several") in failed(audited.audit())


def test_a_plain_digest_of_an_identifier_is_found(audited: Audited) -> None:
    def change(row: Row) -> None:
        row["series_key"] = hashlib.md5(header(audited, row).SeriesInstanceUID.encode()).hexdigest()

    audited.edit(first(change))
    assert ("uid_changed", "a_plain_digest_of_the_source") in failed(audited.audit())


def test_a_frame_that_is_lost_is_found_even_if_a_text_stands_beside_its_file(audited: Audited) -> None:
    lost = next(row for row in audited.workspace.store.read_all(FRAMES).to_pylist() if row["frame_index"] == 2)

    store = audited.workspace.store
    beside = {**store.read_all(EXCLUSIONS).to_pylist()[0], "source_key": lost["source_key"]}
    beside |= {"frame_index": None, "reason": "not_an_image"}
    store.write_exclusions(PartInfo("beside", "ingest", "f", "s", 1), EXCLUSIONS.from_rows([beside]))
    assert audited.audit().passed
    audited.edit(lambda rows: [rows.remove(row) for row in rows if row["frame_id"] == lost["frame_id"]])
    assert ("tag_retained", "frames_neither_stored_nor_left_out") in failed(audited.audit())


def test_values_that_two_frames_swap_are_found_by_the_next_audit(audited: Audited) -> None:
    def swap(rows: list[Row]) -> None:
        timed = [row for row in rows if row["frame_time_ms"] is not None]
        if timed:
            one, other = timed[1], timed[2]
            one["frame_time_ms"], other["frame_time_ms"] = other["frame_time_ms"], one["frame_time_ms"]

    audited.edit(swap)
    assert ("tag_retained", "another_frame_time_ms") in failed(audited.audit())


def test_a_plain_digest_of_the_source_is_found(audited: Audited) -> None:
    keys = audited.workspace.keys
    paths = {keys.source(row["file"].partition("/")[2]): row["file"] for row in audited.phantom.frames}

    def change(row: Row) -> None:
        content = audited.phantom.path(paths[row["source_key"]]).read_bytes()
        row["source_digest"] = hashlib.sha256(content).hexdigest()[:32]

    audited.edit(first(change))
    assert ("uid_changed", "a_plain_digest_of_the_source") in failed(audited.audit())


def test_text_chunks_in_a_stored_image_are_found(audited: Audited) -> None:
    def change(row: Row) -> None:
        png = row["image"]["bytes"]
        chunk = cv2.imencode(".png", np.zeros((1, 1), np.uint8))[1].tobytes()[8:33]  # a second header
        row["image"] = {"bytes": png[:-12] + chunk.replace(b"IHDR", b"tEXt") + png[-12:], "path": None}

    audited.edit(first(change))
    assert ("text_removed", "stored_image_holds_more_than_pixels") in failed(audited.audit())


def test_frames_not_shown_clean_fail_unless_quality_control_holds_them_back(audited: Audited) -> None:
    audited.edit(lambda rows: [row.update(burned_in_text="unchecked") for row in rows])
    assert failed(audited.audit()) == {("pixels_hidden", "accepted_but_not_shown_clean")}
    ids = {row["frame_id"] for row in audited.workspace.store.read_all(FRAMES).to_pylist()}
    audited.edit(lambda rows: [row.update(verdict="review") for row in rows if row["frame_id"] in ids], QC)
    report = audited.audit()
    assert report.passed
    assert any(reason.reason == "for_review" for reason in report.empty)


def test_an_audit_of_other_files_is_stale(audited: Audited) -> None:
    keys = audited.workspace.keys
    files = [file for source in audited.sources for file in find_files(source, keys)]
    for listed, up_to_date in ((files, True), (files[:-1], False)):
        found = latest_audit(audited.workspace, listed)
        assert found is not None
        assert found.up_to_date is up_to_date


def test_an_audit_of_other_tables_is_stale(audited: Audited) -> None:
    audited.edit(first(lambda row: row.update(plane=None, plane_source=None)))
    found = latest_audit(audited.workspace)
    assert found is not None
    assert not found.up_to_date


def test_running_again_audits_only_what_has_changed(audited: Audited) -> None:
    computed: list[int] = []

    def engine(function: Callable[[Any], Any], arguments: Any) -> Any:
        computed.append(len(arguments))
        return map(function, arguments)

    before = (audited.workspace.path / "audit" / "audit.json").read_bytes()
    audit(audited.workspace, audited.sources, engine=engine, centers=["north", "south"])
    assert computed[-1] == 0
    assert (audited.workspace.path / "audit" / "audit.json").read_bytes() == before


def test_images_without_text_are_not_read_again(audited: Audited, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[object] = []
    monkeypatch.setattr(pixel_checks, "read_text", lambda pixels, _: read.append(pixels) or Text([], False))
    audited.edit(lambda rows: [row.update(verdict="review") for row in rows], QC)
    assert audited.audit().passed
    assert len(read) <= 1  # of 23: where a single letter was read
    leave_a_name_over_the_ultrasound(audited)
    read.clear()
    audited.audit()
    assert read


def test_frames_of_a_folder_that_was_not_given_are_refused(audited: Audited) -> None:
    with pytest.raises(UserError, match="that were ingested are in none of these folders"):
        audited.audit(audited.sources[:1])


def test_a_file_that_was_changed_or_never_ingested_is_found(audited: Audited, tmp_path: Path) -> None:
    copies = [Path(shutil.copytree(source, tmp_path / source.name)) for source in audited.sources]
    files = sorted(path for path in copies[0].rglob("*") if path.is_file())
    data = pydicom.dcmread(files[0])
    data.InstitutionName = "Elsewhere"
    data.save_as(files[0])
    shutil.copy(files[1], files[1].with_name("IM9999.dcm"))
    assert {
        ("pixels_retained", "the_source_has_changed"),
        ("tag_retained", "the_file_is_not_in_the_workspace"),
    } == failed(audited.audit(copies))


def test_images_described_by_a_csv_are_audited_against_it(workspace: Workspace, archive: Path, tmp_path: Path) -> None:
    csv = tmp_path / "files.csv"
    lines = ["file,patient_id,plane,date", "nowhere.png,Ghostwriter77,,"]
    lines += [
        f"P{patient}/scan{scan},Jansen-{patient}77,femur,2024-05-1{scan}"
        for patient in range(1, 5)
        for scan in range(3)
    ]
    csv.write_text("\n".join(lines))
    ingest(workspace, [archive], metadata=csv, engine=in_process)
    audited = Audited(workspace, None)  # type: ignore[arg-type]
    report = audited.audit([archive], metadata=csv)
    assert report.passed, report.failures
    assert any(reason.reason == "the_file_has_no_uid" for reason in report.empty)
    left_out = {("patient_id_consistent", "patient_number_key_stands_for_nothing_in_the_source")}
    assert failed(audited.audit([archive])) >= left_out  # the metadata was not given
    audited.edit(first(lambda row: row.update(plane_source="ghostwriter77")))
    assert ("text_removed", "metadata_patient_id") in failed(audited.audit([archive], metadata=csv))


def test_names_in_records_must_not_be_in_the_workspace(audited: Audited) -> None:
    records = sorted((audited.phantom.out / "records").iterdir())
    assert audited.audit(records=records).passed
    with pytest.raises(UserError, match="records not found"):
        audited.audit(records=[*records, audited.workspace.path / "nothing"])
    row = json.loads(next(iter((audited.phantom.out / "records" / "fhir").rglob("*.json"))).read_text())
    names = [entry["resource"]["name"][0] for entry in row["entry"] if entry["resource"]["resourceType"] == "Patient"]
    page = audited.workspace.reports / "qc.html"
    page.write_text(page.read_text() + f"<p>{names[0]['family']}</p>")
    assert ("text_removed", "records") in failed(audited.audit(records=records))


def test_the_command_names_what_failed_and_exits_with_1(audited: Audited, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(options, "local_engine", lambda _: in_process)
    words = ["audit", str(audited.workspace.path), *map(str, audited.sources), "--center", "south"]
    done = CliRunner().invoke(app, words, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert done.stdout.rstrip().endswith(f"Passed. Look at {audited.workspace.reports / 'audit.html'}")
    write_a_uid(audited)
    done = CliRunner().invoke(app, words, catch_exceptions=False)
    assert done.exit_code == 1
    assert "failed: uid_changed in frames.plane_source: a_uid_of_the_source (" in done.stdout
    found = json.loads(CliRunner().invoke(app, [*words, "--json"]).stdout)
    assert (found["passed"], found["actions"]["uid_changed"]["failed"] > 0) == (False, True)


def test_files_of_patients_who_have_withdrawn_may_stay_in_the_archive(audited: Audited) -> None:
    file = next(path for path in sorted(audited.sources[0].rglob("*.dcm")))
    number = str(pydicom.dcmread(file, stop_before_pixels=True).PatientID)
    with audited.workspace.writing():
        withdraw(audited.workspace, [ListedPatient(1, number)])
    qc(audited.workspace, engine=in_process)
    report = audited.audit()
    assert report.passed, report.failures
    assert any(reason.reason == "the_patient_has_withdrawn" for reason in report.empty)


def test_a_patient_who_has_withdrawn_must_not_be_in_the_workspace(audited: Audited) -> None:
    row = audited.workspace.store.read_all(FRAMES, list(PATIENT_COLUMNS)).to_pylist()[0]
    withdrawn = Withdrawn().with_keys({"patient_key": frozenset({row["patient_key"]})})
    (audited.workspace.path / "withdrawn.json").write_text(json.dumps(withdrawn.as_json()))
    assert ("text_removed", "a_patient_who_has_withdrawn") in failed(audited.audit())

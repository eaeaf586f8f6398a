"""Every listed fault is in its file, and no others; ingest notices those that it can."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pydicom
import pytest

from sono.curation.cleaning.sectors import geometry
from sono.curation.cleaning.sectors.geometry import Sector
from sono.curation.images.stored_png import decode_png
from sono.curation.phantom.faults import EXAM_FAULTS, FILE_FAULTS
from tests.curation.phantom.archive import Curated, Phantom, Row, curate, many_exams, texts_of
from tests.curation.phantom.screens import as_rgb, furniture, grown, sector_mask

SECTOR_PX = 12
"""px between the box of a sector that is found and of the one that was drawn, at most."""

EXCLUDED_FOR = {
    "truncated_file": {"damaged_dicom", "no_pixels", "undecodable"},
    "empty_file": {"empty_file"},
    "not_dicom": {"not_an_image"},
    "no_patient_id": {"patient_unknown"},
}


def test_ingest_excludes_the_damaged_files_and_no_others(phantom_archive: Phantom, curated: Curated) -> None:
    damaged = {curated.key(file): fault for fault in EXCLUDED_FOR for file in phantom_archive.fault(fault)}
    assert set(damaged.values()) == EXCLUDED_FOR.keys()
    unwanted = {curated.key(row["file"]) for row in phantom_archive.frames if is_left_out_by_cleaning(row)}
    assert damaged.keys() <= curated.exclusions.keys() <= damaged.keys() | unwanted
    for key in curated.exclusions.keys() - damaged.keys():
        assert curated.exclusions[key]["reason"] in ("mode_not_wanted", "no_ultrasound")
    for key, fault in damaged.items():
        assert curated.exclusions[key]["reason"] in EXCLUDED_FOR[fault]
        assert not any(source == key for source, _ in curated.frames)


def test_ingest_reads_sound_files_as_the_truth_describes_them(phantom_archive: Phantom, curated: Curated) -> None:
    assert_frames_agree_with_the_truth(phantom_archive, curated)


def test_ingest_ignores_a_region_outside_the_image(other_archive: Phantom, tmp_path: Path) -> None:
    assert other_archive.fault("regions_outside")
    assert_frames_agree_with_the_truth(other_archive, curate(other_archive, tmp_path / "workspace"))


def is_left_out_by_cleaning(row: Row) -> bool:
    return row["fault"] == "black_frame" or row["mode"] in ("m_mode", "spectral", "volume")


def assert_frames_agree_with_the_truth(archive: Phantom, curated: Curated) -> None:
    keys = curated.workspace.keys
    rows = [row for row in archive.frames if row["fault"] != "no_patient_id"]
    wanted = {(curated.key(row["file"]), row["frame_index"]) for row in rows if not is_left_out_by_cleaning(row)}
    assert wanted <= curated.frames.keys()
    for row in rows:
        if (curated.key(row["file"]), row["frame_index"]) not in wanted:
            continue
        frame = curated.frames[curated.key(row["file"]), row["frame_index"]]
        without_regions = row["fault"] in ("no_regions", "regions_outside")
        boxes = np.array([sector["box"] for sector in row["sectors"]])
        corner, end = boxes[:, :2].min(axis=0), (boxes[:, :2] + boxes[:, 2:]).max(axis=0)
        x, y, width, height = frame["crop"]
        if not frame["cleaning_reasons"]:
            assert np.allclose((x, y, x + width, y + height), (*corner, *end), atol=SECTOR_PX), row["file"]
            assert frame["mode"] == row["mode"]
        shown = as_rgb(archive.pixels(row)[y : y + height, x : x + width])
        stored = as_rgb(decode_png(frame["image"]["bytes"]))
        inside = geometry.sector_mask([Sector.from_row(sector) for sector in frame["sectors"]], height, width)
        painted = np.zeros(inside.shape, np.bool_)
        for left, top, across, down in (*frame["text_boxes"], *frame["mark_boxes"]):
            painted[top : top + down, left : left + across] = True
        assert np.array_equal(stored[inside & ~painted], shown[inside & ~painted])
        assert not np.any(stored[~inside])
        assert frame["plane"] == (None if row["fault"] == "no_plane" else row["plane"])
        for spacing in (frame["pixel_mm_x"], frame["pixel_mm_y"]):
            assert spacing is None if without_regions else abs(spacing - row["pixel_mm"]) < 1e-6, row["file"]
        patient = keys.patient_keys(row["patient_id"], center=row["center"]).patient
        assert (frame["center"], frame["patient_key"]) == (row["center"], patient)
        assert frame["study_key"] == keys.study(row["study_uid"])


@pytest.mark.parametrize("name", ["phantom_archive", "other_archive"])
@pytest.mark.slow
def test_headers_have_the_listed_faults(name: str, request: pytest.FixtureRequest) -> None:
    archive: Phantom = request.getfixturevalue(name)
    headers = {
        row["file"]: pydicom.dcmread(archive.path(row["file"]), stop_before_pixels=True) for row in archive.frames
    }
    assert {file for file, header in headers.items() if not header.PatientID} == set(archive.fault("no_patient_id"))
    renderings = {row["file"] for row in archive.frames if row["mode"] == "volume"}
    without_view = {file for file, header in headers.items() if "ViewCodeSequence" not in header}
    assert without_view == {*archive.fault("no_plane"), *renderings}
    regions = {file: header.get("SequenceOfUltrasoundRegions", []) for file, header in headers.items()}
    assert {file for file, items in regions.items() if not items} == set(archive.fault("no_regions"))
    outside = {
        file for file, items in regions.items() for item in items if item.RegionLocationMaxX1 >= headers[file].Columns
    }
    assert outside == set(archive.fault("regions_outside"))


def test_the_sector_of_a_black_frame_is_black(phantom_archive: Phantom) -> None:
    rows = [row for row in phantom_archive.frames if row["fault"] == "black_frame"]
    assert {row["file"] for row in rows} == set(phantom_archive.fault("black_frame"))
    assert rows
    for row in rows:
        seen = sector_mask(row) & ~grown(furniture(phantom_archive, row), 8)
        assert np.count_nonzero(seen) > 1000
        assert phantom_archive.pixels(row)[seen].max() <= 3
        assert row["structures"] == []


def test_a_black_frame_shows_neither_flow_nor_measurements() -> None:
    black = [image for exam in many_exams() for image in exam.images if image.fault == "black_frame"]
    assert len(black) > 5
    assert not [image for image in black if image.measured or image.mode == "color_doppler"]


def test_a_file_under_the_wrong_patient_shows_the_other_one(phantom_archive: Phantom) -> None:
    files = phantom_archive.fault("filed_under_two_patients")
    assert files
    original = {row["file"]: row["original"] for row in phantom_archive.duplicates}
    for file in files:
        header = pydicom.dcmread(phantom_archive.path(file), stop_before_pixels=True)
        shown = pydicom.dcmread(phantom_archive.path(original[file]), stop_before_pixels=True)
        assert header.PatientID != shown.PatientID
        assert f"ID {shown.PatientID}" in [text["text"] for text in texts_of(phantom_archive, file)]


def test_faults_are_listed_with_their_examination_and_meaning(phantom_archive: Phantom) -> None:
    planned = Counter((exam.record.study_uid, fault) for exam in phantom_archive.exams for fault in exam.faults)
    planned += Counter(
        (exam.record.study_uid, image.fault) for exam, image in phantom_archive.plans.values() if image.fault
    )
    assert Counter((row["study_uid"], row["fault"]) for row in phantom_archive.faults) == planned
    meanings = {**FILE_FAULTS, **EXAM_FAULTS}
    assert all(row["meaning"] == meanings[row["fault"]] for row in phantom_archive.faults)
    assert all(phantom_archive.path(row["file"]).is_file() for row in phantom_archive.faults if row["file"])

"""The truth is complete: it lists every file and every frame, as they were planned."""

from __future__ import annotations

from tests.curation.phantom.archive import (
    EVERYTHING,
    EXAMS,
    OTHER_SEED,
    SEED,
    VOCABULARY,
    Phantom,
    every_file,
    planned_kinds,
)


def test_the_archive_has_one_of_everything() -> None:
    missing = EVERYTHING - planned_kinds(SEED, EXAMS) - planned_kinds(OTHER_SEED, 1)
    assert not missing, "choose another SEED or OTHER_SEED"


def test_the_truth_lists_every_file_and_no_others(phantom_archive: Phantom) -> None:
    files = {
        path.relative_to(phantom_archive.out / "dicom").as_posix() for path in every_file(phantom_archive.out, "dicom")
    }
    undrawn = {file for fault in ("truncated_file", "empty_file", "not_dicom") for file in phantom_archive.fault(fault)}
    assert {row["file"] for row in phantom_archive.frames} == files - undrawn
    assert undrawn < files
    assert len({(row["file"], row["frame_index"]) for row in phantom_archive.frames}) == len(phantom_archive.frames)


def test_the_truth_agrees_with_the_plan_of_every_frame(phantom_archive: Phantom) -> None:
    for row in phantom_archive.frames:
        exam, image = phantom_archive.plans[row["file"]]
        shown = phantom_archive.exams[image.exam]
        pixels = phantom_archive.pixels(row)
        assert (row["height"], row["width"]) == pixels.shape[:2]
        assert (row["plane"], row["mode"], row["fault"]) == (image.shown_plane, image.mode, image.fault)
        assert (row["center"], row["ga_days"]) == (exam.record.center.center, shown.record.ga_days)
        assert (row["patient_id"], row["study_uid"]) == (exam.record.patient.patient_id, exam.record.study_uid)
        found = {
            name for file, index, name in phantom_archive.masks if (file, index) == (row["file"], row["frame_index"])
        }
        own = VOCABULARY.planes[image.plane].structures
        order = [*own, *(name for name in VOCABULARY.structures if name not in own)]
        assert row["structures"] == [name for name in order if name in found]
        assert not found & image.missing

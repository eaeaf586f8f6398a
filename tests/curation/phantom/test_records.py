"""Clinical records agree with the images, except where a conflict is listed."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator

import cv2
import numpy as np
import numpy.typing as npt
import pydicom
import pytest

from sono.curation.phantom.drawing import annotations
from sono.curation.phantom.drawing.frames import draw_image
from sono.curation.phantom.image_plans import MEASURED
from tests.curation.phantom.archive import Mask, Phantom, Row, many_exams, stills, texts_of
from tests.curation.phantom.screens import grown, sector_mask

AXIAL = ("transventricular", "transthalamic", "transcerebellar")


def test_an_examination_without_a_record_is_in_no_form_of_record(phantom_archive: Phantom) -> None:
    missing = {row["study_uid"] for row in phantom_archive.faults if row["fault"] == "missing_record"}
    every = {exam.record.study_uid for exam in phantom_archive.exams}
    assert missing
    assert missing < every
    reports = [pydicom.dcmread(path) for path in (phantom_archive.out / "records" / "sr").rglob("*.dcm")]
    bundles = [path.read_text(encoding="utf-8") for path in (phantom_archive.out / "records" / "fhir").rglob("*.json")]
    assert {row["study_id"] for row in csv_rows(phantom_archive)} == every - missing
    assert {str(report.StudyInstanceUID) for report in reports} == every - missing
    assert {study for study in every if any(study in bundle for bundle in bundles)} == every - missing
    assert len(reports) == len(bundles) == len(every - missing)


def test_ages_in_the_records_agree_with_the_images_and_conflict_where_listed(phantom_archive: Phantom) -> None:
    shown = {
        row["study_uid"]: row["ga_days"] for row in phantom_archive.frames if row["fault"] != "filed_under_two_patients"
    }
    conflicting: set[str] = set()
    for row in csv_rows(phantom_archive):
        if row["plane"]:
            continue
        assert int(row["ga_days"]) == shown[row["study_id"]]
        weeks, days = map(int, row["ga_weeks_by_lmp"].split("+"))
        difference = abs(7 * weeks + days - int(row["ga_days"]))
        assert difference <= 3 or difference > 21
        conflicting |= {row["study_id"]} if difference > 21 else set()
    listed = {row["study_uid"] for row in phantom_archive.faults if row["fault"] == "conflicting_gestational_age"}
    missing = {row["study_uid"] for row in phantom_archive.faults if row["fault"] == "missing_record"}
    assert conflicting == listed - missing
    assert conflicting


def test_records_name_the_structures_that_the_images_show(phantom_archive: Phantom) -> None:
    seen: dict[tuple[str, str], set[str]] = {}
    for row in phantom_archive.frames:
        if row["fault"] not in ("filed_under_two_patients", "black_frame"):
            seen.setdefault((row["study_uid"], row["plane"]), set()).update(row["structures"])
    missing = {row["study_uid"] for row in phantom_archive.faults if row["fault"] == "missing_record"}
    views = {
        (row["study_id"], row["plane"]): set(filter(None, row["structures_seen"].split(";")))
        for row in csv_rows(phantom_archive)
        if row["plane"]
    }
    assert views == {key: structures for key, structures in seen.items() if key[0] not in missing}
    assert len(views) > 60


@pytest.mark.parametrize(
    ("fact", "structure", "planes", "size", "tolerance"),
    [
        ("hc_mm", "head", AXIAL, "around", 0.03),
        ("bpd_mm", "head", AXIAL, "short", 0.03),
        ("ac_mm", "abdomen", ("abdominal_circumference", "gallbladder"), "around", 0.04),
        ("fl_mm", "femur", ("femur",), "long", 0.04),
        ("hl_mm", "humerus", ("humerus",), "long", 0.04),
        ("tcd_mm", "cerebellum", ("transcerebellar",), "long", 0.06),
        ("crl_mm", "fetus", ("crl",), "long", 0.04),
        ("nt_mm", "nuchal_translucency", ("nt",), "thick", 0.12),
    ],
)
def test_sizes_in_the_records_can_be_measured_on_the_masks(
    phantom_archive: Phantom, fact: str, structure: str, planes: tuple[str, ...], size: str, tolerance: float
) -> None:
    shares = [
        sizes_mm(mask, row["pixel_mm"])[size] / phantom_archive.exams[row["exam"]].record.biometry_mm[fact]
        for row, mask in uncut_masks(phantom_archive, structure, planes)
    ]
    assert shares
    assert abs(np.mean(shares) - 1) < tolerance, shares


def uncut_masks(archive: Phantom, structure: str, planes: Iterable[str]) -> Iterator[tuple[Row, Mask]]:
    """A structure's masks that are not cut off by the sector."""
    for row in stills(archive):
        mask = archive.masks.get((row["file"], 0, structure))
        if row["plane"] in planes and mask is not None and not np.any(grown(mask, 2) & ~sector_mask(row)):
            yield row, mask


def sizes_mm(mask: Mask, mm: float) -> dict[str, float]:
    """Sizes of a mask's convex hull, and the mask's greatest thickness.

    Masks include the pixels on their outline, so it runs through the centres of the outermost ones.
    """
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    hull = cv2.convexHull(np.concatenate(contours))
    _, sides, _ = cv2.minAreaRect(hull)
    thickness = 2 * float(cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, 5).max()) - 2
    sizes = {"around": cv2.arcLength(hull, True), "long": max(sides), "short": min(sides), "thick": thickness}
    return {name: size * mm for name, size in sizes.items()}


@pytest.mark.slow
def test_calipers_stand_as_far_apart_as_their_value_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawn for many examinations, since few screens have calipers."""
    placed: list[npt.NDArray[np.float64]] = []
    monkeypatch.setattr(annotations, "draw_caliper", lambda _, points, style: placed.append(points))
    shares: dict[str, list[float]] = {}
    for exam in many_exams()[:200]:
        for image in exam.images:
            names = [name for name, _, _ in MEASURED.get(image.plane, ()) if name not in ("HC", "AC")]
            if (
                not image.measured
                or image.inside
                or image.fault
                or image.duplicate
                or not names
                or len(shares.get(names[0], ())) == 3
            ):
                continue
            placed.clear()
            drawn = draw_image(exam, image)
            values = {
                text.text.split()[0]: float(text.text.split()[1]) for text in drawn.texts if text.kind == "measurement"
            }
            assert len(placed) == len(names)
            for name, (start, end) in zip(names, placed, strict=True):
                length = float(np.hypot(*(end - start))) * drawn.sectors[0].mm_per_px
                shares.setdefault(name, []).append(length / values[name])
    assert shares.keys() == {"BPD", "TCD", "FL", "HL", "CRL", "NT"}
    far = {name: found for name, found in shares.items() if abs(np.mean(found) - 1) > 0.1}
    assert not far


def test_the_csv_holds_the_measured_sizes(phantom_archive: Phantom) -> None:
    biometry = {exam.record.study_uid: exam.fetus.biometry_mm() for exam in phantom_archive.exams}
    for row in csv_rows(phantom_archive):
        given = {name: float(value) for name, value in row.items() if name.endswith("_mm") and value}
        assert given == ({} if row["plane"] else biometry[row["study_id"]])


def csv_rows(archive: Phantom) -> list[dict[str, str]]:
    rows: list[dict[str, str]] = []
    for path in sorted((archive.out / "records" / "csv").iterdir()):
        with path.open(encoding="utf-8", newline="") as file:
            rows += csv.DictReader(file)
    return rows


def test_a_measured_screen_shows_the_records_value(phantom_archive: Phantom) -> None:
    spectral = {row["file"] for row in phantom_archive.frames if row["mode"] == "spectral"}  # they have indices
    measured = [row for row in phantom_archive.frames if row["measured"]]
    noted = [*phantom_archive.texts, *(mark for mark in phantom_archive.marks if mark["measurement"])]
    with_values = {item["file"] for item in noted if item.get("kind") == "measurement" or "measurement" in item}
    assert with_values - spectral == {row["file"] for row in measured}
    for row in (row for row in measured if not phantom_archive.plans[row["file"]][1].inside):
        biometry = phantom_archive.exams[phantom_archive.plans[row["file"]][1].exam].record.biometry_mm
        wanted = {f"{name} {biometry[fact]:.1f} mm" for name, fact, _ in MEASURED[row["plane"]]}
        assert {
            text["text"] for text in texts_of(phantom_archive, row["file"]) if text["kind"] == "measurement"
        } == wanted

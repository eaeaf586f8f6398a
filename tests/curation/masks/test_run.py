"""Masks drawn elsewhere: they are stored bit-exact with their frame, or excluded with a reason."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from sono.curation.ingest.run import ingest
from sono.curation.masks.run import import_masks
from sono.manifests import masks
from sono.manifests.errors import UserError
from sono.manifests.schemas import FRAMES, REGIONS
from sono.manifests.stages import RunReport, in_process
from sono.manifests.workspace import Workspace

Image = npt.NDArray[np.uint8]
SIZE = (200, 260)


@pytest.fixture
def ingested(workspace: Workspace, archive: Path) -> Workspace:
    ingest(workspace, [archive], engine=in_process, patient_regex=r"^(P\d)/")
    return workspace


def run(
    workspace: Workspace, folder: Path, mask_format: str = "png", suffix: str = "", structure: str = "head"
) -> RunReport:
    return import_masks(
        workspace, folder, structure=structure, mask_format=mask_format, suffix=suffix, engine=in_process
    )


def ring() -> npt.NDArray[np.bool_]:
    """A mask with a hole and a second part."""
    canvas = np.zeros(SIZE, np.uint8)
    cv2.ellipse(canvas, (120, 100), (70, 50), 20, 0, 360, 255, -1)
    cv2.circle(canvas, (120, 100), 15, 0, -1)
    cv2.rectangle(canvas, (5, 5), (9, 7), 255, -1)
    return canvas > 0


def save(path: Path, mask: npt.NDArray[np.bool_]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), mask.astype(np.uint8) * 255)


def test_a_drawn_area_is_stored_bit_exact(ingested: Workspace, tmp_path: Path) -> None:
    save(tmp_path / "m" / "P2" / "scan1_seg.png", ring())
    assert run(ingested, tmp_path / "m", suffix="_seg").rows == 1
    row = ingested.store.read_all(REGIONS).to_pylist()[0]
    keys = ingested.keys
    assert row["frame_id"] == keys.frame(keys.source("P2/scan1.png"), 0)
    assert np.array_equal(masks.decode(row["mask"], SIZE), ring())
    assert row["area_px"] == np.count_nonzero(ring())
    assert (row["structure"], row["source"], row["status"]) == ("head", "import", "accepted")
    frames = {frame["frame_id"]: frame for frame in ingested.store.read_all(FRAMES).to_pylist()}
    assert row["pixel_digest"] == frames[row["frame_id"]]["pixel_digest"]


def test_predicted_masks_are_told_apart_from_drawn_ones(ingested: Workspace, tmp_path: Path) -> None:
    save(tmp_path / "m" / "P2" / "scan1.png", ring())
    drawn = run(ingested, tmp_path / "m")
    again = import_masks(
        ingested, tmp_path / "m", structure="head", mask_format="png", predicted=True, engine=in_process
    )
    assert (drawn.computed, again.computed) == (1, 1)  # the same files are something else now
    (row,) = ingested.store.read_all(REGIONS).to_pylist()
    assert (row["source"], row["status"]) == ("model", "accepted")
    assert row["region_id"] == ingested.keys.region(row["frame_id"], "head", "model")


def test_masks_that_cannot_be_used_are_counted_by_reason(ingested: Workspace, tmp_path: Path) -> None:
    folder = tmp_path / "m"
    save(folder / "P1" / "scan0.png", ring())
    save(folder / "P1" / "scan1.png", ring().T)
    save(folder / "P1" / "scan2.png", np.zeros(SIZE, bool))
    (folder / "P2").mkdir()
    cv2.imwrite(str(folder / "P2" / "scan0.png"), (np.arange(52000).reshape(SIZE) % 3 * 100).astype(np.uint8))
    (folder / "P2" / "scan1.png").write_bytes(b"\x89PNG nothing")
    (folder / "P2" / "scan2.txt").write_text("a note")
    save(folder / "P9" / "scan7.png", ring())
    save(folder / "scan0.png", ring())
    save(folder / "P3" / "scan0.png", ring())
    save(folder / "P3" / "scan0_f0.png", ring())
    report = run(ingested, folder)
    assert report.rows == 1
    assert report.exclusions == {
        "size_mismatch": 1,
        "empty_mask": 1,
        "not_binary": 1,
        "undecodable": 1,
        "not_an_image": 1,
        "no_frame": 1,
        "ambiguous_name": 1,
        "second_mask": 2,
    }


def test_masks_of_a_file_with_several_pages_name_their_frame(
    workspace: Workspace, tmp_path: Path, draw: Callable[..., Image]
) -> None:
    folder = tmp_path / "cine"
    folder.mkdir()
    assert cv2.imwritemulti(str(folder / "P1.tiff"), [draw(seed) for seed in range(3)])
    ingest(workspace, [folder], engine=in_process, patient_regex=r"^(P\d)")
    save(tmp_path / "m" / "P1_f2.png", ring())
    save(tmp_path / "m" / "P1.png", ring())
    report = run(workspace, tmp_path / "m")
    assert report.exclusions == {"frame_not_named": 1}
    row = workspace.store.read_all(REGIONS).to_pylist()[0]
    assert row["frame_id"] == workspace.keys.frame(workspace.keys.source("P1.tiff"), 2)


def test_a_mask_drawn_on_the_original_is_cropped_like_its_image(
    workspace: Workspace, us_dicom: Path, tmp_path: Path
) -> None:
    ingest(workspace, [us_dicom], engine=in_process)
    drawn = np.zeros((600, 800), bool)
    drawn[50:110, 100:200] = True
    save(tmp_path / "m" / "OBXXXX1A.png", drawn)
    outside = np.zeros((480, 640), bool)
    outside[:20] = True
    save(tmp_path / "m" / "gdcm-US-ALOKA-16.png", outside)
    report = run(workspace, tmp_path / "m")
    assert report.exclusions == {"outside_crop": 1}
    row = workspace.store.read_all(REGIONS).to_pylist()[0]
    assert row["mask"]["size"] == [459, 680]
    assert list(row["bbox"]) == [0, 0, 80, 50]


def test_another_folder_adds_and_never_replaces_what_a_person_drew(ingested: Workspace, tmp_path: Path) -> None:
    save(tmp_path / "one" / "P1" / "scan0.png", ring())
    save(tmp_path / "two" / "P1" / "scan0.png", ~ring())
    save(tmp_path / "two" / "P1" / "scan1.png", ring())
    run(ingested, tmp_path / "one")
    report = run(ingested, tmp_path / "two")
    assert (report.rows, report.exclusions) == (1, {"region_exists": 1})
    run(ingested, tmp_path / "two", structure="thalami")
    rows = ingested.store.read_all(REGIONS).to_pylist()
    assert sorted(row["structure"] for row in rows) == ["head", "head", "thalami", "thalami"]
    assert len({row["region_id"] for row in rows}) == 4


def test_a_second_run_computes_nothing_and_a_redrawn_mask_is_imported_again(
    ingested: Workspace, tmp_path: Path
) -> None:
    save(tmp_path / "m" / "P1" / "scan0.png", ring())
    run(ingested, tmp_path / "m")
    assert run(ingested, tmp_path / "m").computed == 0
    save(tmp_path / "m" / "P1" / "scan0.png", ~ring())
    assert run(ingested, tmp_path / "m").computed == 1
    assert np.array_equal(masks.decode(ingested.store.read_all(REGIONS).to_pylist()[0]["mask"]), ~ring())


def test_mistakes_that_affect_all_masks_stop_before_anything_is_written(ingested: Workspace, tmp_path: Path) -> None:
    save(tmp_path / "m" / "P1" / "scan0_mask.png", ring())
    with pytest.raises(UserError, match="--suffix"):
        run(ingested, tmp_path / "m")
    with pytest.raises(UserError, match="unknown structure 'haed'; did you mean 'head'"):
        run(ingested, tmp_path / "m", suffix="_mask", structure="haed")
    with pytest.raises(UserError, match="folder not found"):
        run(ingested, tmp_path / "none")
    assert not ingested.store.paths(REGIONS)

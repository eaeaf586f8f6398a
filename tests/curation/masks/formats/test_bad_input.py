"""Whatever cannot be used is a counted exclusion or one clear refusal."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sono.curation.images.pixels import ExcludedError
from sono.curation.masks.formats.encodings import json_stream
from sono.curation.masks.formats.encodings.polygons import VERTICES_MOST, ellipse, fill, trace
from sono.curation.masks.formats.encodings.rle import mask_of_coco
from sono.curation.masks.formats.registry import FORMATS
from sono.curation.masks.run import import_masks
from sono.manifests import masks
from sono.manifests.errors import UserError
from sono.manifests.schemas import REGIONS
from sono.manifests.stages import in_process
from sono.manifests.workspace import Workspace
from tests.curation.masks.conftest import SIZE, draw_masks

from .test_foreign_files import HEIGHT, WIDTH, coco_file

GOOD = {"category_id": 1, "segmentation": [[10, 10, 50, 10, 50, 30, 10, 30]]}
CIRCLE = np.linspace(0, 2 * np.pi, VERTICES_MOST + 1)

SEGMENTATIONS: dict[str, tuple[Any, str]] = {
    "a million vertices": ([(100 + 50 * np.cos(CIRCLE)).repeat(2).tolist()], "too_many_vertices"),
    "a figure of eight": ([[10, 10, 50, 50, 50, 10, 10, 50]], "self_intersecting"),
    "a loop around a loop": ([[10, 10, 90, 10, 90, 90, 10, 90, 10, 20, 80, 20, 80, 80, 20, 80]], "self_intersecting"),
    "two vertices": ([[10, 10, 50, 50]], "not_an_area"),
    "a box alone": ([], "not_an_area"),
    "an odd number": ([[10, 10, 50, 50, 50]], "malformed_mask"),
    "text": ([["a", 1, 2, 3, 4, 5]], "malformed_mask"),
    "infinity": ([[1e999, 1, 2, 3, 4, 5]], "malformed_mask"),
    "far outside": ([[1, 1, 1e9, 1, 1e9, 1e9]], "size_mismatch"),
    "a boundary without end": ([[-100, 1, 400, 1] * (VERTICES_MOST // 2)], "too_many_vertices"),
    "beside the image": ([[-50, 1, -20, 1, -20, 90]], "empty_mask"),
    "runs that are too long": ({"size": [HEIGHT, WIDTH], "counts": [0, 10**9]}, "malformed_mask"),
    "runs that are too short": ({"size": [HEIGHT, WIDTH], "counts": [5, 10]}, "malformed_mask"),
    "negative runs": ({"size": [HEIGHT, WIDTH], "counts": [HEIGHT * WIDTH + 5, -5]}, "malformed_mask"),
    "no runs": ({"size": [HEIGHT, WIDTH], "counts": "~~~"}, "malformed_mask"),
    "a run without end": ({"size": [HEIGHT, WIDTH], "counts": "oooooooooooooooooooo0"}, "malformed_mask"),
    "a huge image": ({"size": [10**6, 10**6], "counts": [10**12]}, "too_large"),
    "another size": ({"size": [WIDTH, HEIGHT], "counts": [5, HEIGHT * WIDTH - 5]}, "size_mismatch"),
    "nothing drawn": ({"size": [HEIGHT, WIDTH], "counts": [HEIGHT * WIDTH]}, "empty_mask"),
}


@pytest.mark.parametrize("name", SEGMENTATIONS)
def test_a_bad_segmentation_is_counted_and_the_others_are_imported(empty: Workspace, tmp_path: Path, name: str) -> None:
    segmentation, reason = SEGMENTATIONS[name]
    path = coco_file(tmp_path / "a.json", [GOOD, {"category_id": 2, "segmentation": segmentation}])
    report = import_masks(empty, path, mask_format="coco", engine=in_process)
    assert (report.rows, report.exclusions) == (1, {reason: 1})


def test_one_bad_part_spoils_its_mask_rather_than_leave_half_of_it(empty: Workspace, tmp_path: Path) -> None:
    bad = {"category_id": 1, "segmentation": [[10, 10, 50, 50, 50, 10, 10, 50]]}
    other = {"category_id": 2, "segmentation": GOOD["segmentation"]}
    path = coco_file(tmp_path / "a.json", [GOOD, bad, other])
    report = import_masks(empty, path, mask_format="coco", engine=in_process)
    assert (report.rows, report.exclusions) == (1, {"self_intersecting": 1})


def test_masks_of_unknown_frames_and_structures_are_counted(empty: Workspace, tmp_path: Path) -> None:
    path = coco_file(
        tmp_path / "a.json", [GOOD, {"category_id": 2, "segmentation": GOOD["segmentation"]}], ("head", "x")
    )
    content = json.loads(path.read_text())
    content["images"].append({"id": 8, "file_name": "P9/scan0.png", "height": HEIGHT, "width": WIDTH})
    content["annotations"].append({**GOOD, "id": 9, "image_id": 8})
    content["annotations"].append({**GOOD, "id": 10, "image_id": 99})
    content["annotations"].append({**GOOD, "id": 11, "image_id": 7, "category_id": 99})
    path.write_text(json.dumps(content))
    report = import_masks(empty, path, mask_format="coco", engine=in_process)
    assert (report.rows, report.exclusions) == (1, {"no_frame": 2, "unknown_structure": 2})


FILES = {
    "empty": b"",
    "text": b"some text",
    "half an object": b'{"annotations": [{"id": 1, "x": [',
    "another object": b'{"a": 1}',
    "a deep one": b"[" * 100_000,
    "entities": b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b "cc">]><annotations>&b;</annotations>',
    "half of XML": b"<annotations><image name='a'>",
    "half a PNG": b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR",
    "DICOM without anything": b"\0" * 128 + b"DICM",
}


@pytest.mark.parametrize("mask_format", [name for name in FORMATS if name not in ("png", "outline")])
def test_files_of_nothing_are_refused_in_one_line(empty: Workspace, tmp_path: Path, mask_format: str) -> None:
    suffix = {"dicom-seg": ".dcm", "cvat": ".xml", "index-png": ".png", "nifti": ".nii.gz", "via-csv": ".csv"}
    by_value = ("index-png", "nifti")
    for name, content in FILES.items():
        folder = tmp_path / "files" / name
        folder.mkdir(parents=True)
        (folder / f"scan0{suffix.get(mask_format, '.json')}").write_bytes(content)
        (folder / "labels.json").write_text('{"1": "head"}') if mask_format in by_value else None
        if mask_format == "index-png":  # which is not opened before it is read
            report = import_masks(empty, folder, mask_format=mask_format, engine=in_process)
            assert (report.rows, sum(report.exclusions.values())) == (0, 1)
            continue
        with pytest.raises(UserError) as caught:
            import_masks(empty, folder, mask_format=mask_format, engine=in_process)
        assert "\n" not in str(caught.value)
    assert not empty.store.count_rows(REGIONS)


@pytest.mark.parametrize("chunk", [1, 7, 100, 2**20])
def test_items_are_found_wherever_the_file_is_cut(tmp_path: Path, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_stream, "_CHUNK", chunk)
    items = [{"id": n, "text": 'é"\\]}' * 5, "values": [n * 1.5e10, True, None]} for n in range(40)]
    content = {"version": -12.5e-3, "a": items, "info": {"b": [1]}, "b": items[:3], "last": True}
    path = tmp_path / "a.json"
    path.write_text(json.dumps(content, ensure_ascii=chunk == 1, indent=1 if chunk == 7 else None), encoding="utf-8")
    found = list(json_stream.read_items(path, ["a", "b"]))
    assert [item.value for item in found if item.array == "a"] == items
    assert [item.value for item in found if item.array == "b"] == items[:3]
    assert all(json_stream.item_at(path, item.offset, item.length) == item.value for item in found)


def test_an_item_without_end_is_refused_before_it_fills_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json_stream, "ITEM_MOST", 10_000)
    monkeypatch.setattr(json_stream, "_CHUNK", 1000)
    (tmp_path / "a.json").write_text('{"annotations": [{"a": "' + "x" * 100_000 + '"}]}')
    with pytest.raises(ExcludedError, match="item_too_large"):
        list(json_stream.read_items(tmp_path / "a.json", ["annotations"]))


@pytest.mark.parametrize("seed", range(40))
def test_any_mask_is_traced_and_filled_again(seed: int) -> None:
    random = np.random.default_rng(seed)
    size = (int(random.integers(1, 40)), int(random.integers(1, 40)))
    mask = random.random(size) < random.random() if seed % 2 else draw_masks(seed)["thalami"]
    again = np.zeros(mask.shape, bool)
    for ring in trace(mask):
        part = fill(ring, mask.shape)
        assert not (part & again).any()
        again |= part
    assert np.array_equal(again, mask)
    assert np.array_equal(mask_of_coco(masks.encode(mask)), mask)


@pytest.mark.parametrize("radii", [(1000.0, 1000.0), (1.0, 1e9)])
def test_an_ellipse_of_another_image_is_refused_as_a_polygon_is(radii: tuple[float, float]) -> None:
    with pytest.raises(ExcludedError, match="size_mismatch"):
        ellipse((100, 80), radii, 10, SIZE)
    assert ellipse((100, 80), (150.0, 150.0), 10, SIZE).any()


def test_a_polygon_covers_the_pixels_whose_centers_it_encloses() -> None:
    assert fill(np.array([[1, 1], [3, 1], [3, 2], [1, 2]], float), (4, 4)).sum() == 2
    assert fill(np.array([[0.4, 0.4], [0.6, 0.4], [0.6, 0.6], [0.4, 0.6]]), SIZE).sum() == 1
    assert fill(np.array([[-5, -5], [500, -5], [500, 500], [-5, 500]], float), (400, 400)).all()

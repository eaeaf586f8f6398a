"""Files that other tools' own libraries wrote, or that follow their published layout, come in as these see them."""

from __future__ import annotations

import base64
import csv
import io
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from sono.curation.masks.formats.coco import segmentation_mask
from sono.curation.masks.formats.encodings.polygons import ellipse, fill
from sono.curation.masks.formats.encodings.segment_codes import ANATOMICAL_STRUCTURE, SNOMED_CT
from sono.curation.masks.run import import_masks
from sono.manifests import masks
from sono.manifests.errors import UserError
from sono.manifests.schemas import FRAMES, REGIONS
from sono.manifests.stages import RunReport, in_process
from sono.manifests.vocabulary import load
from sono.manifests.workspace import Workspace
from tests.curation.masks.conftest import SIZE, draw_masks

Mask = npt.NDArray[np.bool_]
IMAGE = "P0/scan0.png"
HEIGHT, WIDTH = SIZE


def run(workspace: Workspace, masks: Path, mask_format: str, **options: Any) -> RunReport:
    return import_masks(workspace, masks, mask_format=mask_format, engine=in_process, **options)


def stored(workspace: Workspace) -> dict[str, Mask]:
    return {row["structure"]: masks.decode(row["mask"]) for row in workspace.store.read_all(REGIONS).to_pylist()}


def write(path: Path, content: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def coco_file(path: Path, annotations: list[dict[str, object]], names: tuple[str, ...] = ("head", "CSP")) -> Path:
    content = {
        "annotations": [{"id": n, "image_id": 7, "iscrowd": 0, **each} for n, each in enumerate(annotations, 1)],
        "images": [{"id": 7, "file_name": IMAGE, "height": HEIGHT, "width": WIDTH}],
        "categories": [{"id": number, "name": name} for number, name in enumerate(names, 1)],
    }
    return write(path, content)


def uncompressed(mask: Mask) -> dict[str, object]:
    counts, value = [0], False
    for pixel in mask.T.ravel():
        if pixel != value:
            counts.append(0)
            value = pixel
        counts[-1] += 1
    return {"size": list(mask.shape), "counts": counts}


def test_coco_as_pycocotools_reads_it(empty: Workspace, tmp_path: Path) -> None:
    drawn = draw_masks(3)
    encoded = coco_mask.encode(np.asfortranarray(drawn["head"], dtype=np.uint8))
    polygon = [[20.3, 30.1, 90.7, 25.0, 80.2, 120.9, 25.5, 100.0], [150, 20, 180, 20, 165, 60]]
    path = coco_file(
        tmp_path / "instances.json",
        [
            {"category_id": 1, "segmentation": {"size": encoded["size"], "counts": encoded["counts"].decode()}},
            {"category_id": 2, "segmentation": uncompressed(drawn["thalami"])},
            {"category_id": 3, "segmentation": polygon, "bbox": [0, 0, 1, 1], "area": 1},
        ],
        names=("Fetal head", "thalamus", "CSP"),
    )
    assert run(empty, path, "coco").rows == 3
    found, peer = stored(empty), COCO(str(path))
    for number, structure in enumerate(("head", "thalami", "cavum_septi_pellucidi"), 1):
        assert np.array_equal(found[structure], peer.annToMask(peer.anns[number]).astype(bool))


def test_annotations_of_one_category_are_parts_of_one_mask(empty: Workspace, tmp_path: Path) -> None:
    left, right = np.zeros(SIZE, bool), np.zeros(SIZE, bool)
    left[10:20, 10:20] = right[50:60, 50:70] = True
    both = [{"category_id": 1, "segmentation": uncompressed(each)} for each in (left, right)]
    assert run(empty, coco_file(tmp_path / "a.json", both), "coco").rows == 1
    assert np.array_equal(stored(empty)["head"], left | right)


@pytest.mark.parametrize("kind", ["BINARY", "LABELMAP"])
def test_dicom_segmentations_of_highdicom(empty: Workspace, tmp_path: Path, kind: str) -> None:
    from highdicom.seg import SegmentAlgorithmTypeValues, Segmentation, SegmentDescription
    from highdicom.sr import CodedConcept
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, generate_uid

    image = Dataset()
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image.SOPClassUID, image.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.6.1", generate_uid()
    image.StudyInstanceUID, image.SeriesInstanceUID = generate_uid(), generate_uid()
    image.Modality, image.InstanceNumber, image.SeriesNumber = "US", 1, 1
    image.Rows, image.Columns = SIZE
    for name in ("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID"):
        setattr(image, name, "")
    image.AccessionNumber = image.ReferringPhysicianName = ""
    drawn = list(draw_masks(4).values())[:2]
    if kind == "BINARY":
        drawn[1] = drawn[0] | drawn[1]  # they may overlap

    def describe(number: int, label: str, code: CodedConcept) -> SegmentDescription:
        category = CodedConcept(ANATOMICAL_STRUCTURE[0], "SCT", ANATOMICAL_STRUCTURE[1])
        return SegmentDescription(number, label, category, code, SegmentAlgorithmTypeValues.MANUAL)

    segments = [
        describe(1, "Segment 1", CodedConcept("10200004", "SCT", "Liver structure")),
        describe(2, "stomach", CodedConcept("1", "99LAB", "something")),
    ]
    path = tmp_path / "seg" / "P0" / "scan0.dcm"
    path.parent.mkdir(parents=True)
    Segmentation(
        [image], np.stack(drawn, -1)[None].astype(np.uint8), kind, segments, generate_uid(), 1, generate_uid(), 1,
        "Maker", "Model", "1", "1", omit_empty_frames=False,
    ).save_as(path)  # fmt: skip
    assert run(empty, tmp_path / "seg", "dicom-seg").rows == 2
    found = stored(empty)
    assert np.array_equal(found["liver"], drawn[0])
    assert np.array_equal(found["stomach"], drawn[1])


def test_codes_are_those_of_pydicoms_dictionary() -> None:
    from pydicom.sr._concepts_dict import concepts

    known = {code: set() for code, _ in SNOMED_CT.values()}  # type: ignore[var-annotated]
    for entry in concepts["SCT"].values():
        for code, (meaning, _) in entry.items():
            known.get(code, set()).add(meaning.casefold())
    assert SNOMED_CT.keys() <= load().structures.keys()
    wrong = {name: known[code] for name, (code, meaning) in SNOMED_CT.items() if meaning.casefold() not in known[code]}
    assert wrong == {}


def test_nifti_of_nibabel_with_itk_snaps_labels(empty: Workspace, tmp_path: Path) -> None:
    import nibabel

    drawn = draw_masks(5)
    values = np.zeros((WIDTH, HEIGHT), np.int16)
    values[drawn["head"].T], values[drawn["thalami"].T] = 1, 4
    (tmp_path / "m" / "P0").mkdir(parents=True)
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), tmp_path / "m" / "P0" / "scan0.nii.gz")
    labels = '# ITK-SnAP\n    0     0    0    0        0  0  0    "Clear Label"\n'
    labels += '    1   255    0    0        1  1  1    "Fetal Head"\n    4   0  255    0      0.5  1  1    "thalamus"\n'
    (tmp_path / "m" / "labels.txt").write_text(labels + '    5  0 0 255  1 1 1  "Label 5"\n')
    report = run(empty, tmp_path / "m", "nifti")
    assert (report.rows, report.exclusions) == (2, {})  # Label 5 is nowhere
    assert np.array_equal(stored(empty)["head"], drawn["head"])
    values[0, 0] = 5
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), tmp_path / "m" / "P0" / "scan0.nii.gz")
    assert run(empty, tmp_path / "m", "nifti").exclusions == {"unknown_structure": 1}
    values[0, 0] = 9
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), tmp_path / "m" / "P0" / "scan0.nii.gz")
    assert run(empty, tmp_path / "m", "nifti").exclusions == {"unknown_structure": 1}


def test_an_array_that_was_saved_as_it_is_is_another_size(empty: Workspace, tmp_path: Path) -> None:
    import nibabel

    (tmp_path / "m" / "P0").mkdir(parents=True)
    write(tmp_path / "m" / "labels.json", {"1": "head"})
    transposed = nibabel.Nifti1Image(np.ones(SIZE, np.uint8), np.eye(4))
    nibabel.save(transposed, tmp_path / "m" / "P0" / "scan0.nii.gz")
    assert run(empty, tmp_path / "m", "nifti").exclusions == {"size_mismatch": 1}


def test_labelmes_shapes(empty: Workspace, tmp_path: Path) -> None:
    brush = draw_masks(1)["thalami"]
    x, y, width, height = masks.bbox(brush)
    png = io.BytesIO()
    Image.fromarray(brush[y : y + height, x : x + width]).save(png, "PNG")
    corners = [[x, y], [x + width - 1, y + height - 1]]
    shapes = [
        {"label": "head", "shape_type": "rectangle", "points": [[30.0, 40.0], [10.0, 20.0]]},
        {"label": "head", "shape_type": "circle", "points": [[100.0, 80.0], [100.0, 110.0]]},
        {"label": "CSP", "shape_type": "polygon", "points": [[10, 10], [50, 10], [50, 30], [10, 30]]},
        {
            "label": "thalami",
            "shape_type": "mask",
            "points": corners,
            "mask": base64.b64encode(png.getvalue()).decode(),
        },
        {"label": "falx", "shape_type": "linestrip", "points": [[1, 1], [2, 2], [3, 3]]},
    ]
    common = {"group_id": None, "description": "", "flags": {}}
    content = {
        "version": "5.5.0", "flags": {}, "shapes": [{**common, **shape} for shape in shapes], "imagePath": "scan0.png",
        "imageData": None, "imageHeight": HEIGHT, "imageWidth": WIDTH,
    }  # fmt: skip
    write(tmp_path / "m" / "P0" / "scan0.json", content)
    report = run(empty, tmp_path / "m", "labelme")
    assert (report.rows, report.exclusions) == (3, {"not_an_area": 1})
    found = stored(empty)
    assert np.array_equal(found["thalami"], brush)
    assert np.array_equal(np.argwhere(found["cavum_septi_pellucidi"])[[0, -1]], [[10, 10], [29, 49]])
    assert found["cavum_septi_pellucidi"].sum() == 20 * 40
    assert found["head"][20:40, 10:30].all()
    assert found["head"].sum() - 400 == pytest.approx(np.pi * 30**2, rel=0.01)


def via_region(shape: dict[str, object], attributes: dict[str, object]) -> dict[str, object]:
    return {"shape_attributes": shape, "region_attributes": attributes}


BOX = {"name": "polygon", "all_points_x": [10, 50, 50, 10], "all_points_y": [10, 10, 30, 30]}


def test_via_projects_and_their_labels(empty: Workspace, tmp_path: Path) -> None:
    regions = [
        via_region(BOX, {"anatomy": "Capsule", "quality": "good"}),
        via_region(
            {"name": "ellipse", "cx": 100, "cy": 80, "rx": 40, "ry": 20, "theta": 0.5}, {"seen": {"head": True}}
        ),
        via_region({"name": "rect", "x": 5, "y": 6, "width": 7, "height": 8}, {"a": "femur", "b": "head"}),
        via_region({"name": "point", "cx": 5, "cy": 6}, {"anatomy": "femur"}),
        via_region(BOX, {"anatomy": "Cortex"}),
    ]
    image = {"filename": IMAGE, "size": 1234, "file_attributes": {}, "regions": regions}
    project = {"_via_settings": {}, "_via_img_metadata": {f"{IMAGE}1234": image}, "_via_attributes": {}}
    path = write(tmp_path / "via_project.json", project)
    report = run(empty, path, "via", labels={"capsule": "kidney"})
    assert report.rows == 2
    assert report.exclusions == {"ambiguous_label": 1, "not_an_area": 1, "unknown_structure": 1}
    found = stored(empty)
    assert found["kidney"].sum() == 20 * 40
    peer = cv2.ellipse(np.zeros(SIZE, np.uint8), (100, 80), (40, 20), np.degrees(0.5), 0, 360, 1, -1) > 0
    assert np.count_nonzero(peer & found["head"]) / np.count_nonzero(peer | found["head"]) > 0.95


def test_via_csv(empty: Workspace, tmp_path: Path) -> None:
    names = "filename,file_size,file_attributes,region_count,region_id,region_shape_attributes,region_attributes"
    with (tmp_path / "labels.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(names.split(","))
        rows.writerow([IMAGE, 99, "{}", 1, 0, json.dumps(BOX), json.dumps({"Anatomy": "Capsule"})])
        rows.writerow(["P0/scan1.png", 99, "{}", 0, 0, "{}", "{}"])
    with pytest.raises(UserError, match="no label of the masks is the name of a structure"):
        run(empty, tmp_path / "labels.csv", "via")
    assert run(empty, tmp_path / "labels.csv", "via", labels={"Capsule": "kidney"}).rows == 1
    assert stored(empty)["kidney"].sum() == 20 * 40


def test_cvats_polygons_masks_and_boxes(empty: Workspace, tmp_path: Path) -> None:
    xml = f"""<?xml version="1.0" encoding="utf-8"?>
<annotations><version>1.1</version><meta><task><id>1</id></task></meta>
<image id="0" name="{IMAGE}" width="{WIDTH}" height="{HEIGHT}">
 <polygon label="CSP" source="manual" points="10.00,10.00;50.00,10.00;50.00,30.00;10.00,30.00" z_order="0"/>
 <mask label="head" source="manual" occluded="0" rle="1, 2, 1, 4" left="100" top="50" width="4" height="2" z_order="0"/>
 <box label="femur" xtl="1" ytl="2" xbr="3" ybr="4"/>
</image></annotations>"""
    (tmp_path / "annotations.xml").write_text(xml)
    report = run(empty, tmp_path / "annotations.xml", "cvat")
    assert (report.rows, report.exclusions) == (2, {"not_an_area": 1})
    found = stored(empty)
    assert found["cavum_septi_pellucidi"].sum() == 20 * 40
    assert found["head"][50:52, 100:104].tolist() == [[False, True, True, False], [True] * 4]


def test_the_papers_own_files_are_labelled_by_their_captions(empty: Workspace, tmp_path: Path) -> None:
    drawn = draw_masks(2)
    rles = [masks.encode(drawn[name]) for name in ("head", "thalami", "head")]
    captions = ["The skull outline is seen.", "Both thalami", "thalami within the head"]
    content = {"caption": "a head", "plane": "tt", "ref_exps": [], "mask_captions": captions, "seudo_masks": rles}
    write(tmp_path / "m" / "P0" / "scan0.json", content)
    (tmp_path / "m" / "ids.txt").write_text("P0/scan0\n")
    report = run(empty, tmp_path / "m", "release")
    assert (report.rows, report.exclusions) == (2, {"ambiguous_label": 1})
    assert np.array_equal(stored(empty)["head"], drawn["head"])


def test_masks_name_their_frame_by_its_id(empty: Workspace, tmp_path: Path) -> None:
    frame_id = empty.store.read_all(FRAMES, ["frame_id"]).column(0)[0].as_py()
    regions = [via_region(BOX, {"structure": "head"})]
    content = {"x": {"filename": f"{frame_id}.png", "size": -1, "regions": regions, "file_attributes": {}}}
    run(empty, write(tmp_path / "via.json", content), "via")
    assert empty.store.read_all(REGIONS, ["frame_id"]).column(0).to_pylist() == [frame_id]


def test_only_the_named_structure_is_imported(empty: Workspace, tmp_path: Path) -> None:
    both = [{"category_id": n, "segmentation": [[10, 10, 50, 10, 50, 30]]} for n in (1, 2)]
    report = run(empty, coco_file(tmp_path / "a.json", both), "coco", structure="head")
    assert (report.rows, report.exclusions) == (1, {"other_structure": 1})


def test_labels_in_any_language_are_told_apart(empty: Workspace, tmp_path: Path) -> None:
    both = [{"category_id": n, "segmentation": [[10, 10, 50, 10, 50, 30]]} for n in (1, 2)]
    path = coco_file(tmp_path / "a.json", both, ("头", "胃"))
    report = run(empty, path, "coco", labels={"头": "head"})
    assert (report.rows, report.exclusions) == (1, {"unknown_structure": 1})
    assert set(stored(empty)) == {"head"}


def test_a_label_that_is_given_for_two_structures_is_refused(empty: Workspace, tmp_path: Path) -> None:
    path = coco_file(
        tmp_path / "a.json", [{"category_id": 1, "segmentation": [[10, 10, 50, 10, 50, 30]]}], ("capsule",)
    )
    with pytest.raises(UserError, match="--label 'capsule' is given for two structures"):
        run(empty, path, "coco", labels={"Capsule": "kidney", "capsule": "liver"})
    assert run(empty, path, "coco", labels={"Capsule": "kidney", "capsule": "kidney"}).rows == 1


@pytest.mark.parametrize("what", ["images", "categories"])
def test_a_coco_file_whose_ids_mean_two_things_is_refused(empty: Workspace, tmp_path: Path, what: str) -> None:
    path = coco_file(tmp_path / "a.json", [{"category_id": 1, "segmentation": [[10, 10, 50, 10, 50, 30]]}])
    content = json.loads(path.read_text())
    other = {"file_name": "P1/scan0.png"} if what == "images" else {"name": "femur"}
    write(path, {**content, what: [*content[what], {**content[what][0], **other}]})
    with pytest.raises(UserError, match="not in the format"):
        run(empty, path, "coco")
    write(path, {**content, what: content[what] * 2})
    assert run(empty, path, "coco").rows == 1


def test_tracks_of_cvats_videos_are_not_passed_over(empty: Workspace, tmp_path: Path) -> None:
    image = f'<image id="0" name="{IMAGE}" width="{WIDTH}" height="{HEIGHT}"/>'
    track = '<track id="0" label="head"><polygon frame="0" points="1,1;9,1;9,9" outside="0"/></track>'
    (tmp_path / "annotations.xml").write_text(f"<annotations><version>1.1</version>{image}{track}</annotations>")
    with pytest.raises(UserError, match="not in the format"):
        run(empty, tmp_path / "annotations.xml", "cvat")


def test_extensions_in_capitals_are_read(empty: Workspace, tmp_path: Path) -> None:
    shape = {"label": "head", "shape_type": "polygon", "points": [[10, 10], [50, 10], [50, 30]]}
    write(tmp_path / "m" / "P0" / "scan0.JSON", {"shapes": [shape], "imageHeight": HEIGHT, "imageWidth": WIDTH})
    assert run(empty, tmp_path / "m", "labelme").rows == 1


@pytest.mark.parametrize("center", [(0, 0), (WIDTH, HEIGHT), (WIDTH // 2, -5)])
def test_shapes_partly_outside_of_the_image_are_cut_as_pycocotools_cuts_them(center: tuple[int, int]) -> None:
    turns = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    ring = np.asarray(center) + 60.3 * np.stack([np.cos(turns), np.sin(turns)], axis=1)
    ours, theirs = fill(ring, SIZE), segmentation_mask([ring.ravel().tolist()], SIZE)
    assert np.count_nonzero(ours & theirs) > 0.97 * np.count_nonzero(ours | theirs) > 0
    circle = ellipse(center, (60.3, 60.3), 0, SIZE)
    assert np.count_nonzero(ours & circle) > 0.97 * np.count_nonzero(ours | circle)

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import pytest
from PIL import Image

from sono import captioning
from sono.manifests import masks, vocabulary
from sono.manifests.errors import UserError
from sono.manifests.filenames import evaluation_file
from sono.manifests.stages import Progress
from sono.training.data.dataset import decode_image, open_split, read_description
from sono.training.data.wordings import WORDINGS, count_wordings
from sono.training.evaluation.prompts import WEEKS, prompts
from sono.training.evaluation.scoring import Scoring
from sono.training.evaluation.zero_shot.run import MASK_SETS, evaluate
from sono.training.features.views import FrameViews, Views, choose_donors
from sono.training.model.transforms import CropToSquare, PadToSquare
from sono.training.pretraining import checkpoints
from tests.training.conftest import captions_read

ALL = MASK_SETS["all"]
FIGURES = ("top1", "top5", "f1", "per_plane", "confusion", "calibration")


@pytest.fixture
def score(learned: Path, write_dataset: Callable[..., Path], tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """The result for frames as the only split of a dataset."""

    def write_and_score(name: str, rows: list[dict[str, Any]], *modes: str, seed: int = 0) -> dict[str, Any]:
        strangers = [{**row, "patient_key": f"other {row['patient_key']}"} for row in rows]
        dataset = write_dataset(tmp_path / name, {"test": strangers})
        return evaluate(Scoring(learned, str(dataset), resamples=50, seed=seed), masks=modes)

    return write_and_score


def figures(result: dict[str, Any], mask: str) -> dict[str, Any]:
    """What a mask's score says, without how it was obtained."""
    return {name: result["masks"][mask][name] for name in FIGURES}


def of_one_size(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The frames whose masks fit each other's images."""
    size = rows[0]["regions"][0]["mask"]["size"]
    return [row for row in rows if row["regions"][0]["mask"]["size"] == size]


def with_image(row: dict[str, Any], pixels: Callable[[tuple[int, int]], np.ndarray[Any, Any]]) -> dict[str, Any]:
    height, width = row["regions"][0]["mask"]["size"]
    buffer = io.BytesIO()
    Image.fromarray(pixels((height, width)).astype(np.uint8)).save(buffer, "PNG")
    return {**row, "image": {"bytes": buffer.getvalue(), "path": None}}


def test_the_result_names_the_checkpoint_that_was_scored(learned: Path, shapes: Path) -> None:
    meta = checkpoints.load_model(learned, pytest.fail)[2]
    result = evaluate(Scoring(learned, str(shapes), split="train", allow_trained=True, resamples=10))
    assert result["checkpoint"] == {"file": "step-00000110", "sha256": meta["sha256"], "step": 110}
    assert result["n_frames"] == 240
    assert result["minus_none"] == result["minus_region"] == {}
    assert result == json.loads(evaluation_file(learned, result["dataset"], "train-none").read_text())


@pytest.mark.slow
def test_other_weights_give_other_figures_and_no_checkpoint_is_an_error(
    three_splits: Path, random_run: Callable[..., Path], tmp_path: Path
) -> None:
    """Scores of stored features would be the same for any checkpoint."""
    first, again, other = (
        evaluate(Scoring(random_run(seed), str(three_splits), resamples=10))["masks"]["none"] for seed in (0, 0, 1)
    )
    assert first == again
    assert first["calibration"] != other["calibration"]

    def silence(model: Any) -> None:
        for value in model.clip.parameters():
            value.zero_()

    nothing = evaluate(Scoring(random_run(0, silence), str(three_splits), resamples=10))["masks"]["none"]["top1"]
    assert nothing["value"] == 0.25
    with pytest.raises(UserError, match=r"no checkpoint found; give the folder of a trained run"):
        evaluate(Scoring(tmp_path, str(three_splits)))


@pytest.mark.parametrize("other", ["region", "shuffled", "blank"])
def test_all_masks_are_scored_on_the_same_frames_and_the_rest_are_counted(
    other: str, score: Callable[..., dict[str, Any]], make_rows: Callable[..., list[dict[str, Any]]]
) -> None:
    rows = make_rows(16, seed=12)
    rows[0]["plane"] = None
    for number in (1, 2, 3):
        rows[number]["regions"] = []
    counts = ("frames", "n_frames", "frames_without_plane", "frames_without_regions")
    together = score("together", rows, other, "none")
    assert [together[name] for name in counts] == ["with regions", 12, 1, 3]
    assert list(together["masks"]) == ["none", other]
    alone = score("alone", rows, "none")
    assert [alone[name] for name in counts] == ["all", 15, 1, 3]
    cleaned = score("cleaned", rows[4:], "none")
    assert figures(together, "none") == figures(cleaned, "none") != figures(alone, "none")


def test_a_region_that_scaling_wiped_out_is_no_view_and_a_frame_of_such_regions_has_none(
    score: Callable[..., dict[str, Any]], make_rows: Callable[..., list[dict[str, Any]]]
) -> None:
    rows = make_rows(24, seed=18)
    fewer = [{**row, "regions": row["regions"][:1]} for row in rows]
    fewer[3]["regions"] = []
    emptied = [{**row, "regions": [dict(region) for region in row["regions"]]} for row in rows]
    for number, row in enumerate(emptied):
        for region in row["regions"][0 if number == 3 else 1 :]:
            nothing = np.zeros(region["mask"]["size"], dtype=np.bool_)
            region |= {"mask": masks.encode(nothing), "area_px": 0, "bbox": [0] * 4}
    expected, found = score("fewer", fewer, "none", "region"), score("emptied", emptied, "none", "region")
    assert figures(found, "region") == figures(expected, "region")
    assert found["masks"]["region"]["sources"] == expected["masks"]["region"]["sources"]
    assert (found["n_frames"], found["frames_without_regions"], found["regions_vanished"]) == (23, 1, 25)
    assert expected["regions_vanished"] == 0


def test_masks_scored_together_have_the_same_figures_as_alone(learned: Path, shapes: Path) -> None:
    together = evaluate(Scoring(learned, str(shapes), resamples=50), masks=ALL)
    assert together == json.loads(evaluation_file(learned, together["dataset"], "test-all").read_text())
    for mask in ALL:
        alone = evaluate(Scoring(learned, str(shapes), resamples=50), masks=(mask,))
        assert alone["masks"] == {mask: together["masks"][mask]}
        assert evaluation_file(learned, together["dataset"], f"test-{mask}").is_file()


def test_every_mask_is_compared_with_none_on_the_same_frames(learned: Path, shapes: Path) -> None:
    result = evaluate(Scoring(learned, str(shapes), resamples=200), masks=ALL)
    assert list(result["minus_none"]) == ["region", "shuffled", "blank"]
    for mask, difference in result["minus_none"].items():
        assert difference["top5"] is None  # of four planes the true one is always among five
        ours, none = (result["masks"][which]["top1"]["value"] for which in (mask, "none"))
        assert difference["top1"]["value"] == pytest.approx(ours - none)
        assert difference["top1"]["low"] <= difference["top1"]["value"] <= difference["top1"]["high"]
    assert evaluate(Scoring(learned, str(shapes), resamples=10), masks=("region", "blank"))["minus_none"] == {}


def test_blank_ignores_the_pixels_and_region_does_not(
    score: Callable[..., dict[str, Any]], make_rows: Callable[..., list[dict[str, Any]]]
) -> None:
    random = np.random.default_rng(3)
    rows = make_rows(24, seed=13)
    noise = [with_image(row, lambda size: random.integers(0, 256, size)) for row in rows]
    black = [with_image(row, np.zeros) for row in rows]
    results = {
        name: score(name, made, "region", "blank")
        for name, made in {"true": rows, "noise": noise, "black": black}.items()
    }
    assert figures(results["true"], "blank") == figures(results["noise"], "blank")
    assert figures(results["true"], "region") != figures(results["noise"], "region")
    assert figures(results["black"], "region") == figures(results["true"], "blank")


def test_shuffled_sees_the_image_through_the_masks_of_another_patient(
    score: Callable[..., dict[str, Any]], make_rows: Callable[..., list[dict[str, Any]]]
) -> None:
    rows = of_one_size(make_rows(96, seed=14))
    patients = np.unique([row["patient_key"] for row in rows], return_inverse=True)[1]
    exchanged = [
        {**row, "regions": rows[donor]["regions"]}
        for row, donor in zip(rows, choose_donors(patients, seed=5), strict=True)
    ]
    shuffled = score("dataset", rows, "region", "shuffled", seed=5)
    by_hand = score("exchanged", exchanged, "region", seed=5)
    assert figures(shuffled, "shuffled") == figures(by_hand, "region") != figures(shuffled, "region")


def test_a_view_has_the_image_of_its_frame_and_the_masks_of_its_mode(shapes: Path) -> None:
    frames = open_split(read_description(str(shapes)), "test")
    transform = PadToSquare(size=32)
    views = FrameViews(frames, np.array([7, 2, 11]), ALL, transform, donors_N=np.array([2, 0, 1]))[0]
    assert isinstance(views, Views)
    own, other = (frames.row(index) for index in (7, 11))
    assert np.array_equal(views.image, transform.image(decode_image(own)))
    assert np.array_equal(views.masks["none"], transform.all_one()[None])
    for mode, row in (("region", own), ("blank", own), ("shuffled", other)):
        expected = [transform.mask(masks.decode(region["mask"])) for region in row["regions"]]
        assert np.array_equal(views.masks[mode], expected), mode


def test_a_structure_that_the_crop_leaves_out_is_an_empty_view_of_the_released_protocol(
    make_rows: Callable[..., list[dict[str, Any]]], write_dataset: Callable[..., Path], tmp_path: Path
) -> None:
    rows = make_rows(2, seed=1)
    edge = np.zeros((80, 120), dtype=np.bool_)
    edge[:, :5] = True
    for row in rows:
        row["regions"] = [{**row["regions"][0], "mask": masks.encode(edge), "area_px": masks.area_px(edge)}]
    frames = open_split(read_description(str(write_dataset(tmp_path / "edge", {"test": rows}))), "test")
    crop = CropToSquare.like(PadToSquare(size=32))
    views = FrameViews(frames, np.array([0]), ("region",), crop, region_seed=0, keep_empty=True)[0]
    assert isinstance(views, Views)
    assert not views.masks["region"].any()
    assert isinstance(FrameViews(frames, np.array([0]), ("region",), crop)[0], UserError)


@pytest.mark.parametrize(
    "frames", [[1, 1], [4] * 20, [1, 2, 3, 4], [5, 1, 2, 2], [6, 1, 2], [3, 3], [50, *[1] * 60], [1, 1, 9]]
)
def test_a_donor_belongs_to_another_patient_and_serves_once_if_possible(frames: list[int]) -> None:
    patients = np.random.default_rng(0).permutation(np.repeat(np.arange(len(frames)), frames))
    for seed in range(20):
        donors = choose_donors(patients, seed)
        assert (patients[donors] != patients).all()
        if max(frames) <= sum(frames) / 2:
            assert sorted(donors) == list(range(len(patients)))


def test_donors_depend_on_the_seed_alone_and_come_from_every_other_patient() -> None:
    patients = np.repeat(np.arange(10), 4)
    assert np.array_equal(choose_donors(patients, 1), choose_donors(patients, 1))
    assert not np.array_equal(choose_donors(patients, 1), choose_donors(patients, 2))
    seen = np.zeros((10, 10), dtype=int)
    for seed in range(1000):
        np.add.at(seen, (patients, patients[choose_donors(patients, seed)]), 1)
    expected = 1000 * 4 / 9
    others = seen[~np.eye(10, dtype=bool)]
    assert others.min() > 0.75 * expected
    assert others.max() < 1.25 * expected
    donors_of_one = {len(set(patients[choose_donors(patients, seed)[:4]])) for seed in range(20)}
    assert max(donors_of_one) >= 3  # not a single donor patient for all frames of a patient


def test_the_share_of_donors_with_the_same_plane_is_reported(
    score: Callable[..., dict[str, Any]], make_rows: Callable[..., list[dict[str, Any]]]
) -> None:
    rows = make_rows(16, seed=16)
    for row in rows:
        row["plane"] = 0
    assert score("one plane", rows, "shuffled")["masks"]["shuffled"]["donors"] == {"seed": 0, "same_plane": 1.0}


def test_sentences_are_worded_like_the_datasets_captions(
    learned: Path, shapes: Path, make_rows: Callable[..., list[dict[str, Any]]]
) -> None:
    row = make_rows(1, seed=17)[0]
    weeks = str(row["ga_days"] // 7)
    captions = {"whole": row["caption"], "region": row["regions"][0]["caption"]}
    result = evaluate(Scoring(learned, str(shapes), resamples=10), masks=ALL)
    for mode, kind in (("none", "whole"), ("region", "region"), ("shuffled", "region"), ("blank", "region")):
        said = result["masks"][mode]["prompts"]
        assert len(said) == len(WEEKS)
        begun = said[0].replace(str(WEEKS[0]), weeks).format(plane="transthalamic").removesuffix(".")
        assert captions[kind].startswith(begun), mode


def test_packaged_templates_are_recognised_by_their_captions() -> None:
    said: dict[str, set[str | None]] = {"whole": set(), "region": set()}
    for folder, kind in (("global", "whole"), ("region", "region")):
        for file in sorted((Path(captioning.__file__).parent / "sentences/templates/en" / folder).glob("*.jinja")):
            template = jinja2.Template(file.read_text().strip())
            words = {"ga": 22, "article": "A", "plane": "femur", "structures": ["femur"], "structure": "femur"}
            said[kind] |= set(count_wordings(kind, [(template.render(words), 1)]))  # type: ignore[arg-type]
    for kind, wordings in WORDINGS.items():
        assert said[kind] == {None, *(wording.sentence for wording in wordings)}, kind
        assert count_wordings(kind, [("Femur, seen at 22 weeks.", 3)]) == {None: 3}
    for wording in WORDINGS["whole"]:
        assert count_wordings("whole", [(wording.sentence.format(weeks=22, plane="femur"), 1)]) == {wording.sentence: 1}


@pytest.mark.slow
def test_wordings_are_averaged(three_splits: Path, random_run: Callable[..., Path]) -> None:
    results = [
        evaluate(Scoring(random_run(3, captions=captions_read(wordings)), str(three_splits), resamples=10))
        for wordings in (1, 2)
    ]
    one, two = (result["masks"]["none"] for result in results)
    assert (len(one["prompts"]), len(two["prompts"])) == (8, 16)
    assert two["prompts"][:8] == one["prompts"]
    assert one["calibration"] != two["calibration"]


def test_the_wording_is_that_of_the_training_captions_and_not_of_the_scored_split(
    learned: Path, shapes: Path, score: Callable[..., dict[str, Any]], make_rows: Callable[..., list[dict[str, Any]]]
) -> None:
    read = checkpoints.load_model(learned, pytest.fail)[2]["captions"]
    first = {kind: wordings[0].sentence for kind, wordings in WORDINGS.items()}
    assert read["wordings"] == {"whole": {first["whole"]: 240}, "region": {first["region"]: 480}}
    assert read["others"] == {"whole": 0, "region": 0}
    assert set(read["planes"].values()) == {60}
    rows = make_rows(16, seed=81)
    reworded = [
        {
            **row,
            "caption": f"Fetal ultrasound at 22 weeks of gestation in the {row['plane']} plane.",
            "regions": [{**region, "caption": "Femur, outlined."} for region in row["regions"]],
        }
        for row in rows
    ]
    expected, found = score("dataset", rows, "none", "region"), score("reworded", reworded, "none", "region")
    assert found["masks"] == expected["masks"]
    assert found["wording"] == "the checkpoint"
    assert set(found["notes"]) == {"top5_trivial"}


def test_planes_are_called_what_the_training_captions_call_them(
    learned: Path, write_dataset: Callable[..., Path], make_rows: Callable[..., list[dict[str, Any]]], tmp_path: Path
) -> None:
    rows = make_rows(16, seed=82, patients="unseen")
    names = checkpoints.load_model(learned, pytest.fail)[2]["planes"]
    expected, found = (
        evaluate(Scoring(learned, str(write_dataset(tmp_path / name, {"test": rows}, planes=planes)), resamples=10))
        for name, planes in (("same", names), ("renamed", {plane: f"view {plane}" for plane in names}))
    )
    assert found["masks"] == expected["masks"]


def test_a_checkpoint_that_does_not_say_how_its_captions_were_worded_is_never_asked_in_silence(
    random_run: Callable[..., Path], three_splits: Path
) -> None:
    """As earlier versions wrote them. The train split tells, if it is that of the dataset that was trained on."""
    older = random_run()
    fingerprint = read_description(str(three_splits)).fingerprint
    folder = next((older / "checkpoints").iterdir())
    for trained_on, source, note, sentences in (
        (fingerprint, "the train split of the scored dataset", "wording_from_train_split", 8),
        ("another", "all packaged wordings", "wording_unknown", 32),
    ):
        rewrite_meta(folder, dataset={"source": "three", "fingerprint": trained_on})
        result = evaluate(Scoring(older, str(three_splits), resamples=10))
        assert result["wording"] == source
        assert note in result["notes"]
        assert len(result["masks"]["none"]["prompts"]) == sentences


def rewrite_meta(folder: Path, **changes: Any) -> None:
    """Let a checkpoint say this, and nothing of its captions, in the format of earlier versions."""
    meta = json.loads((folder / "meta.json").read_text()) | changes
    meta.pop("captions", None)
    (folder / "meta.json").write_text(json.dumps(meta))
    marker = json.loads((folder / "sono.json").read_text())
    marker["files"]["meta.json"] = checkpoints.sha256_of(folder / "meta.json")
    (folder / "sono.json").write_text(json.dumps({**marker, "format": 2}))


@pytest.mark.parametrize(
    ("wordings", "kind", "note"),
    [
        ({"whole": {}, "region": {}}, "none", "wording_unread"),
        ({"whole": {WORDINGS["whole"][2].sentence: 5}, "region": {}}, "region", "wording_of_whole"),
    ],
)
def test_a_wording_that_the_model_never_read_is_said(
    wordings: dict[str, Any], kind: str, note: str, random_run: Callable[..., Path], three_splits: Path
) -> None:
    run = random_run(captions={**captions_read(), "wordings": wordings, "planes": {"femur": 5, "four_chamber": 7}})
    result = evaluate(Scoring(run, str(three_splits), resamples=10), masks=(kind,))
    assert note in result["notes"]
    expected = [WORDINGS["whole"][2].sentence] if kind == "region" else [each.sentence for each in WORDINGS["whole"]]
    assert result["masks"][kind]["prompts"] == list(prompts(expected))
    assert result["wording"] == ("the checkpoint" if kind == "region" else "all packaged wordings")
    assert result["notes"]["planes_not_trained"] == (
        "The model was trained on no frame of transthalamic (8 frames), abdominal circumference (8 frames)."
    )


def test_no_prompt_names_a_structure_and_every_age_occurs_once() -> None:
    structures = [name for entry in vocabulary.load().structures.values() for name in (entry.name, *entry.synonyms)]
    for wordings in WORDINGS.values():
        for wording in wordings:
            said = prompts([wording.sentence])
            for sentence in said:
                assert sentence.count("{plane}") == 1
                words = f" {sentence.lower().replace(',', '').rstrip('.')} "
                assert not [name for name in structures if f" {name.lower()} " in words]
            ages = [weeks for weeks in range(50) if any(re.search(rf"\b{weeks}\b", sentence) for sentence in said)]
            assert ages == list(WEEKS)
            assert len(set(said)) == len(said) == len(WEEKS)


def test_the_error_quotes_a_plane_name_that_is_too_long(
    random_run: Callable[..., Path], make_rows: Callable[..., Any], write_dataset: Callable[..., Path], tmp_path: Path
) -> None:
    planes = {"femur": "femur", "long": "very " * 80 + "long"}
    rows = [{**row, "plane": 0} for row in make_rows(8, seed=19)]
    dataset = write_dataset(tmp_path / "dataset", {"test": rows}, planes=planes)
    with pytest.raises(UserError, match=r"a sentence has \d+ tokens, but the text tower reads 77: .*; give the plane"):
        evaluate(Scoring(random_run(), str(dataset)))


@pytest.mark.slow
def test_frames_of_a_single_patient_are_an_error(
    random_run: Callable[..., Path], make_rows: Callable[..., Any], write_dataset: Callable[..., Path], tmp_path: Path
) -> None:
    rows = make_rows(8, seed=20)
    for row in rows[4:]:
        row["regions"] = []
    dataset = write_dataset(tmp_path / "dataset", {"test": rows})
    assert evaluate(Scoring(random_run(), str(dataset), resamples=10))["n_patients"] == 2
    with pytest.raises(UserError, match=r"all frames of the test split that could be scored are of one patient"):
        evaluate(Scoring(random_run(), str(dataset)), masks=("region",))


def test_figures_are_broken_down_by_center_scanner_and_trimester(
    random_run: Callable[..., Path], make_rows: Callable[..., Any], write_dataset: Callable[..., Path], tmp_path: Path
) -> None:
    rows = make_rows(24, seed=23)
    for number, row in enumerate(rows):
        row |= {"center": "AB"[number // 16], "ga_days": (97, 98, 195, 196, None)[number % 5]}
    dataset = write_dataset(tmp_path / "dataset", {"test": rows})
    result = evaluate(Scoring(random_run(), str(dataset), resamples=20))
    found = result["masks"]["none"]["by"]
    counts = {by: {name: group["n_frames"] for name, group in groups.items()} for by, groups in found.items()}
    assert counts == {
        "center": {"A": 16, "B": 8},
        "scanner": {"unknown": 24},
        "trimester": {"first": 5, "second": 10, "third": 5, "unknown": 4},
    }
    assert (found["center"]["A"]["n_patients"], found["center"]["B"]["n_patients"]) == (4, 2)
    weighted = sum(group["top1"]["value"] * group["n_frames"] for group in found["center"].values()) / 24
    assert weighted == pytest.approx(result["masks"]["none"]["top1"]["value"])  # as many of each plane in both
    assert set(found["trimester"]["first"]["top1"]) == {"value", "low", "high", "n", "n_patients"}
    assert (found["center"]["B"]["top1"]["n"], found["center"]["B"]["top1"]["n_patients"]) == (8, 2)


def test_scanners_are_separate_groups_if_the_dataset_names_them(
    random_run: Callable[..., Path], make_rows: Callable[..., Any], write_dataset: Callable[..., Path], tmp_path: Path
) -> None:
    rows = make_rows(16, seed=24)
    for number, row in enumerate(rows):
        row |= {"manufacturer": "GE" if number < 8 else "Philips", "model": "V8" if number < 12 else None}
    folder = write_dataset(tmp_path / "dataset", {"test": rows})
    found = evaluate(Scoring(random_run(), str(folder), resamples=20))
    by = found["masks"]["none"]["by"]["scanner"]
    assert {name: group["n_patients"] for name, group in by.items()} == {"GE V8": 2, "Philips": 1, "Philips V8": 1}
    assert by["Philips"]["top1"]["low"] is None


@pytest.mark.slow
def test_calibration_uses_a_softmax_with_the_learned_temperature(
    three_splits: Path, random_run: Callable[..., Path]
) -> None:
    def hot(model: Any) -> None:
        model.clip.logit_scale.fill_(8.0)

    def cold(model: Any) -> None:
        model.clip.logit_scale.fill_(-8.0)

    for change, logarithm, bounds in ((hot, 8.0, (0.6, 1.0)), (cold, -8.0, (0.2, 0.3))):
        figures = evaluate(Scoring(random_run(0, change), str(three_splits), resamples=10))["masks"]["none"][
            "calibration"
        ]
        assert figures["temperature"] == pytest.approx(np.exp(logarithm), rel=1e-5)
        frames = sum(each["n"] for each in figures["bins"])
        said = sum(each["n"] * each["confidence"] for each in figures["bins"]) / frames
        assert frames == 32
        assert bounds[0] <= said <= bounds[1]


def test_planes_can_count_as_one_class(three_splits: Path, random_run: Callable[..., Path]) -> None:
    classes = {"limb": ("femur", "humerus"), "rest": ("four_chamber", "transthalamic")}
    result = evaluate(Scoring(random_run(), str(three_splits), resamples=10), classes=classes)
    assert (result["n_frames"], result["frames_without_plane"]) == (24, 8)
    figures = result["masks"]["none"]
    assert figures["confusion"]["true_by_predicted"] == ["limb", "rest"]
    assert [sum(row) for row in figures["confusion"]["counts"]] == [8, 16]
    with pytest.raises(UserError, match=r"the class 'arm' has no plane in the dataset's vocabulary.*humerus"):
        evaluate(Scoring(random_run(), str(three_splits)), classes={**classes, "arm": ("humerus",)})


def test_progress_counts_batches_and_frames_to_the_end(learned: Path, shapes: Path) -> None:
    told: list[Progress] = []
    evaluate(Scoring(learned, str(shapes), resamples=10, progress=told.append), masks=ALL)
    for stage in ("masks alone", "evaluate"):
        counts = [(step.parts_done, step.parts_total, step.rows) for step in told if step.stage == stage]
        assert counts == [(1, 3, 32), (2, 3, 64), (3, 3, 80)]
    last = [step for step in told if step.stage == "masks of train"][-1]
    assert (last.parts_done, last.parts_total, last.rows) == (8, 8, 240)

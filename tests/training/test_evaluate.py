from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sono.manifests import masks, vocabulary
from sono.manifests.errors import UserError
from sono.manifests.stages import Progress
from sono.training import checkpoints, data
from sono.training.evaluate import MASK_SETS, PROMPTS, WEEKS, evaluate
from sono.training.transforms import PadToSquare
from sono.training.views import MODES, FrameViews, Kind, Views, choose_donors

ALL = MASK_SETS["all"]
FIGURES = ("top1", "top5", "per_plane", "confusion")


@pytest.fixture
def score(learned: Path, write_dataset: Callable[..., Path], tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """The result for frames as the only split of a dataset."""

    def write_and_score(name: str, rows: list[dict[str, Any]], *modes: str, **options: Any) -> dict[str, Any]:
        dataset = write_dataset(tmp_path / name, {"test": rows})
        return evaluate(learned, str(dataset), masks=modes, resamples=50, **options)

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
    loaded = checkpoints.latest(learned, pytest.fail)
    assert loaded is not None
    result = evaluate(learned, str(shapes), split="train", resamples=10)
    assert result["checkpoint"] == {"file": "step-00000110.pt", "sha256": loaded.sha256, "step": 110}
    assert result["n_frames"] == 240
    assert result["minus_none"] == {}
    assert result == json.loads((learned / "evaluation/train-none.json").read_text())


def test_figures_are_those_of_the_checkpoint_and_not_of_the_architecture(
    learned: Path, shapes: Path, tmp_path: Path
) -> None:
    loaded = checkpoints.latest(learned, pytest.fail)
    assert loaded is not None
    wiped = {name: value * 0 for name, value in loaded.content["model"].items()}
    checkpoints.save(tmp_path, {**loaded.content, "model": wiped}, keep=1)
    before, after = (
        evaluate(run, str(shapes), resamples=10)["masks"]["none"]["top1"]["value"] for run in (learned, tmp_path)
    )
    assert before > 0.4
    assert after <= 0.25 + 1e-9


@pytest.mark.parametrize("other", ["region", "shuffled", "blank"])
def test_all_masks_are_scored_on_the_same_frames_and_the_others_are_counted(
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


def test_masks_scored_together_have_the_figures_that_each_has_alone(learned: Path, shapes: Path) -> None:
    together = evaluate(learned, str(shapes), masks=ALL, resamples=50)
    assert together == json.loads((learned / "evaluation/test-all.json").read_text())
    for mask in ALL:
        alone = evaluate(learned, str(shapes), masks=(mask,), resamples=50)
        assert alone["masks"] == {mask: together["masks"][mask]}
        assert (learned / f"evaluation/test-{mask}.json").is_file()


def test_every_mask_is_compared_with_none_frame_by_frame(learned: Path, shapes: Path) -> None:
    result = evaluate(learned, str(shapes), masks=ALL, resamples=200)
    assert list(result["minus_none"]) == ["region", "shuffled", "blank"]
    for mask, difference in result["minus_none"].items():
        for name in ("top1", "top5"):
            ours, none = (result["masks"][which][name]["value"] for which in (mask, "none"))
            assert difference[name]["value"] == pytest.approx(ours - none)
            assert difference[name]["low"] <= difference[name]["value"] <= difference[name]["high"]
        assert difference["top5"] == {"value": 0, "low": 0, "high": 0}  # of four planes the true one is always there
    assert evaluate(learned, str(shapes), masks=("region", "blank"), resamples=10)["minus_none"] == {}


def test_blank_is_deaf_to_the_pixels_and_region_is_not(
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


def test_shuffled_sees_the_true_image_through_the_masks_of_another_patients_frame(
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
    frames = data.open_split(data.describe(str(shapes)), "test")
    transform = PadToSquare(size=32)
    views = FrameViews(frames, np.array([7, 2, 11]), np.array([2, 0, 1]), ALL, transform)[0]
    assert isinstance(views, Views)
    own, other = (frames.row(index) for index in (7, 11))
    assert np.array_equal(views.image, transform.image(data.decode_image(own)))
    assert np.array_equal(views.masks["none"], transform.all_one()[None])
    for mode, row in (("region", own), ("blank", own), ("shuffled", other)):
        expected = [transform.mask(masks.decode(region["mask"])) for region in row["regions"]]
        assert np.array_equal(views.masks[mode], expected), mode


@pytest.mark.parametrize(
    "frames", [[1, 1], [4] * 20, [1, 2, 3, 4], [5, 1, 2, 2], [6, 1, 2], [3, 3], [50, *[1] * 60], [1, 1, 9]]
)
def test_a_donor_is_a_frame_of_another_patient_and_where_it_can_be_each_is_one_once(frames: list[int]) -> None:
    patients = np.random.default_rng(0).permutation(np.repeat(np.arange(len(frames)), frames))
    for seed in range(20):
        donors = choose_donors(patients, seed)
        assert (patients[donors] != patients).all()
        if max(frames) <= sum(frames) / 2:
            assert sorted(donors) == list(range(len(patients)))


def test_donors_are_a_function_of_the_seed_and_reach_every_other_patient() -> None:
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
    assert max(donors_of_one) >= 3  # not one other patient for all frames of a patient


def test_shuffled_needs_another_patient_and_says_what_to_do_instead(
    score: Callable[..., dict[str, Any]], make_rows: Callable[..., list[dict[str, Any]]]
) -> None:
    rows = make_rows(8, seed=15)
    for row in rows[4:]:
        row["regions"] = []
    with pytest.raises(UserError, match=r"are of one patient.*; score another split, or --mask none, region"):
        score("dataset", rows, "none", "shuffled")


def test_the_share_of_donors_of_the_same_plane_is_told(
    score: Callable[..., dict[str, Any]], make_rows: Callable[..., list[dict[str, Any]]]
) -> None:
    rows = make_rows(16, seed=16)
    for row in rows:
        row["plane"] = 0
    assert score("one plane", rows, "shuffled")["masks"]["shuffled"]["donors"] == {"seed": 0, "same_plane": 1.0}


def test_prompts_begin_as_captions_of_their_kind_do(
    learned: Path, shapes: Path, make_rows: Callable[..., list[dict[str, Any]]]
) -> None:
    row = make_rows(1, seed=17)[0]
    weeks = str(row["ga_days"] // 7)
    captions = {"whole": row["caption"], "region": row["regions"][0]["caption"]}
    for kind, caption in captions.items():
        prompt = PROMPTS[kind][0].replace(str(WEEKS[0]), weeks).format(plane="transthalamic")  # type: ignore[index]
        assert caption.startswith(prompt.removesuffix(".")), kind
    result = evaluate(learned, str(shapes), masks=ALL, resamples=10)
    for name, mode in MODES.items():
        assert result["masks"][name]["prompts"] == list(PROMPTS[mode.kind])


@pytest.mark.parametrize("kind", ["whole", "region"])
def test_sentences_of_a_kind_decide_the_figures_of_that_kind_only(
    kind: Kind, learned: Path, shapes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = evaluate(learned, str(shapes), masks=MASK_SETS["both"], resamples=10)
    monkeypatch.setitem(PROMPTS, kind, ("A sentence without the name.",))  # type: ignore[arg-type]
    after = evaluate(learned, str(shapes), masks=MASK_SETS["both"], resamples=10)
    changed = [MODES[mask].kind for mask in ("none", "region") if figures(before, mask) != figures(after, mask)]
    assert changed == [kind]


def test_no_prompt_names_a_structure_and_every_age_is_named_once() -> None:
    structures = [name for entry in vocabulary.load().structures.values() for name in (entry.name, *entry.synonyms)]
    for prompts in PROMPTS.values():
        for prompt in prompts:
            assert prompt.count("{plane}") == 1
            words = f" {prompt.lower().replace(',', '').rstrip('.')} "
            assert not [name for name in structures if f" {name.lower()} " in words]
        assert [weeks for weeks in range(50) if any(f" {weeks}-week" in prompt for prompt in prompts)] == list(WEEKS)
        assert len(set(prompts)) == len(prompts) == len(WEEKS)


def test_progress_counts_batches_and_frames_to_the_end(learned: Path, shapes: Path) -> None:
    told: list[Progress] = []
    evaluate(learned, str(shapes), masks=ALL, resamples=10, progress=told.append)
    assert [(step.parts_done, step.parts_total, step.rows) for step in told] == [(1, 3, 32), (2, 3, 64), (3, 3, 80)]

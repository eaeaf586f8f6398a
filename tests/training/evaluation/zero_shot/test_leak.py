"""The leak: what masks alone tell about the plane, fitted on other patients, and what it must not know."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sono.manifests import masks
from sono.manifests.filenames import evaluation_file
from sono.training.commands.evaluation_text import recognition
from sono.training.evaluation.scoring import Scoring
from sono.training.evaluation.zero_shot.leak import describe_masks, mask_moments
from sono.training.evaluation.zero_shot.run import evaluate

Rows = list[dict[str, Any]]
Measure = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def splits(make_rows: Callable[..., Rows]) -> dict[str, Rows]:
    counts = {"train": 120, "test": 32}
    return {name: make_rows(count, seed=seed, patients=name) for seed, (name, count) in enumerate(counts.items(), 31)}


@pytest.fixture(scope="module")
def run(random_run: Callable[..., Path]) -> Path:
    """Random weights: the leak does not depend on them."""
    return random_run()


@pytest.fixture
def measure(run: Path, write_dataset: Callable[..., Path], tmp_path: Path) -> Measure:
    """The result of a model with random weights on a dataset of these splits."""

    def score(splits: dict[str, Rows], *, modes: tuple[str, ...] = ("region",)) -> dict[str, Any]:
        folder = tmp_path / f"dataset-{len(list(tmp_path.iterdir()))}"
        return evaluate(Scoring(run, str(write_dataset(folder, splits)), resamples=20), masks=modes)

    return score


def page_beside(run: Path, result: dict[str, Any]) -> str:
    return evaluation_file(run, result["dataset"], "test-both").with_suffix(".html").read_text()


def with_regions(row: dict[str, Any], change: Callable[[dict[str, Any]], dict[str, Any]]) -> dict[str, Any]:
    return {**row, "regions": [{**region, **change(region)} for region in row["regions"]]}


def test_moments_are_those_of_a_rectangle() -> None:
    mask = np.zeros((64, 64), dtype=np.uint8)
    mask[8:40, 20:36] = 255  # 16 across, 32 down
    area, x, y, spread_x, spread_y, correlation = mask_moments(mask[None])[0]
    assert np.exp(area) == pytest.approx(16 * 32 / 64**2)
    assert (x, y) == pytest.approx((28 / 64, 24 / 64))
    assert (spread_x, spread_y) == pytest.approx(((16**2 - 1) ** 0.5 / 12**0.5 / 64, (32**2 - 1) ** 0.5 / 12**0.5 / 64))
    assert correlation == pytest.approx(0, abs=1e-9)


def test_moments_count_partly_covered_pixels_and_slanted_shapes() -> None:
    diagonal = (np.eye(64) * 255).astype(np.uint8)
    faint = np.zeros((64, 64), dtype=np.uint8)
    faint[10, 50] = 51  # a fifth of a pixel
    slanted, against, dot, nothing = mask_moments(np.stack([diagonal, diagonal[:, ::-1], faint, np.zeros_like(faint)]))
    assert slanted[5] == pytest.approx(1)
    assert against[5] == pytest.approx(-1)
    assert np.exp(dot[0]) == pytest.approx(0.2 / 64**2)
    assert dot[1:] == pytest.approx([50.5 / 64, 10.5 / 64, 0, 0, 0])
    assert nothing[1:] == pytest.approx([0.5, 0.5, 0, 0, 0])
    assert np.isfinite(nothing[0])


def test_a_description_does_not_depend_on_the_order_of_the_masks() -> None:
    drawn = (np.random.default_rng(1).random((3, 32, 32)) < 0.2).astype(np.uint8) * 255
    assert describe_masks(drawn) == pytest.approx(describe_masks(drawn[::-1]))
    assert describe_masks(drawn).shape == (24,)


@pytest.mark.slow
def test_masks_of_different_planes_leak_and_pixels_and_names_play_no_part(
    splits: dict[str, Rows], measure: Measure
) -> None:
    result = measure(splits)
    leak = result["leak"]
    assert leak["top1"]["value"] > 0.9  # four planes, told apart by the shapes of their two regions
    assert leak["top1"]["low"] <= leak["top1"]["value"] <= leak["top1"]["high"]
    assert leak["fitted_on"] == {"split": "train", "n_frames": 120, "n_patients": 30}
    assert sum(map(sum, leak["confusion"]["counts"])) == result["n_frames"] == 32
    gain = result["minus_leak"]["region"]["top1"]
    assert gain["value"] == pytest.approx(result["masks"]["region"]["top1"]["value"] - leak["top1"]["value"])
    image = splits["train"][0]["image"]
    size = splits["train"][0]["regions"][0]["mask"]["size"]
    renamed = {
        name: [
            with_regions(row, lambda _: {"structure": "heart", "caption": None})
            | ({"image": image} if row["regions"][0]["mask"]["size"] == size else {})
            for row in rows
        ]
        for name, rows in splits.items()
    }
    assert measure(renamed)["leak"] == leak


@pytest.mark.slow
def test_masks_that_are_equal_in_all_planes_do_not_leak(splits: dict[str, Rows], measure: Measure) -> None:
    def square(region: dict[str, Any]) -> dict[str, Any]:
        mask = np.zeros(region["mask"]["size"], dtype=np.bool_)
        mask[20:40, 20:40] = True
        return {"mask": masks.encode(mask)}

    same = {name: [with_regions(row, square) for row in rows] for name, rows in splits.items()}
    assert measure(same)["leak"]["top1"]["value"] < 0.45  # chance is 0.25; images have three sizes


@pytest.mark.slow
def test_the_classifier_is_fitted_on_frames_with_a_plane_and_regions_of_patients_who_are_not_scored(
    splits: dict[str, Rows], measure: Measure
) -> None:
    plane_or_region_is_missing = [{**splits["train"][0], "plane": None}, {**splits["train"][1], "regions": []}]
    of_nobody = [{**row, "patient_key": None} for row in splits["train"][2:6]]
    wrong = [{**row, "plane": (row["plane"] + 1) % 4} for row in splits["test"]]  # would spoil it
    others = splits["train"][8:]
    leak = measure({"train": plane_or_region_is_missing + of_nobody + wrong + others, "test": splits["test"]})["leak"]
    assert leak["fitted_on"] == {"split": "train", "n_frames": 112, "n_patients": 28}
    assert leak["top1"]["value"] > 0.9
    only_scored = measure({"train": wrong, "test": splits["test"]})
    assert set(only_scored["leak"]) == {"not_measured"}
    assert only_scored["minus_leak"] == {}


@pytest.mark.slow
def test_a_leak_that_cannot_be_measured_is_said_where_the_figures_are(
    splits: dict[str, Rows], run: Path, write_dataset: Callable[..., Path], tmp_path: Path
) -> None:
    dataset = write_dataset(tmp_path / "dataset", {"test": splits["test"]})
    result = evaluate(Scoring(run, str(dataset), resamples=10), masks=("none", "region"))
    assert "the train split has no frame" in result["leak"]["not_measured"]
    assert "not measured: the train split has no frame" in page_beside(run, result)
    assert any(line.startswith("leak, ") and "not measured" in line for line in recognition(result))
    whole = evaluate(Scoring(run, str(dataset), resamples=10))
    assert whole["leak"] is None
    assert not any("leak" in line for line in recognition(whole))


def test_a_plane_without_frames_to_fit_on_is_never_an_answer(splits: dict[str, Rows], measure: Measure) -> None:
    without_femur = [row for row in splits["train"] if row["plane"] != 3]
    leak = measure({"train": without_femur, "test": splits["test"]}, modes=("blank",))["leak"]
    assert leak["planes_not_fitted"] == ["femur"]
    assert leak["per_plane"]["femur"] == {"n_frames": 8, "n_patients": 8, "top1": 0, "top5": None, "f1": 0}


def test_with_one_plane_the_masks_say_it_every_time(splits: dict[str, Rows], measure: Measure) -> None:
    one_plane = {name: [row for row in rows if row["plane"] == 1] for name, rows in splits.items()}
    result = measure(one_plane)
    top1 = result["leak"]["top1"]
    assert (top1["value"], top1["high"]) == (1, 1)
    assert 0.4 < top1["low"] < 1  # eight patients prove little
    assert result["minus_leak"]["region"]["top1"]["value"] <= 0


@pytest.mark.slow
def test_page_and_output_put_the_leak_beside_the_difference_and_say_what_it_is_not(
    splits: dict[str, Rows], run: Path, write_dataset: Callable[..., Path], tmp_path: Path
) -> None:
    dataset = write_dataset(tmp_path / "dataset", splits)
    result = evaluate(Scoring(run, str(dataset), resamples=50), masks=("none", "region"))
    page = page_beside(run, result)
    lines = list(recognition(result))
    share = f"{100 * result['leak']['top1']['value']:.1f}"
    assert f'{share} % <span class="gap">' in page
    assert "<td>region – leak</td>" in page
    assert [line.split()[0] for line in lines[1:4]] == ["none", "region", "leak"]
    assert f" {share}% " in lines[3]
    for text in (page, "\n".join(lines)):
        assert "not a gain over training without masks" in text
        assert "scanner" in text

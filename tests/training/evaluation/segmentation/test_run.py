from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from sono.manifests import masks
from sono.manifests.errors import UserError
from sono.manifests.filenames import evaluation_file
from sono.training.data.dataset import open_split, read_description
from sono.training.evaluation.scoring import Scoring
from sono.training.evaluation.segmentation.average_mask import AverageMask
from sono.training.evaluation.segmentation.decoder import dense_features
from sono.training.evaluation.segmentation.run import segment
from sono.training.evaluation.segmentation.scores import without_padding
from sono.training.evaluation.segmentation.targets import OutlinedFrames, drawn_structures
from sono.training.features.encoder import Encoder
from sono.training.model.transforms import PadToSquare

Rows = list[dict[str, Any]]


def test_the_average_mask_is_where_at_least_half_of_the_masks_are() -> None:
    share = torch.tensor([[[0.0, 0.49], [0.5, 1.0]]], dtype=torch.float64)
    logits = AverageMask(share)(torch.zeros(1, 1, 1, 1), 2)
    assert (logits[0, 0] > 0).tolist() == [[False, False], [True, True]]


def square_masks(rows: Rows) -> Rows:
    """Frames whose region is the same large square on a brighter image there, so that a small grid can outline it."""
    for row in rows:
        height, width = row["regions"][0]["mask"]["size"]
        mask = np.zeros((height, width), dtype=np.bool_)
        mask[height // 4 : 3 * height // 4, width // 4 : 3 * width // 4] = True
        row["regions"] = [{**row["regions"][0], "mask": masks.encode(mask), "area_px": masks.area_px(mask)}]
    return rows


@pytest.fixture
def splits(make_rows: Callable[..., Rows]) -> dict[str, Rows]:
    counts = {"train": 24, "validation": 12, "test": 12}
    return {
        name: square_masks(make_rows(count, seed=seed, patients=name))
        for seed, (name, count) in enumerate(counts.items(), start=61)
    }


@pytest.mark.slow
def test_the_decoder_learns_to_outline(
    random_run: Callable[..., Path], splits: dict[str, Rows], write_dataset: Callable[..., Path], tmp_path: Path
) -> None:
    run, dataset = random_run(), write_dataset(tmp_path / "dataset", splits)
    result = segment(Scoring(run, str(dataset), resamples=50), epochs=16)
    assert result == json.loads(evaluation_file(run, result["dataset"], "test-segment").read_text())
    assert (result["n_frames"], result["n_patients"], result["structures"]) == (12, 3, ["spine"])
    dices = result["chosen"]["dice_by_epoch"]
    assert result["chosen"]["epoch"] == np.argmax(dices) + 1
    assert result["dice"]["value"] > 0.8
    assert result["dice"]["value"] > result["iou"]["value"] > 0.6
    # The square is always in the same place: without a look at any image, the average mask is as good.
    always, difference = result["always_the_average"], result["minus_always_the_average"]
    assert always["dice"]["value"] > 0.85
    assert difference["dice"]["value"] == pytest.approx(result["dice"]["value"] - always["dice"]["value"])
    assert difference["dice"]["low"] <= difference["dice"]["value"] <= difference["dice"]["high"]
    assert set(result["per_plane"]) == {"transthalamic", "four_chamber", "abdominal_circumference", "femur"}


@pytest.mark.slow
def test_masks_of_the_test_split_change_only_the_score(
    random_run: Callable[..., Path], splits: dict[str, Rows], write_dataset: Callable[..., Path], tmp_path: Path
) -> None:
    def emptied(rows: Rows) -> Rows:
        found = []
        for row in rows:
            height, width = row["regions"][0]["mask"]["size"]
            corner = np.zeros((height, width), dtype=np.bool_)
            corner[:20, :20] = True
            found.append({**row, "regions": [{**row["regions"][0], "mask": masks.encode(corner)}]})
        return found

    run, results = random_run(), []
    for name, changed in (
        ("true", {}),
        ("wrong", {"test": emptied(splits["test"])}),
        ("other", {"validation": emptied(splits["validation"])}),
    ):
        dataset = write_dataset(tmp_path / name, {**splits, **changed})
        results.append(segment(Scoring(run, str(dataset), resamples=10), epochs=8))
    assert results[0]["chosen"] == results[1]["chosen"] != results[2]["chosen"]
    assert results[0]["dice"] != results[1]["dice"]


def test_dense_features_come_from_the_forward_pass_with_the_complete_mask_stem(random_run: Callable[..., Path]) -> None:
    encoder = Encoder.load(random_run(), pytest.fail)
    images = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    before = dense_features(encoder, images)
    tower = encoder.model.clip.visual
    assert before.shape == (2, 128, 8, 8)
    x = encoder.transform.normalise(images, torch.full((2, 64, 64), 255, dtype=torch.uint8))
    with torch.no_grad():
        found = tower.forward_intermediates(x, indices=1, normalize_intermediates=True, output_extra_tokens=True)
    assert torch.equal(before, found["image_intermediates"][-1])
    pooled = F.normalize(found["image_intermediates_prefix"][-1][:, 0] @ tower.proj, dim=-1)
    assert torch.allclose(pooled, encoder.model.encode_image(x), atol=1e-5)
    for name in ("dwconv", "conv_mask", "conv_rgb"):
        weight = getattr(tower.conv1, name).weight
        kept = weight.detach().clone()
        with torch.no_grad():
            weight.add_(torch.randn_like(weight) * 0.1)
        assert not torch.allclose(dense_features(encoder, images), before, atol=1e-3), name
        with torch.no_grad():
            weight.copy_(kept)
    assert torch.equal(dense_features(encoder, images), before)


@pytest.mark.parametrize("size", [(120, 80), (80, 121), (96, 96)])
def test_a_mask_through_the_transform_and_back_is_the_mask(size: tuple[int, int]) -> None:
    width, height = size
    mask = np.zeros((height, width), dtype=np.bool_)
    mask[10 : height // 2, 5 : width - 20] = True
    square = PadToSquare(size=64).mask(mask)
    found = without_padding(torch.from_numpy(square.astype(np.float32)) - 127.5, mask.shape) > 0
    assert found.shape == mask.shape
    assert 2 * (found & mask).sum() / (found.sum() + mask.sum()) > 0.97


def test_foreground_joins_all_regions_and_structures_stay_separate(three_splits: Path) -> None:
    frames, transform = open_split(read_description(str(three_splits)), "test"), PadToSquare(size=64)
    apart = OutlinedFrames(frames, ("spine", "umbilical vein"), transform)[3]
    together = OutlinedFrames(frames, ("foreground",), transform)[3]
    assert not isinstance(apart, UserError)
    assert not isinstance(together, UserError)
    assert list(apart.masks) == [0, 1]
    assert list(together.masks) == [0]
    assert np.array_equal(together.masks[0], apart.masks[0] | apart.masks[1])


def test_masks_made_by_a_program_are_not_the_truth(
    splits: dict[str, Rows], write_dataset: Callable[..., Path], tmp_path: Path
) -> None:
    first, second, *_ = splits["test"]
    predicted = {**first["regions"][0], "source": "model"}
    first["regions"].append({**predicted, "structure": "invented"})
    second["regions"] = [predicted]
    dataset = str(write_dataset(tmp_path / "dataset", splits))
    frames = open_split(read_description(dataset), "test")
    assert drawn_structures(frames) == ("spine",)
    outlined = OutlinedFrames(frames, ("foreground",), PadToSquare(size=64))
    assert len(outlined) == len(splits["test"]) - 1
    target = outlined[0]
    assert not isinstance(target, UserError)
    assert target.position == 0


def test_truth_that_scaling_wiped_out_is_counted_and_not_scored(
    random_run: Callable[..., Path], splits: dict[str, Rows], write_dataset: Callable[..., Path], tmp_path: Path
) -> None:
    """As datasets built before hold them: a region whose mask has no pixel. Any decoder would "outline" it."""
    run, clean = random_run(), str(write_dataset(tmp_path / "clean", splits))
    expected = segment(Scoring(run, clean, resamples=10), epochs=1)
    assert (expected["n_masks"], expected["masks_not_scored"], expected["masks_not_trained_on"]) == (12, 0, 0)
    for rows in splits.values():
        for row in rows[:7]:
            size = row["regions"][0]["mask"]["size"]
            nothing = {"mask": masks.encode(np.zeros(size, dtype=np.bool_)), "area_px": 0, "bbox": [0] * 4}
            row["regions"] = [*row["regions"], {**row["regions"][0], "structure": "vanished", **nothing}]
    wiped = str(write_dataset(tmp_path / "wiped", splits))
    found = segment(Scoring(run, wiped, resamples=10), epochs=1)
    assert found["dice"] == expected["dice"]
    assert found["per_structure"] == expected["per_structure"]
    splits["train"][0]["regions"][1] |= {
        key: splits["train"][0]["regions"][0][key] for key in ("mask", "area_px", "bbox")
    }
    splits["test"][11]["regions"] = splits["test"][0]["regions"][1:]
    trained_on_one = segment(Scoring(run, str(write_dataset(tmp_path / "one", splits)), resamples=10), epochs=1)
    assert trained_on_one["structures"] == ["spine", "vanished"]
    assert (trained_on_one["n_frames"], trained_on_one["n_masks"]) == (11, 11)
    assert (trained_on_one["masks_not_scored"], trained_on_one["masks_not_trained_on"]) == (8, 6)
    assert list(trained_on_one["per_structure"]) == ["spine"]


def test_wrong_input_is_an_error(
    random_run: Callable[..., Path], splits: dict[str, Rows], write_dataset: Callable[..., Path], tmp_path: Path
) -> None:
    run = random_run()
    for row in splits["test"]:
        row["regions"] = []
    dataset = str(write_dataset(tmp_path / "dataset", splits))
    with pytest.raises(UserError, match="the train split is used to train or select the decoder"):
        segment(Scoring(run, dataset, split="train"))
    with pytest.raises(UserError, match=r"no frame of the test split has drawn regions.*masks import"):
        segment(Scoring(run, dataset), epochs=1)

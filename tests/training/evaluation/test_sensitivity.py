from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sono.manifests.errors import UserError
from sono.manifests.filenames import evaluation_file
from sono.training.evaluation.scoring import Scoring
from sono.training.evaluation.sensitivity import sensitivity


@pytest.mark.slow
def test_features_of_a_model_that_ignores_its_masks_do_not_move(
    random_run: Callable[..., Path], three_splits: Path
) -> None:
    def blind(model: Any) -> None:
        model.clip.visual.conv1.conv_mask.weight.zero_()

    run = random_run(0, blind)
    result = sensitivity(Scoring(run, str(three_splits), resamples=20))
    for name in ("none_region", "none_shuffled", "region_shuffled", "among_regions"):
        assert result["distances"][name]["mean"]["value"] == pytest.approx(0, abs=1e-5)
    assert result["distances"]["between_frames"]["mean"]["value"] > 1e-3
    assert result == json.loads(evaluation_file(run, result["dataset"], "test-sensitivity").read_text())


@pytest.mark.slow
def test_the_more_a_mask_weighs_the_further_features_move(random_run: Callable[..., Path], three_splits: Path) -> None:
    def weighing(factor: float) -> Callable[[Any], object]:
        return lambda model: model.clip.visual.conv1.conv_mask.weight.mul_(factor)

    ratios = [
        sensitivity(Scoring(random_run(0, weighing(factor)), str(three_splits), resamples=20))["ratio"]["none_region"]
        for factor in (0.1, 1.0)
    ]
    assert 0 < ratios[0] < ratios[1]


def test_frames_without_regions_are_counted_and_a_single_region_has_no_distance(
    random_run: Callable[..., Path], make_rows: Callable[..., Any], write_dataset: Callable[..., Path], tmp_path: Path
) -> None:
    rows = make_rows(12, seed=44)
    rows[0]["regions"] = []
    for row in rows[1:9]:
        del row["regions"][1]
    result = sensitivity(Scoring(random_run(), str(write_dataset(tmp_path / "d", {"test": rows})), resamples=20))
    assert (result["n_frames"], result["frames_without_regions"]) == (11, 1)
    assert result["distances"]["none_region"]["n_frames"] == 11
    assert result["distances"]["among_regions"]["n_frames"] == 3
    for row in rows:
        row["regions"] = []
    with pytest.raises(UserError, match="no frame of the test split has regions"):
        sensitivity(Scoring(random_run(), str(write_dataset(tmp_path / "e", {"test": rows}))))

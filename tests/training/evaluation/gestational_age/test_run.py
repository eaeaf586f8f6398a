from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from sono.manifests import masks
from sono.manifests.errors import UserError
from sono.manifests.filenames import evaluation_file
from sono.training.evaluation.gestational_age.run import estimate_age, middle_of_best
from sono.training.evaluation.scoring import Scoring

Rows = list[dict[str, Any]]


def ellipse(size: tuple[int, int], axes: tuple[int, int], angle: float = 0) -> masks.Mask:
    canvas = np.zeros(size, np.uint8)
    cv2.ellipse(canvas, (size[1] // 2, size[0] // 2), axes, angle, 0, 360, 255, -1)
    return canvas > 0


def test_the_estimate_is_the_middle_age_of_the_best() -> None:
    scores = np.array([[0.0, 0.9, 0.1, 0.8, 0.0, 0.7], [0.5, 0.4, 0.3, 0.2, 0.1, 0.0]])
    assert middle_of_best(scores, 3).tolist() == [3, 1]
    assert middle_of_best(scores, 1).tolist() == [1, 0]


def test_ages_are_compared_with_the_datasets_and_with_a_constant_answer(
    random_run: Callable[..., Path], make_rows: Callable[..., Rows], write_dataset: Callable[..., Path], tmp_path: Path
) -> None:
    rows = make_rows(16, seed=71)
    for number, row in enumerate(rows):
        row["ga_days"] = None if number == 0 else 140 + 7 * number
    run = random_run()
    result = estimate_age(Scoring(run, str(write_dataset(tmp_path / "dataset", {"test": rows})), resamples=20))
    assert result == json.loads(evaluation_file(run, result["dataset"], "test-ga-weeks").read_text())
    assert (result["n_frames"], result["frames_left_out"]) == (15, 1)
    error = result["mean_absolute_error_days"]
    true = np.arange(1, 16) * 7.0
    assert error["always_the_median"] == pytest.approx(np.abs(true - np.median(true)).mean())
    assert error["low"] <= error["value"] <= error["high"]
    assert result["within_95"] is None
    assert (len(result["prompts"]), result["wording"], result["notes"]) == (1, "the checkpoint", {})


@pytest.mark.slow
def test_heads_with_a_pixel_size_are_scored_by_their_circumference(
    random_run: Callable[..., Path], make_rows: Callable[..., Rows], write_dataset: Callable[..., Path], tmp_path: Path
) -> None:
    """Heads of 173 mm, 20 weeks; one is larger than any that is scored."""
    rows = make_rows(12, seed=72)
    for number, row in enumerate(rows):
        height, width = row["regions"][0]["mask"]["size"]
        mask = ellipse((height, width), (30, 30))
        row["ga_days"] = None
        head = {**row["regions"][0], "structure": "head"}
        other = {**head, "mask": masks.encode(ellipse((height, width), (9, 9))), "source": "sam"}  # no truth
        row["regions"] = [{**head, "mask": masks.encode(mask)}, other]
        row["pixel_mm"] = [173 / (2 * np.pi * 30.5)] * 2 if number else [5.0, 5.0]
    run, dataset = random_run(), str(write_dataset(tmp_path / "dataset", {"test": rows}))
    result = estimate_age(
        Scoring(run, dataset, resamples=20), step="days", planes={"brain": ("transthalamic", "femur")}
    )
    assert result["n_frames"] == 6  # of two of four planes
    assert list(result["notes"]) == ["wording_unread"]  # captions have no days
    within = result["within_95"]
    assert within["n"] == 5
    assert result["mean_absolute_error_days"] is None
    assert within["always_the_middle"] == 0  # 26 weeks
    assert "{mm} mm/pixel" in result["prompts"][0]


@pytest.mark.parametrize(("answer", "share"), [(140, 1.0), (200, 0.0)])
def test_an_estimate_counts_if_the_head_is_as_large_as_heads_of_that_age(
    answer: int,
    share: float,
    random_run: Callable[..., Path],
    make_rows: Callable[..., Rows],
    write_dataset: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows = make_rows(8, seed=73)
    for row in rows:
        height, width = row["regions"][0]["mask"]["size"]
        mask = ellipse((height, width), (30, 30))
        row["regions"] = [{**row["regions"][0], "structure": "head", "mask": masks.encode(mask)}]
        row |= {"pixel_mm": [173 / (2 * np.pi * 30.5)] * 2, "ga_days": 140}
    monkeypatch.setattr("sono.training.evaluation.gestational_age.run._estimate", lambda *_: np.full(8, float(answer)))
    result = estimate_age(Scoring(random_run(), str(write_dataset(tmp_path / "dataset", {"test": rows})), resamples=20))
    assert result["within_95"]["value"] == share
    assert result["mean_absolute_error_days"]["value"] == answer - 140


def test_errors_name_what_is_missing(
    random_run: Callable[..., Path], make_rows: Callable[..., Rows], write_dataset: Callable[..., Path], tmp_path: Path
) -> None:
    rows = make_rows(8, seed=74)
    rows[1]["pixel_mm"] = None
    run = random_run()
    with pytest.raises(UserError, match=r"1 frames have no pixel size, but sentences with days state it.*--step weeks"):
        estimate_age(Scoring(run, str(write_dataset(tmp_path / "a", {"test": rows}))), step="days")
    for row in rows:
        row["ga_days"] = None
    with pytest.raises(UserError, match="no frame of the test split has a plane, and an age or an outlined head"):
        estimate_age(Scoring(run, str(write_dataset(tmp_path / "b", {"test": rows}))))

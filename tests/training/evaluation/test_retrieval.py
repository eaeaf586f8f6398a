from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sono.manifests.errors import UserError
from sono.manifests.filenames import evaluation_file
from sono.training.evaluation.retrieval import rank_of, retrieve
from sono.training.evaluation.scoring import Scoring


def test_texts_with_an_equal_score_rank_before_the_own_text() -> None:
    texts = torch.eye(4)
    queries = torch.tensor([[0.1, 0.9, 0.5, 0.0], [1.0, 1.0, 1.0, 1.0], [0.3, 0.2, 0.1, 0.0]])
    assert rank_of(queries, texts, torch.tensor([2, 0, 0])).tolist() == [2, 4, 1]


def test_a_trained_model_finds_captions_and_knows_regions_by_their_masks(learned: Path, shapes: Path) -> None:
    result = retrieve(Scoring(learned, str(shapes), resamples=50))
    assert result == json.loads(evaluation_file(learned, result["dataset"], "test-retrieve").read_text())
    images, regions = result["image_to_text"], result["region_to_text"]
    assert (images["n_queries"], regions["n_queries"], result["n_patients"]) == (80, 160, 20)
    of = [(found["recall1"]["n"], found["recall1"]["n_patients"]) for found in (images["none"], regions["region"])]
    assert of == [(80, 20), (160, 20)]
    assert images["n_captions"] == 16  # four planes at four ages: equal captions are one
    assert regions["n_captions"] == 32
    assert images["chance"]["recall1"] == pytest.approx(1 / 16)
    assert images["none"]["recall5"]["low"] > 1.5 * images["chance"]["recall5"]
    assert regions["region"]["recall5"]["low"] > 1.5 * regions["chance"]["recall5"]
    gain = regions["region_minus_none"]["recall5"]
    assert gain["value"] == pytest.approx(regions["region"]["recall5"]["value"] - regions["none"]["recall5"]["value"])
    for found in (images["none"], regions["region"], regions["none"]):
        values = [found[f"recall{k}"]["value"] for k in (1, 5, 10)]
        assert values == sorted(values)


@pytest.mark.slow
def test_equal_captions_are_one_answer_and_a_constant_model_finds_nothing(
    random_run: Callable[..., Path],
    make_rows: Callable[..., Any],
    write_dataset: Callable[..., Path],
    tmp_path: Path,
) -> None:
    rows = make_rows(16, seed=41)
    for row in rows:
        row["caption"] = "The same for all."
    dataset = write_dataset(tmp_path / "dataset", {"test": rows})

    def deaf(model: Any) -> None:
        model.clip.text_projection.zero_()

    result = retrieve(Scoring(random_run(), str(dataset), resamples=10))
    same = result["image_to_text"]
    assert (same["n_captions"], same["none"]["recall1"], same["none"]["recall10"]) == (1, None, None)  # always right
    assert result["notes"] == {
        "wording_unread": "16 of 48 captions are worded unlike any that the model was trained on."
    }
    nothing = retrieve(Scoring(random_run(0, deaf), str(dataset), resamples=10))["region_to_text"]
    assert nothing["n_captions"] > 10
    assert nothing["region"]["recall10"]["value"] == 0


def test_every_region_is_a_query_with_its_own_mask_and_patient(
    random_run: Callable[..., Path],
    make_rows: Callable[..., Any],
    write_dataset: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With frames without regions and regions without captions in between, nothing may shift."""
    rows = make_rows(12, seed=42)
    rows[2]["regions"] = []
    rows[5]["regions"][0]["caption"] = None
    rows[7]["caption"] = None
    dataset = write_dataset(tmp_path / "dataset", {"test": rows})
    seen: list[Any] = []
    recalls = "sono.training.evaluation.retrieval._recalls"
    monkeypatch.setattr(recalls, lambda _, queries, bootstrap: seen.append((queries, bootstrap.patients_N)))
    result = retrieve(Scoring(random_run(), str(dataset), resamples=10))
    assert (result["n_frames"], result["frames_without_caption"], result["frames_without_regions"]) == (11, 1, 1)
    kept = [row for row in rows if row["caption"]]
    (images, patients), (regions, _) = seen
    assert [kept[owner]["caption"] for owner in images.owners] == list(images.captions)
    wanted = [(row["patient_key"], region["caption"]) for row in kept for region in row["regions"] if region["caption"]]
    keys = np.unique([row["patient_key"] for row in kept])
    assert [(keys[patients[owner]], c) for owner, c in zip(regions.owners, regions.captions, strict=True)] == wanted
    assert len(regions.features["region"]) == len(regions.features["none"]) == len(wanted) == 19


@pytest.mark.slow
def test_the_error_quotes_a_caption_that_is_too_long(
    random_run: Callable[..., Path], make_rows: Callable[..., Any], write_dataset: Callable[..., Path], tmp_path: Path
) -> None:
    rows = make_rows(8, seed=43)
    rows[3]["caption"] = "long " * 80
    dataset = write_dataset(tmp_path / "dataset", {"test": rows})
    with pytest.raises(UserError, match=r"a sentence has 82 tokens, but the text tower reads 77.*sono-curate caption"):
        retrieve(Scoring(random_run(), str(dataset)))

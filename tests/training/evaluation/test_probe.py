from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sono.manifests.errors import UserError
from sono.manifests.filenames import evaluation_file
from sono.training.arrays import Integers
from sono.training.data.dataset import open_split, read_description
from sono.training.evaluation.probe import Embedded, LinearProbe, choose_probe, probe
from sono.training.evaluation.scoring import Scoring
from sono.training.evaluation.selection import Selection, each_plane
from sono.training.features.encoder import Encoder
from sono.training.features.views import FrameViews

Rows = list[dict[str, Any]]


def embedded(features_ND: np.ndarray[Any, np.dtype[np.float64]], truth_N: Integers) -> Embedded:
    nobody = np.zeros(len(truth_N), dtype=np.int64)
    selection = Selection(("a", "b", "c"), nobody, truth_N, nobody, None, None, 0, {}, False, 0)
    return Embedded(features_ND, selection)


@pytest.mark.slow
def test_the_probe_learns_planes_and_writes_its_result(random_run: Callable[..., Path], three_splits: Path) -> None:
    run = random_run()
    result = probe(Scoring(run, str(three_splits), resamples=50, notice=pytest.fail))
    assert result == json.loads(evaluation_file(run, result["dataset"], "test-probe-none").read_text())
    assert (result["n_frames"], result["n_patients"], result["fitted_on"]["n_frames"]) == (32, 8, 48)
    assert result["mean_per_class"]["value"] > 0.5  # of four planes, on random features
    assert sum(map(sum, result["confusion"]["counts"])) == 32
    for name in ("mean_per_class", "accuracy", "f1"):
        assert result[name]["low"] <= result[name]["value"] <= result[name]["high"]


def test_the_probe_learns_a_line_and_cannot_learn_exclusive_or() -> None:
    """A hidden layer could, and the probe would not be linear."""
    random = np.random.default_rng(0)
    points = random.uniform(-1, 1, (400, 2))
    line = (points @ [1.0, -2.0] > 0).astype(np.int64)
    either = ((points[:, 0] > 0) != (points[:, 1] > 0)).astype(np.int64)
    for truth, low, high in ((line, 0.95, 1.0), (either, 0.3, 0.75)):
        fitted, _ = choose_probe(embedded(points[:200], truth[:200]), embedded(points[200:], truth[200:]), pytest.fail)
        assert low <= (fitted.answer(points[200:]) == truth[200:]).mean() <= high
        assert fitted.weight_KD.shape == (2, 2)
        assert fitted.bias_K.shape == (2,)


@pytest.mark.parametrize("classes", [2, 3])
def test_answers_equal_those_of_the_fitted_regression(classes: int) -> None:
    from sklearn.linear_model import LogisticRegression

    random = np.random.default_rng(classes)
    features, truth = random.normal(3, 2, (120, 5)), random.integers(0, classes, 120)
    scaled = (features - features.mean(axis=0)) / features.std(axis=0)
    expected = LogisticRegression(C=0.3, max_iter=1000).fit(scaled, truth).predict(scaled)
    assert np.array_equal(LinearProbe.fit(features, truth, 0.3)[0].answer(features), expected)


def test_the_validation_split_chooses_the_strength_and_ties_go_to_the_strongest_penalty() -> None:
    random = np.random.default_rng(1)
    truth = np.arange(60) % 2
    features = np.concatenate([truth[:, None] * 0.4 + random.normal(0, 0.3, (60, 1)), random.normal(0, 1, (60, 80))], 1)
    train = embedded(features[:30], truth[:30])
    for validation in (embedded(features[30:], truth[30:]), embedded(features[30:], 1 - truth[30:])):
        fitted, trials = choose_probe(train, validation, pytest.fail, strengths=(1e-4, 1e-2, 1.0, 100.0))
        best = max(trial["accuracy"] for trial in trials)
        assert fitted.strength == next(trial["C"] for trial in trials if trial["accuracy"] == best)
    assert trials[0]["C"] == 1e-4


@pytest.mark.slow
def test_labels_of_the_test_split_change_only_the_score(
    random_run: Callable[..., Path], make_rows: Callable[..., Rows], write_dataset: Callable[..., Path], tmp_path: Path
) -> None:
    splits = {"train": make_rows(32, seed=51), "validation": make_rows(24, seed=52), "test": make_rows(24, seed=53)}
    wrong = [{**row, "plane": (row["plane"] + 1) % 4} for row in splits["test"]]
    other = [{**row, "plane": (row["plane"] + 1) % 4} for row in splits["validation"]]
    run, results = random_run(), []
    for name, changed in (("true", {}), ("wrong", {"test": wrong}), ("other", {"validation": other})):
        dataset = write_dataset(tmp_path / name, {**splits, **changed})
        results.append(probe(Scoring(run, str(dataset), resamples=10, notice=pytest.fail)))
    assert results[0]["chosen"] == results[1]["chosen"] != results[2]["chosen"]
    assert results[0]["mean_per_class"] != results[1]["mean_per_class"]


def test_a_frame_has_the_same_features_in_every_split_and_none_of_its_edges_is_cropped(
    random_run: Callable[..., Path], make_rows: Callable[..., Rows], write_dataset: Callable[..., Path], tmp_path: Path
) -> None:
    """Padding one split and cropping another to its centre would lose the sides of wide images."""
    wide = [row for row in make_rows(24, seed=54) if row["regions"][0]["mask"]["size"] == [80, 120]]
    edged = []
    for row in wide:
        import io

        pixels = np.array(Image.open(io.BytesIO(row["image"]["bytes"])))
        pixels[:, :10] = 255  # of 120 columns a centre crop keeps 80
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG")
        edged.append({**row, "image": {"bytes": buffer.getvalue(), "path": None}})
    splits = {"train": wide, "validation": edged, "test": wide}
    description = read_description(str(write_dataset(tmp_path / "dataset", splits)))
    encoder = Encoder.load(random_run(), pytest.fail)
    features = {}
    for split in splits:
        frames = open_split(description, split)
        views = FrameViews(frames, np.arange(len(wide)), ("none",), encoder.transform)
        features[split] = np.concatenate(
            [encoder.frame_features(batch, "none").numpy() for batch in encoder.batches("x", views, 0, lambda _: None)]
        )
        assert set(each_plane(frames)) == set(frames.planes)
    assert np.array_equal(features["train"], features["test"])
    assert np.abs(features["train"] - features["validation"]).max(axis=1).min() > 1e-4


def test_wrong_input_is_an_error(
    random_run: Callable[..., Path],
    make_rows: Callable[..., Rows],
    write_dataset: Callable[..., Path],
    shapes: Path,
    tmp_path: Path,
) -> None:
    run = random_run()
    with pytest.raises(UserError, match="the validation split is empty; splits with frames: train, test"):
        probe(Scoring(run, str(shapes)))
    with pytest.raises(
        UserError, match="the validation split is used to train or select the probe; score the test split"
    ):
        probe(Scoring(run, str(shapes), split="validation"))
    with pytest.raises(UserError, match="no checkpoint found"):
        probe(Scoring(tmp_path, str(shapes)))
    rows = [{**row, "plane": 0} for row in make_rows(8, seed=55)]
    dataset = write_dataset(tmp_path / "one", {"train": rows, "validation": rows, "test": rows})
    with pytest.raises(UserError, match="the train split has frames of only one class"):
        probe(Scoring(run, str(dataset)))

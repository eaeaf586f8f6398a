from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sono.manifests import masks, vocabulary
from sono.manifests.errors import UserError
from sono.manifests.filenames import evaluation_file
from sono.training.data.dataset import decode_image, decode_mask, read_description
from sono.training.evaluation.scoring import Scoring
from sono.training.evaluation.suites import SUITES, run_suite
from sono.training.evaluation.zero_shot.run import evaluate
from sono.training.features.encoder import Encoder
from sono.training.features.views import Views
from sono.training.model.transforms import CropToSquare

Rows = list[dict[str, Any]]

ADDED = ("fetal_brain", "fetal_thorax", "maternal_cervix", "other")


@pytest.fixture(scope="module")
def public(
    make_rows: Callable[..., Rows], write_dataset: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A dataset with all the planes that suites name: heads outlined, pixel sizes known."""
    named = {plane: entry.name for plane, entry in vocabulary.load().planes.items()}
    planes = {**named, **{plane: plane.replace("_", " ") for plane in ADDED}}
    shown = sorted({plane for suite in SUITES.values() for of in suite.classes.values() for plane in of})
    assert set(shown) <= set(planes)
    splits = {}
    for seed, split in enumerate(("train", "validation", "test"), start=81):
        rows = make_rows(2 * len(shown), seed=seed, patients=split)
        for number, row in enumerate(rows):
            row["plane"] = list(planes).index(shown[number % len(shown)])
            height, width = row["regions"][0]["mask"]["size"]
            y, x = np.ogrid[:height, :width]
            head = (x - width // 2) ** 2 + (y - height // 2) ** 2 < 900
            row["regions"][0] |= {"structure": "head", "mask": masks.encode(head)}
            row["pixel_mm"] = [1.0, 1.0]
        splits[split] = rows
    return write_dataset(tmp_path_factory.mktemp("public") / "dataset", splits, planes=planes)


@pytest.mark.parametrize("name", SUITES)
@pytest.mark.slow
def test_a_suite_runs_its_protocol_and_returns_its_figures(
    name: str, random_run: Callable[..., Path], public: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    suite = SUITES[name]
    if suite.command == "segment":
        monkeypatch.setitem(suite.options, "epochs", 1)  # type: ignore[arg-type]
    run = random_run()
    result = run_suite(name, Scoring(run, str(public), resamples=10, notice=lambda _: None))
    assert result == json.loads(evaluation_file(run, result["dataset"], f"suite-{name}").read_text())
    assert list(result["suite"]["figures"]) == list(suite.figures)
    for share in result["suite"]["figures"].values():
        assert 0 <= share["low"] <= share["value"] + 1e-12 <= share["high"] + 1e-12 <= 1 + 1e-12
        assert math.isfinite(share["value"])
    assert result["split"] == suite.split
    for scored in (result, *result.get("masks", {}).values()):
        if "confusion" in scored and suite.classes:
            assert scored["confusion"]["true_by_predicted"] == list(suite.classes)


@pytest.mark.slow
def test_a_suite_is_the_command_with_its_classes(random_run: Callable[..., Path], public: Path) -> None:
    run = random_run()
    suite = run_suite("fetalclip-brain", Scoring(run, str(public), resamples=10))
    by_hand = evaluate(Scoring(run, str(public), resamples=10), classes=SUITES["fetalclip-brain"].classes)
    assert suite["masks"] == by_hand["masks"]
    assert suite["suite"]["figures"]["masks.none.f1"] == by_hand["masks"]["none"]["f1"]


def test_the_released_protocol_sees_and_names_planes_as_that_code_does(
    random_run: Callable[..., Path], make_rows: Callable[..., Rows], write_dataset: Callable[..., Path], tmp_path: Path
) -> None:
    """Frame by frame: cropped, one region drawn by position, one sentence per plane; no frame without regions."""
    rows = [row for row in make_rows(24, seed=5, patients="test") if row["plane"] != 2]
    rows[1]["regions"] = []
    rows[2]["regions"] *= 3  # of which one is drawn
    run, dataset = random_run(), write_dataset(tmp_path / "dataset", {"test": rows})
    result = run_suite("fetalp24-released", Scoring(run, str(dataset), resamples=10))
    scored = [row for row in rows if row["regions"]]
    encoder = Encoder.load(run, pytest.fail)
    names = read_description(str(dataset)).planes
    present = [number for number in range(len(names)) if number != 2]
    sentences = [f"A fetal ultrasound {list(names.values())[number]} view." for number in present]
    text_KD = encoder.sentences(sentences, "")
    crop = CropToSquare.like(encoder.transform)
    right: dict[str, dict[int, list[bool]]] = {mode: {number: [] for number in present} for mode in ("none", "region")}
    for position, row in enumerate(scored):
        image = decode_image(row)
        region = row["regions"][np.random.default_rng(2026 + position).integers(0, len(row["regions"]))]
        for mode, mask in (("none", crop.all_one()), ("region", crop.mask(decode_mask(row, region, image)))):
            views = Views(crop.image(image), {mode: mask[None]}, {})
            best = present[int((encoder.view_features([views], mode)[0] @ text_KD.T).argmax())]
            right[mode][row["plane"]].append(best == row["plane"])
    assert (result["n_frames"], result["planes"]) == (len(scored), 3)
    for mode, of_planes in right.items():
        expected = np.mean([np.mean(answers) for answers in of_planes.values()])
        assert result["masks"][mode]["top1"]["value"] == pytest.approx(expected)
        assert result["masks"][mode]["prompts"] == ["A fetal ultrasound {plane} view."]
    assert result["suite"]["differs"] == list(SUITES["fetalp24-released"].differs)


@pytest.mark.slow
def test_errors_name_a_class_without_planes_and_an_unknown_suite(
    random_run: Callable[..., Path], three_splits: Path
) -> None:
    with pytest.raises(UserError, match=r"the class 'heart' has no plane|the class 'cervix' has no plane"):
        run_suite("fetalclip-planes", Scoring(random_run(), str(three_splits)))
    with pytest.raises(
        UserError, match="unknown suite 'imagenet'; choose one of: fetalp24, fetalp24-released, fetalp6"
    ):
        run_suite("imagenet", Scoring(random_run(), str(three_splits)))
    with pytest.raises(UserError, match=r"unknown suite 'fetalclip-brian'; did you mean 'fetalclip-brain'\?"):
        run_suite("fetalclip-brian", Scoring(random_run(), str(three_splits)))

"""One run on the datasets of two hospitals: what it draws, what it says about itself, and how it resumes."""

from __future__ import annotations

import csv
import json
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from sono.manifests.errors import UserError
from sono.training import recipes
from sono.training.data.dataset import decode_image, open_split, read_description
from sono.training.data.joined import JoinedFrames
from sono.training.data.pool import make_pool, with_cache
from sono.training.data.samples import batches_from
from sono.training.data.together import open_together, read_descriptions
from sono.training.evaluation.scoring import Scoring
from sono.training.evaluation.zero_shot.run import evaluate
from sono.training.export.export import export
from sono.training.model.tokenizer import CaptionTokenizer
from sono.training.model.transforms import PadToSquare
from sono.training.pretraining import checkpoints
from sono.training.pretraining.run import pretrain
from sono.training.pretraining.step_log import TIMINGS
from sono.training.step.losses import Captions, contrastive_loss

pytestmark = pytest.mark.slow

SETTINGS = [
    "train.batch_size=8", "train.steps=6", "train.warmup_steps=2", "checkpoint.every=2", "log.every=1",
    "train.threads=1", "checkpoint.keep=9", "log.validation=2", "data.weights=north=1,south=3",
]  # fmt: skip
ALONE = [*SETTINGS[:-2]]


@pytest.fixture(scope="module")
def hospitals(
    make_rows: Callable, write_dataset: Callable, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """40 training frames in the north and 24 in the south, 20 and 8 to validate, and 8 each to test with.

    Keys are the hospital's own.
    """
    folder = tmp_path_factory.mktemp("hospitals")
    return {
        name: write_dataset(
            folder / name,
            {
                "train": make_rows(count, seed=seed, patients=name),
                "validation": make_rows(validated, seed=seed + 10, patients=f"{name}-validation"),
                "test": make_rows(8, seed=seed + 1, patients=f"{name}-test"),
            },
            shards=1,
            pseudonyms=name,
        )
        for name, count, validated, seed in (("north", 40, 20, 51), ("south", 24, 8, 53))
    }


@pytest.fixture(scope="module")
def finished(hospitals: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "finished"
    train([hospitals["north"], hospitals["south"]], run)
    return run


def train(datasets: list[Path], run: Path, settings: list[str] = SETTINGS, **options: Any) -> list[str]:
    """Trains, and returns the notices."""
    notices: list[str] = []
    recipe = recipes.override(recipes.tiny(), settings)
    pretrain([str(dataset) for dataset in datasets], run, recipe, notice=notices.append, **options)
    return notices


def newest(run: Path) -> checkpoints.Checkpoint:
    found = checkpoints.latest(run, pytest.fail)
    assert found is not None
    return found


def log(run: Path) -> list[dict[str, str]]:
    with (run / "log.csv").open() as file:
        return [{**line, **dict.fromkeys(TIMINGS, "")} for line in csv.DictReader(file)]


def validation(run: Path) -> list[dict[str, str]]:
    with (run / "validation.csv").open() as file:
        return list(csv.DictReader(file))


def stop_at(finished: Path, step: int, run: Path) -> Path:
    """A copy of a run as it was after ``step``."""
    shutil.copytree(finished, run)
    for later in range(step + 1, 7):
        shutil.rmtree(checkpoints.step_folder(run, later), ignore_errors=True)
    return run


def assert_same_end(run: Path, other: Path) -> None:
    one, two = newest(run).read(""), newest(other).read("")
    assert one.keys() == two.keys()
    assert any(name.startswith("optimizer.") for name in one)
    for name, value in one.items():
        assert torch.equal(value, two[name]), name
    assert log(run) == log(other)


@pytest.mark.parametrize("cache", [False, True])
def test_the_drawn_samples_have_the_shares_and_the_pixels_of_their_datasets(
    cache: bool, hospitals: dict[str, Path], tmp_path: Path
) -> None:
    transform, tokenizer = PadToSquare(size=32), CaptionTokenizer(77)
    recipe = recipes.override(recipes.tiny(), [*SETTINGS, "data.global_fraction=1"])
    frames = open_together(read_descriptions([str(folder) for folder in hospitals.values()]))
    pool = make_pool(frames, tokenizer, transform, weights=recipe.data.weight_by_dataset)
    if cache:
        pool = with_cache(pool, transform, recipes.Data(cache=str(tmp_path)), lambda _: None)
        assert len(list(tmp_path.glob("*-train-32px-*"))) == 2  # each dataset has its own
    batches = list(batches_from(0, 24, pool, transform, tokenizer, recipe))  # 192 samples are three epochs of 64
    drawn = Counter(origin.dataset for batch in batches for origin in batch.origins)
    assert drawn == {"north": 48, "south": 144}
    alone = {
        name: make_pool(open_together(read_descriptions([str(folder)])), tokenizer)
        for name, folder in hospitals.items()
    }
    expected = {
        (name, frame_id): (transform.image(decode_image(pool.frames.parts[0].row(row))), pool.pairs.caption_F[row])
        for name, pool in alone.items()
        for row, frame_id in enumerate(pool.frames.column("frame_id").to_pylist())
    }
    for batch in batches[:6]:
        for origin, image, caption in zip(batch.origins, batch.images, batch.captions.tolist(), strict=True):
            image_CHW, own = expected[origin.dataset, origin.frame_id]
            assert (image.numpy() == image_CHW).all()
            text = pool.bank.texts[batch.caption_ids[caption]]
            assert text == alone[origin.dataset].bank.texts[own]


def test_a_checkpoint_names_every_dataset_with_its_frames_and_share(finished: Path, hospitals: dict[str, Path]) -> None:
    meta = newest(finished).meta
    found = {dataset["name"]: dataset for dataset in meta["datasets"]}
    for name, frames, share in (("north", 40, 0.25), ("south", 24, 0.75)):
        fingerprint = json.loads((hospitals[name] / "sono.json").read_text())["fingerprint"]
        expected = {"name": name, "fingerprint": fingerprint, "source": str(hospitals[name])}
        assert found[name] == {**expected, "frames": frames, "share": share}
    assert sorted(len(each["digests"]) for each in meta["trained_patients"]["sets"]) == [6, 10]
    assert {each["pseudonyms"] for each in meta["trained_patients"]["sets"]} == {"north", "south"}
    assert log(finished)[-1]["epoch"] == str(6 * 8 / 64)


def test_a_run_resumes_to_the_same_end_in_whatever_order_the_datasets_are_given(
    finished: Path, hospitals: dict[str, Path], tmp_path: Path
) -> None:
    run = stop_at(finished, 2, tmp_path / "run")
    notices = train([hospitals["south"], hospitals["north"]], run, [*SETTINGS, "data.workers=1"], resume=True)
    assert any("resuming from step-00000002" in notice for notice in notices)
    assert any("/south: 24 frames, 75.0% of the samples" in notice for notice in notices)
    assert any("patients of datasets with different keys cannot be compared" in notice for notice in notices)
    assert_same_end(run, finished)
    assert validation(run) == validation(finished)


def test_the_validation_loss_is_that_of_the_training_loss_by_dataset_and_over_all(
    finished: Path, hospitals: dict[str, Path]
) -> None:
    found = {(line["step"], line["dataset"].partition("-")[0]): line for line in validation(finished)}
    assert list(found) == [(step, name) for step in "246" for name in order_of(finished)]
    assert [found["6", name]["samples"] for name in ("north", "south", "all")] == ["16", "8", "24"]
    model, transform, meta = checkpoints.load_model(finished, pytest.fail)
    recipe = recipes.override(recipes.from_flat(meta["recipe"]), ["train.seed=0"])
    expected = {}
    for name, folder in hospitals.items():
        frames = JoinedFrames((open_split(read_description(str(folder)), "validation"),))
        pool = make_pool(frames, model.tokenizer, transform)
        losses = []
        for batch in batches_from(0, len(pool) // 8, pool, transform, model.tokenizer, recipe):
            with torch.no_grad():
                image_ND = model.encode_image(transform.normalise(batch.images, batch.masks))
                text_UD = model.encode_text(batch.tokens)
                captions = Captions.of(batch.captions, len(text_UD))
                t, b = model.clip.logit_scale, model.clip.logit_bias
                losses.append(float(contrastive_loss(image_ND, text_UD, captions, t, b, recipe.loss)))
        expected[name] = sum(losses) / len(losses)
        assert float(found["6", name]["loss"]) == pytest.approx(expected[name], rel=1e-5)
    mean = (2 * expected["north"] + expected["south"]) / 3
    assert float(found["6", "all"]["loss"]) == pytest.approx(mean, rel=1e-5)


def order_of(run: Path) -> list[str]:
    return [*(dataset["name"] for dataset in newest(run).meta["datasets"]), "all"]


def test_training_does_not_depend_on_validation(finished: Path, hospitals: dict[str, Path], tmp_path: Path) -> None:
    run = stop_at(finished, 4, tmp_path / "run")
    train(list(hospitals.values()), run, [*SETTINGS, "log.validation=0"], resume=True)
    assert_same_end(run, finished)


def test_a_run_stopped_while_it_validated_does_so_when_it_resumes(
    finished: Path, hospitals: dict[str, Path], tmp_path: Path
) -> None:
    run = stop_at(finished, 4, tmp_path / "run")
    lines = (run / "validation.csv").read_text().splitlines(keepends=True)
    (run / "validation.csv").write_text("".join(line for line in lines if not line.startswith(("4", "6"))))
    train(list(hospitals.values()), run, resume=True)
    assert validation(run) == validation(finished)


def test_a_validation_split_that_cannot_be_used_is_named(
    hospitals: dict[str, Path], tmp_path: Path, make_rows: Callable, write_dataset: Callable
) -> None:
    def write(name: str, patients: str, count: int) -> Path:
        splits = {"train": make_rows(16, seed=61), "validation": make_rows(count, seed=62, patients=patients)}
        return write_dataset(tmp_path / name, splits, pseudonyms=name)

    small, trained = write("small", "validation", 7), write("trained", "train", 12)
    settings = [*ALONE, "log.validation=2", "train.steps=3", "data.cache=none"]
    notices = train([hospitals["south"], small], tmp_path / "run", settings)
    assert f"{small}: 7 frames to validate on, less than a batch of 8, so it has no validation loss" in notices
    assert {line["dataset"].partition("-")[0] for line in validation(tmp_path / "run")} == {"south", "all"}
    with pytest.raises(UserError, match=r"log\.validation: no dataset has a validation split of at least a batch of 8"):
        train([small], tmp_path / "other", settings)
    with pytest.raises(UserError, match=r"trained on 3 of the 3 patients of the validation split; .*log\.validation=0"):
        train([trained], tmp_path / "other", settings)


def test_two_ranks_see_the_samples_of_one(
    finished: Path, hospitals: dict[str, Path], tmp_path: Path, start_ranks: Callable
) -> None:
    run = tmp_path / "run"
    """With parts of the model on each, validation included."""
    settings = [part for setting in [*SETTINGS, "train.strategy=fsdp"] for part in ("--set", setting)]
    ranks = start_ranks(2, "sono-train", "pretrain", *hospitals.values(), run, "--recipe", "tiny", *settings)
    assert ranks.end() == [0, 0], ranks.output()
    for name, folder in hospitals.items():
        assert f"Next: sono-train evaluate {run} {folder} --mask both\n" in ranks.output("out"), name
    for found, wanted in zip(log(run), log(finished), strict=True):  # a sample lost or repeated would show in the loss
        assert float(found["loss"]) == pytest.approx(float(wanted["loss"]), rel=1e-4), found["step"]
    assert len(validation(run)) == 9
    for found, wanted in zip(validation(run), validation(finished), strict=True):
        assert {**found, "loss": ""} == {**wanted, "loss": ""}
        assert float(found["loss"]) == pytest.approx(float(wanted["loss"]), rel=1e-4), found
    assert newest(run).read("").keys() == newest(finished).read("").keys()
    for name, value in newest(finished).read("model.").items():
        assert torch.allclose(newest(run).read("model.")[name], value, atol=1e-3), name


def test_resuming_with_another_set_of_datasets_or_other_weights_is_refused(
    finished: Path, hospitals: dict[str, Path], tmp_path: Path, make_rows: Callable, write_dataset: Callable
) -> None:
    run = shutil.copytree(finished, tmp_path / "run")
    north, south = hospitals.values()
    missing = r"this run began with other datasets: \S*south \(fingerprint [0-9a-f]{12}\) is missing; give"
    with pytest.raises(UserError, match=missing):
        train([north], run, resume=True)
    east = write_dataset(tmp_path / "east", {"train": make_rows(8, seed=57, patients="east")}, pseudonyms="east")
    with pytest.raises(UserError, match=r"other datasets: \S*east \(fingerprint [0-9a-f]{12}\) is new; give"):
        train([north, south, east], run, resume=True)
    with pytest.raises(UserError, match=r"data\.weights was north=1,south=3 when this run began, but is now None"):
        train([north, south], run, ALONE, resume=True)


@pytest.mark.parametrize("name", ["north", "south"])
def test_each_dataset_can_be_scored_and_its_training_patients_are_refused(
    name: str, finished: Path, hospitals: dict[str, Path], tmp_path: Path
) -> None:
    run = shutil.copytree(finished, tmp_path / "run")
    result = evaluate(Scoring(run, str(hospitals[name]), resamples=20, notice=pytest.fail))
    assert result["dataset"]["name"] == name
    assert sorted(dataset["name"] for dataset in result["training_datasets"]) == ["north", "south"]
    not_known = ["pseudonyms of patients under another key cannot be compared"]
    assert result["trained_on"] == {"patients": 0, "of": 2, "not_known": not_known}
    (page,) = (run / "evaluation").glob("*/*.html")
    for dataset in result["training_datasets"]:
        assert f"{dataset['name']} ({dataset['fingerprint'][:12]})" in page.read_text()
    count = {"north": 10, "south": 6}[name]
    with pytest.raises(UserError, match=f"the model was trained on {count} of the {count} patients of the train split"):
        evaluate(Scoring(run, str(hospitals[name]), split="train", notice=pytest.fail))


def test_an_exported_model_names_all_datasets_and_says_that_patients_may_count_twice(
    finished: Path, tmp_path: Path
) -> None:
    export(finished, tmp_path / "out", "open_clip", notice=pytest.fail)
    card = (tmp_path / "out/README.md").read_text()
    for dataset in newest(finished).meta["datasets"]:
        share = {"north": "40 frames, 25.0%", "south": "24 frames, 75.0%"}[dataset["name"]]
        line = f"- Dataset: {dataset['name']}, fingerprint `{dataset['fingerprint']}`, {share} of the samples\n"
        assert line in card
    assert "- Patients: 16, as keyed digests in `trained_patients.json`; the keys of their datasets differ" in card
    assert len(json.loads((tmp_path / "out/trained_patients.json").read_text())["sets"]) == 2


def test_an_error_in_the_data_names_the_dataset_and_the_frame(
    hospitals: dict[str, Path], tmp_path: Path, make_rows: Callable, write_dataset: Callable
) -> None:
    rows = make_rows(8, seed=59, patients="broken")
    rows[3]["image"]["bytes"] = rows[3]["image"]["bytes"][:100]
    broken = write_dataset(tmp_path / "broken", {"train": rows}, pseudonyms="broken")
    with pytest.raises(UserError, match=rf"/broken: frame {rows[3]['frame_id']}: the image cannot be decoded"):
        train([hospitals["north"], broken], tmp_path / "run", ALONE)


def test_a_run_of_the_format_before_resumes_scores_and_exports(hospitals: dict[str, Path], tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    train([hospitals["north"]], whole, ALONE)
    run = stop_at(whole, 2, tmp_path / "run")
    for folder in (run / "checkpoints").iterdir():
        make_older(folder)
    older = newest(run)
    assert (older.meta["step"], [one["name"] for one in older.meta["datasets"]]) == (2, ["north"])
    export(run, tmp_path / "out", "open_clip", notice=pytest.fail)
    assert "- Dataset: north, fingerprint" in (tmp_path / "out/README.md").read_text()
    evaluate(Scoring(shutil.copytree(run, tmp_path / "scored"), str(hospitals["north"]), resamples=20))
    train([hospitals["north"]], run, ALONE, resume=True)
    assert_same_end(run, whole)


def make_older(folder: Path) -> None:
    """Turns a checkpoint of one dataset into what the version before wrote."""
    meta = json.loads((folder / "meta.json").read_text())
    (dataset,) = meta.pop("datasets")
    del dataset["share"], meta["recipe"]["data.weights"]
    (folder / "meta.json").write_text(json.dumps({**meta, "dataset": dataset}))
    marker = json.loads((folder / "sono.json").read_text())
    marker["files"]["meta.json"] = checkpoints.sha256_of(folder / "meta.json")
    (folder / "sono.json").write_text(json.dumps({**marker, "format": 2}))

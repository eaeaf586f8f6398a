from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from sono.manifests.errors import UserError
from sono.training import recipes, released


@pytest.mark.parametrize("name", recipes.RECIPES)
def test_every_recipe_is_valid_and_survives_a_round_trip_through_json(name: str) -> None:
    recipe = recipes.find(name)
    assert recipes.from_flat(json.loads(json.dumps(recipes.flatten(recipe)))) == recipe


@pytest.mark.parametrize(
    ("name", "fix"),
    [
        ("tinny", "did you mean 'tiny'?"),
        ("vit-l-14", "did you mean 'vit-l-14-336'?"),
        ("resnet", f"choose one of: {', '.join(recipes.RECIPES)}"),
    ],
)
def test_a_misspelt_recipe_is_suggested(name: str, fix: str) -> None:
    with pytest.raises(UserError) as raised:
        recipes.find(name)
    assert str(raised.value) == f"recipe {name!r} not found; {fix}"


def test_the_paper_recipe_has_the_paper_values() -> None:
    recipe = recipes.find("vit-l-14-336")
    optimizer, train = recipe.optimizer, recipe.train
    assert (optimizer.lr_stem, optimizer.lr_vision, optimizer.lr_text, optimizer.weight_decay) == (
        1e-4,
        1e-6,
        0.0,
        0.02,
    )
    assert (train.warmup_steps, train.epochs, train.batch_size, train.precision) == (800, 10, 128, "bf16")
    assert recipe.data.global_fraction == 0.1
    assert (recipe.loss.temperature, recipe.loss.bias) == (10.0, -10.0)


def test_every_difference_from_the_released_code_has_a_reason_and_is_printed() -> None:
    ours = recipes.find("vit-l-14-336")
    differing = released.differing(ours, recipes.find(released.FOLLOWED))
    softmax = recipes.override(ours, ["loss.kind=softmax"])
    of_softmax = released.differing(softmax, recipes.find(released.SOFTMAX))
    assert set(released.REASONS) == {*differing, *of_softmax}
    notes = "\n".join(released.recipe_notes("vit-l-14-336"))
    for key, (value, theirs) in {**differing, "loss.label_smoothing": of_softmax["loss.label_smoothing"]}.items():
        assert f"{key}={recipes.text_of(value)}, there {recipes.text_of(theirs)}: {released.REASONS[key]}" in notes
    for said in (*released.NOT_FOLLOWED, *released.SUITE_DIFFERS, *released.SUITE_NOT_FOLLOWED):
        assert said in notes
    assert list(released.recipe_notes("tiny")) == []
    assert not any("follows:" in note for note in released.recipe_notes(released.FOLLOWED))


@pytest.mark.parametrize("said", [*released.REASONS, *released.NOT_FOLLOWED, *released.SUITE_DIFFERS])
def test_the_docs_list_every_difference_from_the_released_code(said: str) -> None:
    docs = Path(__file__).parents[2] / "docs"
    text = " ".join(" ".join((docs / name).read_text() for name in ("training.md", "evaluation.md")).split())
    assert said in text


def test_no_epoch_begins_after_the_given_samples() -> None:
    train = recipes.Train(batch_size=8, warmup_steps=1, epochs=10, samples=8_192_000)
    assert train.total_steps(1_440_000) == 6 * 1_440_000 // 8  # the sixth begins after 7.2 million
    assert train.total_steps(8_192_000) == 2 * 8_192_000 // 8
    assert train.total_steps(1000) == 10 * 1000 // 8


def test_printed_settings_can_be_given_back_with_their_comments() -> None:
    lines = [f"{key}={recipes.text_of(value)}" for key, value in recipes.flatten(recipes.vit_l_14_336()).items()]
    assert recipes.override(recipes.tiny(), [*lines, "# a comment"]) == recipes.vit_l_14_336()


def test_overrides_change_only_what_they_name() -> None:
    changed = recipes.override(
        recipes.tiny(),
        ["train.steps=7", "train.warmup_steps=2", "optimizer.lr_stem=3e-5", "train.compile=true", "model.weights=a.pt",
         "model.from_scratch=false", "loss.positives=diagonal", "train.epochs=1.5"],
    )  # fmt: skip
    assert (changed.train.steps, changed.train.epochs, changed.optimizer.lr_stem) == (7, 1.5, 3e-5)
    assert (changed.train.compile, changed.model.weights, changed.loss.positives) == (True, "a.pt", "diagonal")
    assert changed.optimizer == dataclasses.replace(recipes.tiny().optimizer, lr_stem=3e-5)
    assert recipes.override(changed, ["train.steps=none"]).train.steps is None


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("train.stpes=5", "unknown setting 'train.stpes'; did you mean 'train.steps'?"),
        ("xyz=5", "unknown setting 'xyz'; see `sono-train recipes NAME` for all keys"),
        ("lr_stem=1", "unknown setting 'lr_stem'; did you mean 'optimizer.lr_stem'?"),
        ("train.steps", "'train.steps' is not a setting; write it as --set section.key=value"),
        ("train.steps=many", "train.steps is 'many' but must be a whole number"),
        ("train.steps=1.5", "train.steps is '1.5' but must be a whole number"),
        ("train.steps=0", "train.steps is 0 but must be 1 or more"),
        ("train.batch_size=none", "train.batch_size is 'none' but must be a whole number"),
        ("optimizer.lr_stem=nan", "optimizer.lr_stem is 'nan' but must be a finite number"),
        ("optimizer.lr_stem=-1", "optimizer.lr_stem is -1.0 but must be 0 or more"),
        ("train.compile=1", "train.compile is '1' but must be true or false"),
        ("train.precision=fp16", "train.precision is 'fp16' but must be one of fp32, bf16"),
        ("data.global_fraction=1.1", "data.global_fraction is 1.1 but must be from 0 to 1"),
        ("model.weights=a.pt", "model.from_scratch is True but must be false if weights are given"),
        ("checkpoint.keep=0", "checkpoint.keep is 0 but must be 1 or more"),
        ("loss.label_smoothing=1", "loss.label_smoothing is 1.0 but must be from 0 to below 1"),
        ("loss.temperature=0", "loss.temperature is 0.0 but must be more than 0, or none"),
        ("optimizer.lr_depthwise=-1", "optimizer.lr_depthwise is -1.0 but must be 0 or more, or none"),
        ("train.samples=0", "train.samples is 0 but must be 1 or more, or none"),
        ("train.cosine_steps=40", "train.cosine_steps is 40 but must be more than train.warmup_steps, or none"),
    ],
)
def test_a_wrong_setting_is_named_with_its_remedy(setting: str, message: str) -> None:
    with pytest.raises(UserError) as raised:
        recipes.override(recipes.tiny(), [setting])
    assert message in str(raised.value)


def test_settings_are_checked_together() -> None:
    with pytest.raises(UserError, match="whole_mask is 'image' but must be square if augment"):
        recipes.override(recipes.tiny(), ["data.whole_mask=image", "augment.translate=0.1"])
    recipe = recipes.override(recipes.tiny(), ["train.steps=none", "train.epochs=2"])
    assert (recipe.train.steps, recipe.train.epochs) == (None, 2.0)
    with pytest.raises(UserError, match="training must end"):
        recipes.override(recipes.tiny(), ["train.steps=none"])


def test_training_ends_at_steps_or_epochs_whichever_comes_first() -> None:
    train = recipes.Train(batch_size=10, warmup_steps=1, steps=50, epochs=2)
    assert train.total_steps(1000) == 50
    assert train.total_steps(99) == 20  # 198 samples
    with pytest.raises(UserError, match=r"train\.warmup_steps: training ends after 1 steps, before a warm-up of 1"):
        train.total_steps(5)


def test_only_settings_that_cannot_change_the_result_may_differ_on_resume() -> None:
    free = ["log.every=3", "checkpoint.every=7", "checkpoint.keep=5", "data.workers=2"]
    assert recipes.first_difference(recipes.tiny(), recipes.override(recipes.tiny(), free)) is None
    other = recipes.override(recipes.tiny(), ["train.seed=1", "log.every=3"])
    assert recipes.first_difference(recipes.tiny(), other) == "train.seed"


def test_settings_of_another_version_are_refused() -> None:
    values = recipes.flatten(recipes.tiny()) | {"train.magic": 1}
    with pytest.raises(UserError, match=r"train\.magic: this setting is unknown or missing"):
        recipes.from_flat(values)


def test_a_seed_that_no_generator_takes_is_refused() -> None:
    with pytest.raises(UserError, match=r"train\.seed"):
        recipes.override(recipes.tiny(), [f"train.seed={2**63}"])

"""``sono-train plan``: what it predicts, and whether a run then agrees."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from sono.manifests.errors import UserError
from sono.training import recipes
from sono.training.planning.choices import Machine
from sono.training.planning.devices import Device, named_device
from sono.training.planning.plan import Data, RunPlan, make_plan, read_data
from sono.training.planning.report import lines, to_json
from sono.training.pretraining.run import pretrain

TINY = recipes.override(recipes.tiny(), ["train.batch_size=32", "train.warmup_steps=2", "train.steps=20"])


def small(gib: float) -> Device:
    """A device of 1 TFLOP/s in fp32."""
    return Device("small", "small", 2.0, 1.0, gib)


def plan(*settings: str, **machine: object) -> RunPlan:
    recipe = recipes.override(TINY, settings)
    return make_plan(recipe, Data(samples=640), Machine(**machine))  # type: ignore[arg-type]


@pytest.mark.slow
def test_steps_operations_and_time_follow_from_the_recipe() -> None:
    made = plan(device=small(8), ranks=2, utilisation=0.5)
    assert made.steps == 20
    assert made.total_flops == 20 * 32 * made.flops.executed_per_sample
    assert made.seconds == pytest.approx(made.total_flops / (2 * 0.5 * 1e12))
    assert plan("train.steps=none", "train.epochs=3").steps == 60


@pytest.mark.slow
def test_a_frozen_text_tower_reads_every_caption_once() -> None:
    recipe = recipes.override(TINY, ["optimizer.lr_text=0"])
    none, some = (make_plan(recipe, Data(samples=640, captions=count), Machine()) for count in (None, 50))
    assert some.total_flops - none.total_flops == 50 * some.flops.text.forward
    assert some.memory.bank == 50 * 128 * 4


@pytest.mark.slow
def test_a_recipe_that_fits_needs_no_other_choice() -> None:
    (asked,) = plan(device=small(8)).choices
    assert asked.fits


@pytest.mark.slow
def test_each_knob_that_makes_it_fit_is_listed_with_its_cost() -> None:
    asked = plan().memory.peak / 2**30
    made = plan(device=small(asked))  # a tenth too little: 90 % of the memory is used
    found = {choice.settings: choice for choice in made.choices}
    assert not found[()].fits
    recomputed = found[("model.grad_checkpointing=true",)]
    assert recomputed.fits
    assert 1.1 < recomputed.slower < 1.34  # one more forward at most
    cut = found[("train.accumulate=2",)]
    assert cut.fits
    assert cut.slower == pytest.approx(4 / 3, rel=0.02)


@pytest.mark.slow
def test_knobs_are_combined_if_none_alone_suffices() -> None:
    knobs = ["train.strategy=fsdp", "model.grad_checkpointing=true"]
    least = plan(*knobs, ranks=2).memory.peak / 2**30
    made = plan(device=small(1.02 * least / 0.9), ranks=2)
    assert [choice.settings for choice in made.choices if choice.fits] == [tuple(knobs)]


@pytest.mark.slow
def test_the_plan_says_if_nothing_fits() -> None:
    made = plan("train.batch_size=2", device=small(0.001))
    assert not any(choice.fits for choice in made.choices)
    assert made.choices[-1].settings == ("model.grad_checkpointing=true", "train.accumulate=2")
    assert "none of these fits" in "\n".join(lines(made))


@pytest.mark.slow
def test_every_figure_says_where_it_comes_from() -> None:
    text = list(lines(plan(device=small(8), ranks=2)))
    figures = [line for line in text if line.startswith("  ") and "fits" not in line and not line.startswith("  yes")]
    words = ("counted", "traced", "arithmetic", "assumed")
    assert len(figures) > 12
    assert [line for line in figures if line.strip() and not any(word in line[60:] for word in words)] == [
        line for line in figures if "at most (one caption" in line
    ]
    assert "Nothing here was measured" in text[-1]


def test_the_batch_must_be_shared_evenly() -> None:
    with pytest.raises(
        UserError, match=r"32 samples cannot be shared evenly among 3 ranks; use --set train.batch_size"
    ):
        plan(ranks=3)


@pytest.mark.parametrize(
    ("name", "fix"),
    [
        ("H1000", "did you mean 'H100'?"),
        ("rtx4090", "did you mean 'RTX 4090'?"),
        ("TPU v4", "choose one of: H200, H200 NVL, H100"),
    ],
)
def test_a_misspelt_device_is_suggested(name: str, fix: str) -> None:
    with pytest.raises(UserError) as raised:
        named_device(name)
    assert f"no data sheet is known for {name!r}; {fix}" in str(raised.value)


@pytest.mark.slow
def test_without_a_device_time_and_fit_are_unknown() -> None:
    made = plan()
    assert made.seconds is None
    assert made.choices[0].fits is None
    assert "unknown without --device" in "\n".join(lines(made))


@pytest.mark.slow
def test_json_holds_the_plan(shapes: Path) -> None:
    made = plan(device=small(8))
    values = json.loads(json.dumps(to_json(made)))
    assert values["recipe"]["train.batch_size"] == 32
    assert values["choices"][0]["memory"]["peak"] == made.memory.peak
    assert values["flops"]["per_sample"] == made.flops.per_sample
    assert values["basis"]["choices.memory.saved"] == "traced"


def test_samples_and_captions_are_counted_from_a_dataset(shapes: Path) -> None:
    data = read_data([str(shapes)], recipes.Data())
    assert data.samples == 240
    # four planes and four ages, a caption each for the image and for two structures
    assert data.captions == 4 * 4 * 3
    assert data.shards == sum(file.stat().st_size for file in shapes.glob("data/train-*.parquet"))


@pytest.mark.slow
def test_the_command_prints_the_plan(sono_train: Callable[..., subprocess.CompletedProcess[str]], shapes: Path) -> None:
    done = sono_train("plan", shapes, "--recipe", "tiny", "--device", "L4", "--set", "train.batch_size=32")
    assert done.returncode == 0, done.stderr
    assert "sono-tiny at 64 px, fp32, batch 32 = 1 x 32" in done.stdout
    assert "240 samples" in done.stdout
    assert "yes" in done.stdout.partition("fits into")[2]
    assert done.stdout.endswith(f"\nNext: sono-train pretrain {shapes} RUN --recipe tiny --set train.batch_size=32\n")
    both = sono_train("plan", shapes, "--samples", 5, "--recipe", "tiny")
    assert both.returncode == 2
    assert "either a dataset or --samples" in both.stderr


@pytest.mark.slow
def test_the_planned_checkpoint_size_matches_a_real_one(shapes: Path, tmp_path: Path) -> None:
    short = recipes.override(TINY, ["train.steps=2", "train.warmup_steps=1", "train.batch_size=4", "data.cache=none"])
    outcome = pretrain([str(shapes)], tmp_path / "run", short, notice=lambda _: None)
    real = sum(file.stat().st_size for file in outcome.checkpoint.rglob("*") if file.is_file())
    assert make_plan(short, Data(samples=240), Machine()).checkpoint == pytest.approx(real, rel=0.05)

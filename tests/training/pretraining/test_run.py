"""Training in this process: the log, what may stop it, and what a second run finds in the folder."""

from __future__ import annotations

import csv
import json
import math
import resource
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from sono.manifests.errors import UserError
from sono.training import recipes
from sono.training.data.dataset import open_split, read_description
from sono.training.data.mixture import mix
from sono.training.pretraining.checkpoints import Checkpoint
from sono.training.pretraining.failures import memory_errors
from sono.training.pretraining.loop import TrainingProgress
from sono.training.pretraining.run import Outcome, pretrain
from sono.training.pretraining.step_log import COLUMNS, TIMINGS
from sono.training.step.schedule import factor

# One thread: two would wait for each other when other processes compete for the processor.
SHORT = [
    "train.batch_size=8", "train.steps=6", "train.warmup_steps=2", "checkpoint.every=2", "log.every=1",
    "train.threads=1", "loss.kind=sigmoid", "loss.bias=-4",
]  # fmt: skip


def recipe(*settings: str) -> recipes.Recipe:
    return recipes.override(recipes.tiny(), [*SHORT, *settings])


def train(dataset: Path, run: Path, *settings: str, **options: Any) -> Outcome:
    return pretrain([str(dataset)], run, recipe(*settings), **{"notice": lambda _: None, **options})


def lines(run: Path) -> list[dict[str, str]]:
    with (run / "log.csv").open() as file:
        return list(csv.DictReader(file))


def load(run: Path, step: int) -> Checkpoint:
    folder = run / f"checkpoints/step-{step:08d}"
    return Checkpoint(folder, json.loads((folder / "meta.json").read_text()))


def model(run: Path, step: int) -> dict[str, torch.Tensor]:
    return load(run, step).read("model.")


@pytest.fixture(scope="module")
def finished(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "finished"
    train(shapes, run, "checkpoint.keep=9")
    return run


@pytest.mark.slow
def test_the_settings_of_the_released_code_reach_the_run(shapes: Path, tmp_path: Path) -> None:
    """Its recipe on a small model: rates by group, a cosine that climbs again, a frozen text tower."""
    released = recipes.flatten(recipes.find("vit-l-14-336-released"))
    small = {"model.backbone", "model.from_scratch", "train.precision", "train.compile", "train.deterministic"}
    settings = [f"{key}={recipes.text_of(value)}" for key, value in released.items() if key not in small]
    settings += [*SHORT[:-2], "train.cosine_steps=4", "train.steps=7", "checkpoint.keep=9"]
    settings += ["data.workers=0", "data.cache=none"]
    run = tmp_path / "run"
    train(shapes, run, *settings)
    expected = [factor(step, warmup_steps=2, total_steps=7, cosine_steps=4) for step in range(7)]
    assert expected[4] == pytest.approx(0)
    assert expected[6] == pytest.approx(1)
    for group, rate in {"stem": 1e-4, "depthwise": 1e-6, "vision": 1e-6, "logit": 1e-6, "text": 0}.items():
        found = [float(line[f"lr_{group}"]) for line in lines(run)]
        assert found == pytest.approx([rate * share for share in expected], abs=1e-12), group
    before, after = (load(run, step).read("model.") for step in (4, 7))
    moved = {name for name, tensor in after.items() if not torch.equal(tensor, before[name])}
    assert "visual.conv1.conv_mask.weight" in moved
    assert not any(name.startswith(("token_embedding", "transformer")) for name in moved)


@pytest.mark.slow
def test_a_run_writes_a_log_its_recipe_and_checkpoints(finished: Path) -> None:
    log = lines(finished)
    assert tuple(log[0]) == COLUMNS
    assert [int(line["step"]) for line in log] == [1, 2, 3, 4, 5, 6]
    expected = [1e-3 * factor(step, warmup_steps=2, total_steps=6) for step in range(6)]
    assert [float(line["lr_vision"]) for line in log] == pytest.approx(expected)
    assert float(log[0]["t"]) == pytest.approx(10.0)
    assert float(log[0]["b"]) == -4.0
    assert float(log[-1]["b"]) != -4.0
    assert float(log[-1]["epoch"]) == pytest.approx(6 * 8 / 240)
    assert all(float(line["samples_per_s"]) > 0 and float(line["memory_mib"]) > 100 for line in log)
    assert json.loads((finished / "recipe.json").read_text())["train.steps"] == 6
    assert sorted(path.name for path in (finished / "checkpoints").iterdir()) == [
        f"step-{step:08d}" for step in (0, 2, 4, 6)
    ]


@pytest.mark.slow
def test_the_softmax_loss_learns_its_temperature_and_has_no_bias(shapes: Path, tmp_path: Path) -> None:
    train(shapes, tmp_path / "run", "loss.kind=softmax")
    log = lines(tmp_path / "run")
    assert {float(line["b"]) for line in log} == {-4.0}
    assert float(log[-1]["t"]) != pytest.approx(10.0)
    assert float(log[0]["loss"]) < math.log(8) + 1  # of a batch of 8, before it has learned anything


def test_a_checkpoint_describes_itself(finished: Path, shapes: Path) -> None:
    content = load(finished, 6).meta
    assert content["step"] == 6
    assert (content["epoch"], content["position"]) == (0, 48)
    assert recipes.from_flat(content["recipe"]) == recipe("checkpoint.keep=9")
    assert content["transform"]["size"] == 64
    assert content["planes"]["four_chamber"] == "four-chamber"
    (patients,) = content["trained_patients"]["sets"]
    assert (len(patients["digests"]), content["trained_patients"]["not_known"]) == (60, [])
    fingerprint = json.loads((shapes / "sono.json").read_text())["fingerprint"]
    expected = {"name": "shapes", "fingerprint": fingerprint, "source": str(shapes), "frames": 240, "share": 1.0}
    assert content["datasets"] == [expected]


def test_every_group_of_parameters_is_trained(finished: Path) -> None:
    before, after = model(finished, 0), model(finished, 6)
    for name in ("visual.conv1.conv_mask.weight", "visual.conv1.dwconv.weight", "visual.proj", "text_projection",
                 "logit_scale", "logit_bias"):  # fmt: skip
        assert not torch.equal(before[name], after[name]), name


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.slow
def test_resuming_gives_the_same_weights_with_any_number_of_workers(
    workers: int, finished: Path, shapes: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    for step in (4, 6):
        shutil.rmtree(run / f"checkpoints/step-{step:08d}")
    with (run / "log.csv").open("a") as file:
        file.write("99")  # a truncated line
    train(shapes, run, "checkpoint.keep=9", f"data.workers={workers}", resume=True)
    assert_same_end(run, finished)
    assert load(run, 6).meta["trained_patients"] == load(finished, 6).meta["trained_patients"]


def assert_same_end(run: Path, other: Path, step: int = 6) -> None:
    """Weights, optimizer and log are equal to the bit, except for columns of time and memory."""
    one, two = load(run, step).read(""), load(other, step).read("")
    assert one.keys() == two.keys()
    assert any(name.startswith("optimizer.") for name in one)
    for name, value in one.items():
        assert torch.equal(value, two[name]), name
    assert timeless(run) == timeless(other)


def timeless(run: Path) -> list[dict[str, str]]:
    return [{**line, **dict.fromkeys(TIMINGS, "")} for line in lines(run)]


@pytest.mark.slow
def test_after_a_damaged_checkpoint_training_resumes_from_the_one_before(
    finished: Path, shapes: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    newest = run / "checkpoints/step-00000006/__0_0.distcp"
    newest.write_bytes(newest.read_bytes()[:1000])
    notices: list[str] = []
    train(shapes, run, "checkpoint.keep=9", resume=True, notice=notices.append)
    assert any("step-00000006: damaged" in notice for notice in notices)
    assert any("resuming from step-00000004, step 4 of 6" in notice for notice in notices)
    assert_same_end(run, finished)


def test_resuming_a_finished_run_changes_nothing(finished: Path, shapes: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    outcome = train(shapes, run, "checkpoint.keep=9", resume=True)
    assert (outcome.step, outcome.stopped_by) == (6, None)
    assert_same_end(run, finished)


@pytest.mark.slow
def test_resuming_a_missing_folder_starts_a_run(finished: Path, shapes: Path, tmp_path: Path) -> None:
    train(shapes, tmp_path / "run", "checkpoint.keep=9", resume=True)
    assert_same_end(tmp_path / "run", finished)


@pytest.mark.slow
def test_intervals_of_log_and_checkpoints_do_not_change_the_result(
    finished: Path, shapes: Path, tmp_path: Path
) -> None:
    train(shapes, tmp_path / "run", "checkpoint.every=5", "log.every=4")
    assert [line["step"] for line in lines(tmp_path / "run")] == ["4", "6"]
    one, two = model(tmp_path / "run", 6), model(finished, 6)
    assert all(torch.equal(value, two[name]) for name, value in one.items())


def test_a_folder_that_is_not_empty_is_refused(finished: Path, shapes: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="the folder is not empty; add --resume to continue its run"):
        train(shapes, finished)
    (tmp_path / "notes.txt").write_text("notes")
    with pytest.raises(UserError, match=r"'notes\.txt' does not belong to a training run"):
        train(shapes, tmp_path, resume=True)
    with pytest.raises(UserError, match="a finished dataset or checkpoint; name another place"):
        train(shapes, shapes / "run")
    assert not (shapes / "run").exists()
    with pytest.raises(UserError, match="not a folder"):
        train(shapes, tmp_path / "notes.txt")
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_resuming_with_other_settings_or_data_names_the_first_difference(
    finished: Path, shapes: Path, tmp_path: Path, make_rows: Callable, write_dataset: Callable
) -> None:
    run = shutil.copytree(finished, tmp_path / "run")
    with pytest.raises(UserError, match=r"optimizer\.lr_stem was 0\.001 when this run began, but is now 0\.5"):
        train(shapes, run, "optimizer.lr_stem=0.5", "train.seed=3", resume=True)
    other = write_dataset(tmp_path / "other", {"train": make_rows(16, seed=1)})
    with pytest.raises(
        UserError,
        match=r"this run began with other datasets: .*shapes \(fingerprint [0-9a-f]{12}\) is missing, .*other",
    ):
        train(other, run, resume=True)


@pytest.mark.slow
def test_training_stops_before_a_step_that_is_not_finite_and_names_its_batch(shapes: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    with pytest.raises(
        UserError, match=r"at step \d+ the loss is .*, so the step was not taken; .* is the last"
    ) as error:
        train(shapes, run, "optimizer.lr_vision=1e30", "train.steps=50", "checkpoint.every=1", "loss.kind=sigmoid")
    assert "\n" not in str(error.value)
    newest = max((run / "checkpoints").iterdir())
    assert newest.name in str(error.value)
    last = len(lines(run))
    assert last < 50
    assert all(value.isfinite().all() for value in model(run, last).values())
    report = json.loads((run / "nan-batch.json").read_text())
    assert report["step"] == last + 1
    description = read_description(str(shapes))
    frames = open_split(description, "train")
    drawn = mix([240]).order(0, 0)[last * 8 : (last + 1) * 8, 1]
    assert [sample["frame_id"] for sample in report["samples"]] == [frames.row(int(row))["frame_id"] for row in drawn]
    assert {sample["structure"] for sample in report["samples"]} <= {None, "spine", "umbilical vein"}
    assert {sample["dataset"] for sample in report["samples"]} == {"shapes"}


def test_an_error_in_the_data_ends_training_and_names_the_frame(
    shapes: Path, tmp_path: Path, make_rows: Callable, write_dataset: Callable
) -> None:
    rows = make_rows(48, seed=11)[::3]  # all of 120x80 px
    for row in rows:
        for region in row["regions"]:
            region["mask"]["size"] = region["mask"]["size"][::-1]
    folder = write_dataset(tmp_path / "dataset", {"train": rows})
    with pytest.raises(UserError, match=r"frame 000b[0-9a-f]{28}: the mask is 80x120 px but its image is 120x80 px"):
        train(folder, tmp_path / "run", "data.global_fraction=0.0")


def test_two_processes_cannot_write_to_the_same_run(finished: Path, shapes: Path, tmp_path: Path) -> None:
    from sono.manifests.store import exclusive

    run = shutil.copytree(finished, tmp_path / "run")
    with exclusive(run, str(run)), pytest.raises(UserError, match="another command is writing here"):
        train(shapes, run, resume=True)


@pytest.mark.slow
def test_bf16_the_diagonal_and_a_frozen_text_tower_work(shapes: Path, tmp_path: Path) -> None:
    settings = ["train.precision=bf16", "loss.positives=diagonal", "optimizer.lr_text=0", "train.steps=3"]
    train(shapes, tmp_path / "run", *settings)
    before, after = model(tmp_path / "run", 2), model(tmp_path / "run", 3)
    assert torch.equal(before["text_projection"], after["text_projection"])
    assert not torch.equal(before["visual.proj"], after["visual.proj"])


def test_torch_settings_are_restored(finished: Path, shapes: Path, tmp_path: Path) -> None:
    seen: list[int] = []
    torch.set_num_threads(2)
    try:
        train(shapes, tmp_path / "run", "train.steps=3", progress=lambda _: seen.append(torch.get_num_threads()))
        assert set(seen) == {1}
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)
    assert not torch.are_deterministic_algorithms_enabled()


@pytest.mark.slow
def test_after_a_full_disk_the_run_resumes_as_if_undisturbed(finished: Path, shapes: Path, tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    run = tmp_path / "run"

    def fill(progress: TrainingProgress) -> None:
        if progress.step == 3:  # larger files are an error of the system, as on a full disk
            while not (run / "checkpoints/step-00000002").exists():
                time.sleep(0.01)
            resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))

    try:
        with pytest.raises(
            UserError, match=r"step-00000004: the checkpoint cannot be written: File too large"
        ) as error:
            train(shapes, run, "checkpoint.keep=9", progress=fill)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "step-00000002 is the last good checkpoint" in str(error.value)
    assert "\n" not in str(error.value)
    train(shapes, run, "checkpoint.keep=9", resume=True)
    assert_same_end(run, finished)


def test_too_little_memory_is_a_one_line_error_that_names_the_settings(tmp_path: Path) -> None:
    advice = r"too little memory for a step; raise train\.accumulate \(now 1\) or set"
    with pytest.raises(UserError, match=advice) as error, memory_errors(tmp_path, recipe()):
        torch.empty(2**55)
    assert "model.grad_checkpointing=true" in str(error.value)
    assert "train.precision=bf16" in str(error.value)
    with pytest.raises(RuntimeError, match="size of tensor"), memory_errors(tmp_path, recipe()):  # another error
        torch.ones(2) + torch.ones(3)


def test_a_resume_may_change_micro_batches_and_gradient_checkpointing(
    finished: Path, shapes: Path, tmp_path: Path
) -> None:
    run = shutil.copytree(finished, tmp_path / "run")
    for step in (4, 6):
        shutil.rmtree(run / f"checkpoints/step-{step:08d}")
    train(shapes, run, "checkpoint.keep=9", "train.accumulate=3", "model.grad_checkpointing=true", resume=True)
    for one, two in zip(lines(run), lines(finished), strict=True):
        assert float(one["loss"]) == pytest.approx(float(two["loss"]), rel=1e-4)
        assert float(one["grad_norm"]) == pytest.approx(float(two["grad_norm"]), rel=1e-3)


def test_more_micro_batches_than_samples_are_refused(shapes: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"train\.accumulate is 9 but must be from 1 to train\.batch_size"):
        train(shapes, tmp_path / "run", "train.accumulate=9")

"""``sono-train`` as a user meets it: in a process of its own."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from sono.manifests import vocabulary
from sono.training import checkpoints, recipes
from sono.training.cli import main
from sono.training.evaluate import TEMPLATES, evaluate

Run = Callable[..., subprocess.CompletedProcess[str]]
SHORT = ["--recipe", "tiny", "--set", "train.steps=4", "--set", "train.warmup_steps=1", "--set", "train.batch_size=8"]


@pytest.fixture(scope="module")
def learned(sono_train: Run, shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that learns: 110 steps."""
    run = tmp_path_factory.mktemp("runs") / "learned"
    settings = ["train.steps=110", "train.batch_size=32", "train.warmup_steps=10", "train.threads=1"]
    done = sono_train(
        "pretrain", shapes, "--out", run, "--recipe", "tiny", *(part for s in settings for part in ("--set", s))
    )
    assert done.returncode == 0, done.stderr
    assert "240 frames" in done.stderr
    assert f"trained 110 steps: {run}/checkpoints/step-00000110.pt" in done.stdout
    return run


def test_what_was_trained_tells_the_planes_apart_better_than_chance(
    learned: Path, sono_train: Run, shapes: Path
) -> None:
    done = sono_train("evaluate", learned, shapes, "--mask", "both", "--json")
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout)
    assert results == json.loads((learned / "evaluation/test-both.json").read_text())
    for mask in ("none", "region"):
        result = results[mask]
        assert (result["mask"], result["split"]) == (mask, "test")
        assert (result["n_frames"], result["n_patients"], result["planes_present"]) == (80, 20, 4)
        assert result["top1"]["low"] <= result["top1"]["value"] <= result["top1"]["high"]
        assert sum(map(sum, result["confusion"]["counts"])) == 80
    assert results["none"]["top1"]["low"] > 0.4  # chance is 0.25
    assert results["region"]["top1"]["low"] > 0.4


def test_the_result_names_the_checkpoint_that_was_scored(learned: Path, shapes: Path) -> None:
    loaded = checkpoints.latest(learned, pytest.fail)
    assert loaded is not None
    result = evaluate(learned, str(shapes), split="train", resamples=10)["none"]
    assert result["checkpoint"] == {"file": "step-00000110.pt", "sha256": loaded.sha256, "step": 110}
    assert result["n_frames"] == 240
    assert (learned / "evaluation/train-none.json").is_file()


def test_figures_are_those_of_the_checkpoint_and_not_of_the_architecture(
    learned: Path, shapes: Path, tmp_path: Path
) -> None:
    loaded = checkpoints.latest(learned, pytest.fail)
    assert loaded is not None
    wiped = {name: value * 0 for name, value in loaded.content["model"].items()}
    checkpoints.save(tmp_path, {**loaded.content, "model": wiped}, keep=1)
    before, after = (evaluate(run, str(shapes), resamples=10)["none"]["top1"]["value"] for run in (learned, tmp_path))
    assert before > 0.4
    assert after <= 0.25 + 1e-9


def test_both_masks_are_scored_on_the_same_frames_and_the_others_are_counted(
    learned: Path, make_rows: Callable, write_dataset: Callable, tmp_path: Path
) -> None:
    rows = make_rows(16, seed=12)
    rows[0]["plane"] = None
    for number in (1, 2, 3):
        rows[number]["regions"] = []
    dataset = write_dataset(tmp_path / "dataset", {"test": rows})
    both = evaluate(learned, str(dataset), masks=("none", "region"), resamples=10)
    counts = ("frames", "n_frames", "frames_without_plane", "frames_without_regions")
    for result in both.values():
        assert [result[name] for name in counts] == ["with regions", 12, 1, 3]
    alone = evaluate(learned, str(dataset), masks=("none",), resamples=10)["none"]
    assert [alone[name] for name in counts] == ["all", 15, 1, 3]


def test_the_table_names_mask_checkpoint_split_and_numbers(learned: Path, sono_train: Run, shapes: Path) -> None:
    done = sono_train("evaluate", learned, shapes, "--mask", "region")
    assert done.returncode == 0, done.stderr
    head, columns, line, where = done.stdout.splitlines()
    assert head.startswith("step-00000110.pt (sha256 ")
    assert "on test: 80 frames of 20 patients, 4 of 4 planes; left out: 0 without a plane, 0 without regions" in head
    assert columns.split()[:2] == ["mask", "top-1"]
    assert line.startswith("region")
    assert where == f"written to {learned}/evaluation/test-region.json"


def test_no_prompt_names_a_structure() -> None:
    structures = [name for entry in vocabulary.load().structures.values() for name in (entry.name, *entry.synonyms)]
    for template in TEMPLATES:
        assert template.count("{plane}") == 1
        words = f" {template.lower().replace(',', '').rstrip('.')} "
        assert not [name for name in structures if f" {name.lower()} " in words]
    assert len(set(TEMPLATES)) == len(TEMPLATES) >= 2


def test_help_is_quick_and_imports_nothing_heavy() -> None:
    for command in ("", "pretrain", "evaluate", "recipes"):
        code = (
            "import sys; from sono.training.cli import app\n"
            f"try: app([*{command.split()!r}, '--help'], prog_name='sono-train')\n"
            "except SystemExit: pass\n"
            "heavy = {'torch', 'open_clip', 'datasets', 'pandas', 'cv2', 'pyarrow'} & set(sys.modules)\n"
            "sys.exit(f'imported {heavy}' if heavy else 0)"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert "Usage: sono-train" in done.stdout
        if command:
            assert f"Example: sono-train {command}" in " ".join(done.stdout.split())


def test_recipes_lists_them_and_one_in_full_as_settings_that_can_be_given_back(sono_train: Run) -> None:
    assert {line.split()[0] for line in sono_train("recipes").stdout.splitlines()[:2]} == {"tiny", "vit-l-14-336"}
    full = sono_train("recipes", "--recipe", "vit-l-14-336").stdout
    assert "train.warmup_steps=800\n" in full
    assert "train.deterministic=false\n" in full
    settings = [line for line in full.splitlines() if not line.endswith("=")]
    assert recipes.override(recipes.tiny(), settings) == recipes.vit_l_14_336()


def wrong_input(shapes: Path, folder: Path) -> dict[str, list[object]]:
    """Command lines that must fail, by what they must say."""
    (folder / "empty").mkdir()
    (folder / "unfinished/data").mkdir(parents=True)
    out = ["--out", folder / "run"]
    paper = ["--recipe", "vit-l-14-336"]
    return {
        "there is no such dataset folder": ["pretrain", folder / "nowhere", *out, *SHORT],
        "empty: not finished, or no dataset: it has no sono.json": ["pretrain", folder / "empty", *out, *SHORT],
        "unfinished: not finished, or no dataset": ["pretrain", folder / "unfinished", *out, *SHORT],
        "there is no recipe 'small'; choose one of: tiny,": ["pretrain", shapes, *out, "--recipe", "small"],
        "did you mean train.steps?": ["pretrain", shapes, *out, *SHORT, "--set", "train.step=1"],
        "starts from pretrained weights and none are given": ["pretrain", shapes, *out, *paper],
        "neither a file nor a tag": ["pretrain", shapes, *out, *paper, "--weights", folder / "missing.pt"],
        "the folder is not empty": ["pretrain", shapes, "--out", shapes, *SHORT],
        "empty: there is no checkpoint": ["evaluate", folder / "empty", shapes],
        "nowhere: there is no checkpoint": ["evaluate", folder / "nowhere", shapes],
        "there is no recipe 'none'": ["recipes", "--recipe", "none"],
    }


def test_wrong_input_is_one_line_and_exit_code_1(
    shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    handler = signal.getsignal(signal.SIGINT)
    for message, arguments in wrong_input(shapes, tmp_path).items():
        monkeypatch.setattr(sys, "argv", ["sono-train", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        output, errors = capfd.readouterr()
        assert ended.value.code == 1, errors
        assert output == ""
        assert errors.startswith("sono-train: ")
        assert errors.count("\n") == 1, errors
        assert message in errors
    assert not (tmp_path / "run/checkpoints").exists()
    signal.signal(signal.SIGINT, handler)


def test_an_empty_split_is_one_line_where_it_is_asked_for(learned: Path, sono_train: Run, shapes: Path) -> None:
    done = sono_train("evaluate", learned, shapes, "--split", "validation")
    assert done.returncode == 1
    assert done.stderr == (f"sono-train: {shapes}: the validation split is empty; splits with frames: train, test\n")


def test_without_torch_it_says_what_to_install(shapes: Path, tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['torch'] = None\n"
        f"sys.argv = ['sono-train', 'pretrain', {str(shapes)!r}, '--recipe', 'tiny', '--out', {str(tmp_path)!r}]\n"
        "from sono.training.cli import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == (
        "sono-train: this command needs torch, which is not installed; run: pip install 'sono-curate[train]'\n"
    )

"""``sono-train`` as a user meets it: in a process of its own."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from sono.training import evaluate, recipes
from sono.training.cli import main

Run = Callable[..., subprocess.CompletedProcess[str]]
SHORT = ["--recipe", "tiny", "--set", "train.steps=4", "--set", "train.warmup_steps=1", "--set", "train.batch_size=8"]


def test_what_was_trained_tells_the_planes_apart_better_than_chance(
    learned: Path, sono_train: Run, shapes: Path
) -> None:
    done = sono_train("evaluate", learned, shapes, "--mask", "both", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    result = json.loads(done.stdout)
    assert result == json.loads((learned / "evaluation/test-both.json").read_text())
    assert (result["split"], result["n_frames"], result["n_patients"]) == ("test", 80, 20)
    assert (result["planes_present"], result["planes"]) == (4, 4)
    assert list(result["masks"]) == ["none", "region"]
    for figures in result["masks"].values():
        assert figures["top1"]["low"] <= figures["top1"]["value"] <= figures["top1"]["high"]
        assert sum(map(sum, figures["confusion"]["counts"])) == 80
        assert figures["top1"]["low"] > 0.4  # chance is 0.25


def test_the_table_names_mask_checkpoint_split_and_numbers(learned: Path, sono_train: Run, shapes: Path) -> None:
    done = sono_train("evaluate", learned, shapes, "--mask", "all")
    assert done.returncode == 0, done.stderr
    head, columns, *lines, difference, where = done.stdout.splitlines()
    assert head.startswith("step-00000110.pt (sha256 ")
    assert "on test: 80 frames of 20 patients, 4 of 4 planes; left out: 0 without a plane, 0 without regions" in head
    assert columns.split()[:2] == ["mask", "top-1"]
    assert [line.split()[0] for line in lines] == ["none", "region", "shuffled", "blank"]
    assert {len(line) for line in lines} == {len(columns)}
    assert where == f"written to {learned}/evaluation/test-all.json"
    gain = json.loads((learned / "evaluation/test-all.json").read_text())["minus_none"]["region"]["top1"]
    points = [f"{100 * gain[name]:+.1f}" for name in ("value", "low", "high")]
    assert difference.startswith("region - none, in points: top-1 {} ({} to {}), top-5 ".format(*points))
    assert "evaluate" in done.stderr
    assert "80 rows" in done.stderr  # of the bar


def test_with_json_nothing_is_said_beside_it_even_when_a_split_is_read_for_the_first_time(
    learned: Path, sono_train: Run, make_rows: Callable, write_dataset: Callable, tmp_path: Path
) -> None:
    dataset = write_dataset(tmp_path / "dataset", {"test": make_rows(8, seed=18)})
    done = sono_train("evaluate", learned, dataset, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert list(json.loads(done.stdout)["masks"]) == ["none"]


def test_the_difference_is_told_in_points_with_its_sign(
    learned: Path, shapes: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    handler = signal.getsignal(signal.SIGINT)
    result = evaluate.evaluate(learned, str(shapes), masks=("none", "region"), resamples=10)
    result["minus_none"]["region"]["top1"] = {"value": 0.0312, "low": -0.01, "high": 0.072}
    monkeypatch.setattr(evaluate, "evaluate", lambda *_, **__: result)
    monkeypatch.setattr(sys, "argv", ["sono-train", "evaluate", str(learned), str(shapes), "--mask", "both"])
    with pytest.raises(SystemExit):
        main()
    assert "region - none, in points: top-1 +3.1 (-1.0 to +7.2), top-5 +0.0 (" in capsys.readouterr().out
    signal.signal(signal.SIGINT, handler)


def test_one_mask_is_one_line_without_a_difference(learned: Path, sono_train: Run, shapes: Path) -> None:
    done = sono_train("evaluate", learned, shapes, "--mask", "blank")
    assert done.returncode == 0, done.stderr
    _, _, line, where = done.stdout.splitlines()
    assert line.startswith("blank ")
    assert where == f"written to {learned}/evaluation/test-blank.json"


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

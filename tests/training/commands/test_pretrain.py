"""``sono-train`` as a user meets it: in a process of its own."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from sono.training import recipes
from sono.training.cli import app, main

Run = Callable[..., subprocess.CompletedProcess[str]]
SHORT = ["--recipe", "tiny", "--set", "train.steps=4", "--set", "train.warmup_steps=1", "--set", "train.batch_size=8"]


@pytest.mark.slow
def test_help_imports_nothing_heavy_and_has_an_example() -> None:
    names = [command.name or command.callback.__name__ for command in app.registered_commands if command.callback]
    assert {"pretrain", "evaluate", "recipes", "suite"} <= set(names)
    for command in ("", *names):
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


def test_recipes_are_listed_and_the_settings_of_one_can_be_given_back(sono_train: Run) -> None:
    listed = [line.split()[0] for line in sono_train("recipes").stdout.partition("\n\n")[0].splitlines()]
    assert listed == list(recipes.RECIPES)
    full = sono_train("recipes", "vit-l-14-336").stdout
    assert "train.warmup_steps=800\n" in full
    assert "train.deterministic=false\n" in full
    assert "\n#   optimizer.lr_logit=0.001, there 1e-06: " in full
    settings = [line for line in full.splitlines() if not line.endswith("=")]
    assert recipes.override(recipes.tiny(), settings) == recipes.vit_l_14_336()


def wrong_input(shapes: Path, folder: Path) -> dict[str, list[object]]:
    """Command lines that must fail, by what their error must contain."""
    (folder / "empty").mkdir()
    (folder / "unfinished/data").mkdir(parents=True)
    out = [folder / "run"]
    paper = ["--recipe", "vit-l-14-336"]
    return {
        "dataset folder not found": ["pretrain", folder / "nowhere", *out, *SHORT],
        "empty: not a finished dataset: sono.json is missing": ["pretrain", folder / "empty", *out, *SHORT],
        "unfinished: not a finished dataset": ["pretrain", folder / "unfinished", *out, *SHORT],
        "recipe 'small' not found; choose one of: tiny,": ["pretrain", shapes, *out, "--recipe", "small"],
        "did you mean 'train.steps'?": ["pretrain", shapes, *out, *SHORT, "--set", "train.step=1"],
        "starts from pretrained weights, but none are given": ["pretrain", shapes, *out, *paper],
        "not a file, a tag": ["pretrain", shapes, *out, *paper, "--weights", folder / "missing.pt"],
        "the folder is not empty": ["pretrain", shapes, shapes, *SHORT],
        "recipe 'none' not found": ["recipes", "none"],
    }


@pytest.mark.slow
def test_wrong_input_prints_one_line_and_exits_with_1(
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


def test_without_torch_the_error_says_what_to_install(shapes: Path, tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['torch'] = None\n"
        f"sys.argv = ['sono-train', 'pretrain', {str(shapes)!r}, {str(tmp_path)!r}, '--recipe', 'tiny']\n"
        "from sono.training.cli import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == (
        "sono-train: this command needs torch, which is not installed; run: pip install 'sono-curate[train]'\n"
    )

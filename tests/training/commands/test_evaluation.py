"""The commands of ``sono-train`` that measure, as a user meets them."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sono.manifests.filenames import evaluation_file
from sono.training.cli import main
from sono.training.data.dataset import open_split, read_description
from sono.training.evaluation.scoring import Scoring
from sono.training.evaluation.suites import SUITES
from sono.training.evaluation.zero_shot import run as zero_shot
from sono.training.export.model_card import _evaluation

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def call(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Iterator[Callable[..., tuple[Any, str, str]]]:
    """Exit code, output and errors of a command, in this process."""
    handler = signal.getsignal(signal.SIGINT)

    def run(*arguments: object) -> tuple[Any, str, str]:
        monkeypatch.setattr(sys, "argv", ["sono-train", *map(str, arguments)])
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        output, errors = capfd.readouterr()
        return ended.value.code, output, errors

    yield run
    signal.signal(signal.SIGINT, handler)


def file_of(run: Path, dataset: Path, name: str) -> Path:
    return evaluation_file(run, read_description(str(dataset)).identity, name)


def figures_in(result: Any) -> Iterator[dict[str, Any]]:
    """Everything with an interval."""
    if isinstance(result, dict):
        if "low" in result and "value" in result:
            yield result
        for value in result.values():
            yield from figures_in(value)


def test_a_trained_model_recognises_planes_better_than_chance(learned: Path, sono_train: Run, shapes: Path) -> None:
    done = sono_train("evaluate", learned, shapes, "--mask", "both", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    result = json.loads(done.stdout)
    assert result == json.loads(evaluation_file(learned, result["dataset"], "test-both").read_text())
    assert (result["split"], result["n_frames"], result["n_patients"]) == ("test", 80, 20)
    assert (result["planes_present"], result["planes"]) == (4, 4)
    assert list(result["masks"]) == ["none", "region"]
    for figures in result["masks"].values():
        assert figures["top1"]["low"] <= figures["top1"]["value"] <= figures["top1"]["high"]
        assert sum(map(sum, figures["confusion"]["counts"])) == 80
        assert figures["top1"]["low"] > 0.4  # chance is 0.25


def test_evaluate_prints_a_table_and_what_to_do_next(learned: Path, sono_train: Run, shapes: Path) -> None:
    done = sono_train("evaluate", learned, shapes, "--mask", "all")
    assert done.returncode == 0, done.stderr
    head, note, columns, *lines, difference, minus_leak, not_a_gain, leak, where, page, following = (
        done.stdout.splitlines()
    )
    assert head.startswith("step-00000110 (sha256 ")
    assert "80 frames of 20 patients, 4 of 4 planes; left out: 0 without a plane, 0 without regions" in head
    assert note == "note: There is no top-5: of 4 planes to choose from, the true one is always among five."
    assert columns.split() == ["mask", "top-1", "95", "%", "interval", "F1", "95", "%", "interval"]
    assert [line.split()[0] for line in lines] == ["none", "region", "shuffled", "blank", "leak"]
    assert {len(line) for line in lines} == {len(columns)}
    file, fingerprint = file_of(learned, shapes, "test-all"), read_description(str(shapes)).fingerprint
    assert f"on test of shapes (fingerprint {fingerprint[:12]}): 80 frames of 20 patients" in head
    assert where == f"written to {file}"
    assert page == f"Look at {file.with_suffix('.html')}"
    assert following == f"Next: sono-train export {learned} OUT --format transformers"
    gain = json.loads(file.read_text())["minus_none"]["region"]["top1"]
    points = [f"{100 * gain[name]:+.1f}" for name in ("value", "low", "high")]
    assert difference == "region - none, in points: top-1 {} ({} to {})".format(*points)
    assert minus_leak.startswith("region - leak, in points: top-1 ")
    assert "not a gain over training without masks" in not_a_gain
    assert leak.startswith("leak: no image and no model")
    assert "evaluate" in done.stderr
    assert "80 rows" in done.stderr  # of the bar


@pytest.mark.slow
def test_json_is_all_that_is_printed_even_when_a_split_is_read_for_the_first_time(
    random_run: Callable[..., Path], sono_train: Run, make_rows: Callable, write_dataset: Callable, tmp_path: Path
) -> None:
    dataset = write_dataset(tmp_path / "dataset", {"test": make_rows(8, seed=18)})
    done = sono_train("evaluate", random_run(), dataset, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert list(json.loads(done.stdout)["masks"]) == ["none"]


@pytest.mark.slow
def test_differences_are_printed_in_points_with_their_sign(
    random_run: Callable[..., Path], three_splits: Path, monkeypatch: pytest.MonkeyPatch, call: Callable[..., Any]
) -> None:
    run = random_run()
    result = zero_shot.evaluate(Scoring(run, str(three_splits), resamples=10), masks=("none", "region"))
    result["minus_none"]["region"]["top1"] = {"value": 0.0312, "low": -0.01, "high": 0.072}
    monkeypatch.setattr(zero_shot, "evaluate", lambda *_, **__: result)
    assert (
        "region - none, in points: top-1 +3.1 (-1.0 to +7.2)\n"
        in call("evaluate", run, three_splits, "--mask", "both")[1]
    )


def test_a_single_mask_is_one_line_without_a_difference(
    random_run: Callable[..., Path], three_splits: Path, call: Callable[..., Any]
) -> None:
    run = random_run()
    code, output, _ = call("evaluate", run, three_splits, "--mask", "blank")
    _, _, _, line, leak, _, where, _, _ = output.splitlines()
    assert code == 0
    assert line.startswith("blank ")
    assert leak.startswith("leak ")
    assert where == f"written to {file_of(run, three_splits, 'test-blank')}"


def test_scores_on_one_plane_say_so_wherever_they_are_shown(
    random_run: Callable[..., Path],
    make_rows: Callable[..., list[dict[str, Any]]],
    write_dataset: Callable[..., Path],
    call: Callable[..., Any],
    tmp_path: Path,
) -> None:
    """As a dataset of HC18 has them: heads in one plane."""
    run, rows = random_run(), [row for row in make_rows(32, seed=91) if row["plane"] == 0]
    dataset = write_dataset(tmp_path / "dataset", {"test": rows}, planes={"transthalamic": "transthalamic"})
    code, output, _ = call("evaluate", run, dataset, "--mask", "both")
    assert code == 0
    one_plane, top5, *_ = [line for line in output.splitlines() if line.startswith("note: ")]
    assert "All scored frames show one plane, transthalamic. Always answering it would be right every time" in one_plane
    assert "of 1 plane to choose from" in top5
    assert output.index(one_plane) < output.index("top-1")
    assert re.search(r"region - none, in points: .* on one plane only: see the note\n", output)
    result = json.loads(file_of(run, dataset, "test-both").read_text())
    assert set(result["notes"]) == {"one_plane", "top5_trivial"}
    assert {figures["top5"] for figures in result["masks"].values()} == {None}
    page = file_of(run, dataset, "test-both").with_suffix(".html").read_text()
    card = "\n".join(_evaluation(run, result["checkpoint"]["sha256"]))
    for text in result["notes"].values():
        assert text in page
        assert text in card
    assert "top-5</th>" not in page
    assert "top5" not in card


@pytest.mark.parametrize(
    ("arguments", "file", "printed"),
    [
        (("retrieve",), "test-retrieve", ["image_to_text: 32 queries", "mask region recall at 1 "]),
        (("probe", "--mask", "region"), "test-probe-region", ["chosen on the validation split", "mean_per_class"]),
        (("segment", "--epochs", "1"), "test-segment", ["after epoch 1, chosen on the validation split", "dice "]),
        (("segment", "--epochs", "1", "--foreground"), "test-segment", ["dice "]),
        (("gestational-age",), "test-ga-weeks", ["mean absolute error ", "always the median: "]),
        (("sensitivity",), "test-sensitivity", ["none, region ", "times that between frames"]),
    ],
)
@pytest.mark.slow
def test_every_command_prints_its_figures_and_their_file(
    arguments: tuple[str, ...],
    file: str,
    printed: list[str],
    random_run: Callable[..., Path],
    three_splits: Path,
    call: Callable[..., Any],
) -> None:
    run = random_run()
    command, *options = arguments
    code, output, _ = call(command, run, three_splits, *options)
    assert code == 0
    head, *lines, where = output.splitlines()
    assert head.startswith("step-00000007 (sha256 ")
    assert where == f"written to {file_of(run, three_splits, file)}"
    for text in printed:
        assert any(text in line for line in lines), (text, lines)
    code, output, errors = call(command, run, three_splits, *options, "--json")
    assert (code, errors) == (0, "")
    result = json.loads(output)
    assert result == json.loads(file_of(run, three_splits, file).read_text())
    assert result["dataset"] == read_description(str(three_splits)).identity
    assert (result["split"], result["checkpoint"]["file"]) == ("test", "step-00000007")
    assert result["trained_on"] == {"patients": 0, "of": 8, "not_known": []}
    found = list(figures_in(result))
    assert found
    for figure in found:
        assert 0 < figure["n_patients"] <= 8
        assert figure["n_patients"] <= figure["n"] <= 64  # two regions a frame


@pytest.mark.slow
def test_patients_that_were_trained_on_are_refused_counted_or_said_to_be_unknown(
    learned: Path, shapes: Path, small_run: Callable[[str], Path], three_splits: Path, call: Callable[..., Any]
) -> None:
    refused = f"sono-train: {shapes}: the model was trained on 60 of the 60 patients of the train split; "
    code, output, errors = call("sensitivity", learned, shapes, "--split", "train")
    assert (code, output) == (1, "")
    assert errors.endswith(f"{refused}score patients that it was not trained on, or add --allow-trained\n")
    code, output, _ = call("sensitivity", learned, shapes, "--split", "train", "--allow-trained")
    assert code == 0
    assert "\nthe model was trained on 60 of the 60 patients of the split\n" in output
    older = small_run("test-vit")  # its checkpoint does not say
    code, output, _ = call("evaluate", older, three_splits)
    assert code == 0
    not_known = "the checkpoint does not record the patients that it was trained on"
    assert f"\nthe model may have been trained on patients of the split: {not_known}\n" in output
    file = file_of(older, three_splits, "test-none")
    assert json.loads(file.read_text())["trained_on"] == {"patients": None, "of": 8, "not_known": [not_known]}
    assert not_known in file.with_suffix(".html").read_text()


@pytest.mark.slow
def test_suites_are_listed_and_run_by_name(
    random_run: Callable[..., Path], three_splits: Path, call: Callable[..., Any]
) -> None:
    code, output, _ = call("suite", "--list")
    assert code == 0
    for name, suite in SUITES.items():
        assert f"\n{name} " in f"\n{output}"
        assert suite.about in output
    run = random_run()
    code, output, _ = call("suite", "fetalp24", run, three_splits)
    assert code == 0
    assert "masks.region.top5" in output
    assert f"written to {file_of(run, three_splits, 'suite-fetalp24')}" in output
    assert call("suite", "fetalp24")[0] == 2


@pytest.mark.slow
def test_wrong_input_prints_one_line_and_exits_with_1(
    random_run: Callable[..., Path], shapes: Path, tmp_path: Path, call: Callable[..., Any]
) -> None:
    for split in ("train", "test"):
        open_split(read_description(str(shapes)), split)  # the first time there is a bar of another library
    run = random_run()
    wrong = {
        "unknown suite 'small'; choose one of: fetalp24,": ["suite", "small", run, shapes],
        "unknown suite 'fetalp42'; did you mean 'fetalp24'?": ["suite", "fetalp42", run, shapes],
        f"{shapes}: the validation split is empty; splits with frames: train, test": [
            "evaluate", run, shapes, "--split", "validation",
        ],
        "unknown split 'tset'; did you mean 'test'?": ["retrieve", run, shapes, "--split", "tset"],
        "the train split is used to train or select the probe": ["probe", run, shapes, "--split", "train"],
        "--predicted has no effect with this --mask": ["evaluate", run, shapes, "--predicted", shapes],
        "no frame of the test split has a predicted mask": ["evaluate", run, shapes, "--mask", "predicted"],
        "dataset folder not found": ["evaluate", run, shapes, "--mask", "all", "--predicted", tmp_path / "no"],
    }  # fmt: skip
    for command in ("evaluate", "retrieve", "probe", "segment", "gestational-age", "sensitivity"):
        wrong[f"empty{command}: no checkpoint found"] = [command, tmp_path / f"empty{command}", shapes]
    for message, arguments in wrong.items():
        code, output, errors = call(*arguments)
        assert (code, output) == (1, ""), errors
        assert errors.startswith("sono-train: ")
        assert errors.count("\n") == 1, errors
        assert message in errors

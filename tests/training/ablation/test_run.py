"""``sono-train ablation``: runs that each differ in one thing, resumable, with tables, a figure and a page."""

from __future__ import annotations

import csv
import json
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sono.manifests.errors import UserError
from sono.manifests.filenames import evaluation_file
from sono.training import recipes
from sono.training.ablation.design import CELLS, Cell
from sono.training.ablation.page import figure, page
from sono.training.ablation.run import ablation
from sono.training.ablation.summary import Run, Spread, summary
from sono.training.data.pool import make_pool
from sono.training.data.samples import Samples
from sono.training.data.together import open_together, read_descriptions
from sono.training.model.tokenizer import CaptionTokenizer
from sono.training.model.transforms import PadToSquare

SHORT = [
    "train.steps=2", "train.warmup_steps=1", "train.batch_size=8", "train.threads=1", "data.cache=none",
]  # fmt: skip
ONE = [Cell(masks="off", kind="sigmoid", positives="diagonal")]  # the recipe has none of these three


@pytest.fixture(scope="module")
def finished(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("ablation") / "out"
    ablation(str(shapes), out, "tiny", SHORT, seeds=1, cells=ONE, notice=lambda _: None)
    return out


@pytest.mark.slow
def test_every_cell_is_trained_with_its_own_settings_and_scored(finished: Path) -> None:
    run = finished / "runs" / "masks-off-sigmoid-diagonal-seed-0"
    trained = json.loads((run / "recipe.json").read_text())
    varied = {"data.masks": "off", "loss.kind": "sigmoid", "loss.positives": "diagonal"}
    assert {key: trained[key] for key in varied} == varied
    assert trained["train.steps"] == 2
    content = json.loads((finished / "ablation.json").read_text())
    (found,) = content["runs"]
    scored = json.loads(evaluation_file(run, content["dataset"], "test-both").read_text())
    assert found["figures"]["region"]["top1"] == scored["masks"]["region"]["top1"]
    assert found["checkpoint"]["step"] == 2
    assert not varied.keys() & content["recipe"].keys()
    page = (finished / "ablation.html").read_text()
    assert "<svg" in page
    assert content["leak"] == {name: scored["leak"][name] for name in ("top1", "top5", "fitted_on")}
    assert f"tell the plane in <b>{100 * scored['leak']['top1']['value']:.1f} %</b> of frames" in page


def test_a_leak_that_was_not_measured_is_said_on_the_page() -> None:
    assert "(the leak) was not measured: " in page(content())


def test_finished_runs_are_not_repeated(finished: Path, shapes: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in (finished / "runs").rglob("*") if path.is_file()}
    notices: list[str] = []
    ablation(str(shapes), finished, "tiny", SHORT, seeds=1, cells=ONE, notice=notices.append)
    assert {path: path.stat().st_mtime_ns for path in (finished / "runs").rglob("*") if path.is_file()} == before
    assert all(line.endswith("up to date") for line in notices)


@pytest.mark.slow
def test_runs_with_other_settings_are_refused_with_the_error_of_pretrain(finished: Path, shapes: Path) -> None:
    other = [*SHORT, "optimizer.lr_stem=0.5"]
    with pytest.raises(
        UserError, match=r"exit code 1: .*optimizer.lr_stem was 0.001 when this run began, but is now 0.5"
    ):
        ablation(str(shapes), finished, "tiny", other, seeds=1, cells=ONE, notice=lambda _: None)


@pytest.mark.parametrize("place", ["dataset", "in the dataset", "runs", "notes", "file"])
def test_a_folder_that_holds_something_else_is_refused(place: str, shapes: Path, tmp_path: Path) -> None:
    (tmp_path / "runs" / "first").mkdir(parents=True)
    (tmp_path / "notes.txt").touch()
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "runs").symlink_to(tmp_path / "runs")
    places = {"dataset": shapes, "in the dataset": shapes / "ablation", "runs": tmp_path / "more",
              "notes": tmp_path, "file": tmp_path / "notes.txt"}  # fmt: skip
    before = sorted(shapes.rglob("*"))
    with pytest.raises(UserError, match=r"does not belong to an ablation; name|finished dataset|not a folder"):
        ablation(str(shapes), places[place], "tiny", SHORT, seeds=1, cells=ONE, notice=pytest.fail)
    assert sorted(shapes.rglob("*")) == before


@pytest.mark.parametrize("setting", ["data.masks=off", "loss.kind=softmax", "loss.positives=diagonal"])
def test_a_varied_setting_cannot_be_set(setting: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="an ablation varies this setting itself"):
        ablation("nowhere", tmp_path, "tiny", [setting])


def test_tables_hold_every_cell_and_every_run(finished: Path) -> None:
    with (finished / "ablation.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2  # ways of scoring; of four planes there is no top-5
    with (finished / "runs.csv").open() as file:
        runs = list(csv.DictReader(file))
    assert [row["value"] for row in runs] == [row["mean"] for row in rows]  # one seed
    assert all(float(row["low"]) <= float(row["value"]) <= float(row["high"]) for row in runs)


def test_masks_off_keeps_images_and_captions_and_sets_every_mask_to_one(shapes: Path) -> None:
    pool = make_pool(open_together(read_descriptions([str(shapes)])), CaptionTokenizer(77))
    on, off = (
        Samples(pool, PadToSquare(size=64), recipes.override(recipes.tiny(), [f"data.masks={masks}"]))
        for masks in ("on", "off")
    )
    regions = 0
    for index in range(20):
        one, other = on[0, index], off[0, index]
        assert not isinstance(one, UserError)
        assert not isinstance(other, UserError)
        assert np.array_equal(one.image, other.image)
        assert (one.caption, one.origin) == (other.caption, other.origin)
        assert (other.mask == 255).all()
        regions += int((one.mask != 255).any())
    assert regions > 10


def result(top1: float) -> dict[str, Any]:
    def mask(value: float) -> dict[str, Any]:
        return {name: {"value": value, "low": value - 0.1, "high": value + 0.1} for name in ("top1", "top5")}

    return {
        "masks": {"none": mask(top1), "region": mask(top1 + 0.2)},
        "dataset": {"name": "phantoms", "fingerprint": "abc"},
        "split": "test",
        "trained_on": {"patients": 0, "of": 20, "not_known": []},
        "checkpoint": {"file": "step-00000002", "sha256": "0" * 64, "step": 2},
        "bootstrap": {"over": "patients", "resamples": 1000, "seed": 0},
        "notes": {},
        "n_frames": 80,
        "n_patients": 20,
    }


def all_runs() -> list[Run]:
    """Top-1 rises by 1 % from cell to cell, and by 2 % from seed to seed."""
    return [
        Run(cell=cell, seed=seed, result=result(0.3 + 0.01 * number + 0.02 * seed))
        for seed in range(3)
        for number, cell in enumerate(CELLS)
    ]


def content() -> dict[str, Any]:
    return summary(all_runs(), recipe=recipes.tiny())


def test_the_spread_is_over_seeds() -> None:
    first = content()["cells"][0]["figures"]["none"]["top1"]
    assert first == pytest.approx({"n": 3, "mean": 0.32, "sd": 0.02, "least": 0.30, "greatest": 0.34})
    assert Spread.of([0.5]).sd is None


def test_differences_are_paired_by_seed() -> None:
    found = {(one["what"], one["of"]): one for one in content()["differences"]}
    assert len(found) == 10
    masks = found["masks in training and scoring, minus none in either", "sigmoid, caption"]
    assert masks["mean"] == pytest.approx(0.01 + 0.2)
    assert masks["sd"] == pytest.approx(0, abs=1e-9)  # seeds differ, the gain does not
    assert found["sigmoid minus softmax", "masks on"]["mean"] == pytest.approx(0.04)
    assert found["equal captions as positives, minus the diagonal alone", "masks off"]["mean"] == pytest.approx(0.02)


def test_the_figure_is_svg_with_a_bar_per_series_and_a_dot_per_run() -> None:
    drawn = figure(content())
    root = ElementTree.fromstring(drawn)
    name = "{http://www.w3.org/2000/svg}"
    bars = [bar for bar in root.iter(f"{name}rect") if bar.find(f"{name}title") is not None]
    assert len(bars) == 9
    assert len(list(root.iter(f"{name}circle"))) == 27
    heights = {bar.findtext(f"{name}title"): float(bar.attrib["height"]) for bar in bars}
    lowest, highest = min(heights.items(), key=lambda one: one[1]), max(heights.items(), key=lambda one: one[1])
    assert lowest[0] == "softmax, trained and seen without masks: 32.0 %, mean of 3"
    assert highest[0] == "sigmoid, caption, trained and seen with masks: 57.0 %, mean of 3"
    assert highest[1] / lowest[1] == pytest.approx(0.57 / 0.32, rel=0.01)


def test_the_page_shows_figure_and_tables() -> None:
    text = page(content())
    assert "<svg" in text
    assert text.count("<circle") == 27
    assert "&lt;svg" not in text
    assert re.search(r"32\.0 % <span class=\"gap\">± 2\.0, 30\.0 – 34\.0", text)
    assert "+21.0" in text


def test_positives_are_not_varied_for_the_softmax_loss() -> None:
    assert len(CELLS) == 6
    assert Cell(masks="on", kind="softmax", positives="caption").label == "softmax"
    assert {cell.positives for cell in CELLS if cell.kind == "softmax"} == {"caption"}

"""The README's walk-through, run as written except for the length of training, on real ultrasound."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pytest

from sono.captioning.exams.formulas import hadlock_1984_hc
from sono.manifests import masks
from sono.manifests.pseudonyms import load_key

from .conftest import environment

ROOT = Path(__file__).resolve().parents[2]
SHORTENED = {
    "--recipe tiny --resume": "--recipe tiny --resume --set train.steps=60 --set train.warmup_steps=10",
    "--epochs 30": "--epochs 3",
}


@pytest.fixture(scope="module")
def walk(hc18: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which all shell blocks of the walk were run in order."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    section = readme[readme.index("## A walk-through with real ultrasound") : readme.index("## Further reading")]
    blocks = re.findall(r"```sh\n(.*?)```", section, flags=re.DOTALL)
    assert len(blocks) == 4
    folder = tmp_path_factory.mktemp("walk")
    script = "\n".join(["set -e", *blocks])
    for minutes, seconds in SHORTENED.items():
        assert script.count(minutes) == 1
        script = script.replace(minutes, seconds)
    made = [line for line in script.splitlines() if line.startswith("sono-curate init archive")]
    assert len(made) == 1
    # The key decides who is in which split: with the same one in every run, as many patients are tested on.
    script = script.replace(made[0], f"{made[0]}\necho {'5e' * 32} > archive/secret.key")
    env = environment(HC18=str(hc18), HF_HOME=str(folder / "hf"))
    done = subprocess.run(["bash", "-c", script], cwd=folder, env=env, capture_output=True, text=True, timeout=1200)
    assert done.returncode == 0, done.stdout + done.stderr
    (folder / "printed.txt").write_text(done.stdout)
    return folder


def test_every_image_is_a_frame_and_every_annotation_a_region(walk: Path) -> None:
    found = json.loads(
        subprocess.run(
            ["sono-curate", "status", "archive", "--json"],
            cwd=walk,
            env=environment(),
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    )
    assert (found["frames"], found["patients"]) == (147, 111)
    assert found["frames_by_plane"] == {"transthalamic": 147}
    assert found["regions"] == {"head": 147}
    assert found["verdicts"] == {"accept": 146, "review": 0, "reject": 1}  # 392_HC and 392_2HC hold the same pixels
    assert found["exclusions"]["records"] == {"measurement_outside_range": 8}  # Hadlock's, 14 to 42 weeks
    assert found["stale"] == {}


def test_the_masks_are_where_the_sonographer_measured(walk: Path, hc18: Path) -> None:
    """An ellipse fitted to each mask has the published circumference, which is independent of our code."""
    import cv2

    keys = load_key(walk / "archive" / "secret.key")
    rows = duckdb.sql(
        f"SELECT source_key, mask FROM '{walk}/archive/regions/*.parquet' JOIN '{walk}/archive/frames/*.parquet' "
        "USING (frame_id)"
    ).fetchall()
    found = dict(rows)
    table = pd.read_csv(hc18 / "pixel_size_and_hc.csv")
    errors = []
    for name, pixel_mm, published_mm in table.itertuples(index=False):
        mask = masks.decode(found[keys.source(name)]).astype(np.uint8)
        contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        _, (minor, major), _ = cv2.fitEllipse(max(contours, key=len))
        ratio = ((major - minor) / (major + minor)) ** 2
        perimeter = np.pi * (major + minor) / 2 * (1 + 3 * ratio / (10 + np.sqrt(4 - 3 * ratio)))  # Ramanujan
        errors.append(perimeter * pixel_mm / published_mm - 1)
    assert np.abs(errors).max() < 0.015


def test_the_dataset_loads_without_this_project_and_no_patient_is_in_two_splits(walk: Path, hc18: Path) -> None:
    script = """
import json, sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "sono":
            raise ImportError("this process must work without it")
sys.meta_path.insert(0, Refuse())
from datasets import load_dataset
rows = []
for split, data in load_dataset("dataset", cache_dir="cache").items():
    for row in data:
        image = row["image"]
        assert all(region["mask"]["size"] == [image.height, image.width] for region in row["regions"])
        assert max(image.size) == 256
        rows.append([split, row["patient_key"], row["ga_days"], row["caption"], [r["caption"] for r in row["regions"]]])
print(json.dumps(rows))
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=walk, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)
    assert len(rows) == 138
    splits: dict[str, set[str]] = {}
    for split, patient, *_ in rows:
        splits.setdefault(patient, set()).add(split)
    assert all(len(seen) == 1 for seen in splits.values())
    table = pd.read_csv(hc18 / "pixel_size_and_hc.csv")
    ages = map(hadlock_1984_hc, table.head_circumference_mm)
    published = {round(weeks * 7) for weeks in ages if weeks is not None}
    assert len(published) > 40
    for _, _, ga_days, caption, regions in rows:
        assert ga_days in published
        assert len(regions) == 1
        for text in (caption, *regions):
            assert re.findall(r"\d+", text) == [str(ga_days // 7)]
            assert "transthalamic plane" in text.lower()
            assert re.search(r"\bhead\b", text.lower())
    assert len({text for _, _, _, *texts in rows for text in texts[0:1]}) > 40


def test_heads_measured_on_the_dataset_have_the_sonographers_ages(walk: Path) -> None:
    """The line that the README quotes: two ways through the product, one by masks and one by records, agree."""
    printed = (walk / "printed.txt").read_text()
    quoted = "138 heads: ages by mask and by sonographer are 0.9 days apart, 3.5 at most"
    assert f"\n{quoted}\n" in printed
    assert f"`{quoted}`" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_training_finished_and_the_walk_ends_with_a_figure_beside_what_no_model_would_get(walk: Path) -> None:
    log = pd.read_csv(walk / "run" / "log.csv")
    assert log.step.iloc[-1] == 60
    assert np.isfinite(log.loss).all()  # sixty steps on one plane: it need not fall
    (file,) = (walk / "run" / "evaluation").glob("*/test-segment.json")
    result = json.loads(file.read_text())
    assert result["structures"] == ["head"]
    assert result["n_patients"] > 5
    *_, dice, _, always, difference, _ = (walk / "printed.txt").read_text().splitlines()
    assert dice.startswith("dice ")
    assert re.fullmatch(
        r"always the average mask of the train split: dice \d\d\.\d% \(\d\d\.\d% to \d\d\.\d%\)", always
    )
    assert re.fullmatch(r"dice - always the average, in points: [+-]\d+\.\d \([+-]\d+\.\d to [+-]\d+\.\d\)", difference)
    assert result["always_the_average"]["dice"]["value"] > 0.7


def test_no_file_name_appears_in_workspace_dataset_or_output(walk: Path, hc18: Path) -> None:
    names = [path.stem.encode() for path in (hc18 / "images").iterdir()]
    files = [path for folder in ("archive", "dataset") for path in (walk / folder).rglob("*") if path.is_file()]
    for path in [*files, walk / "printed.txt"]:
        content = path.read_bytes()
        assert not any(name in content or name in str(path).encode() for name in names), path


def test_the_quality_page_has_its_plots_and_counts(walk: Path) -> None:
    page = (walk / "archive" / "reports" / "qc.html").read_text()
    assert page.count("<figure>") == 6
    assert ">146<" in page


def test_the_notebook_draws_the_readmes_picture(walk: Path) -> None:
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(ROOT / "notebooks" / "hc18.ipynb", as_version=4)
    assert all(not cell.get("outputs") for cell in notebook.cells), "commit notebooks without outputs"
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(walk)}}).execute(env=environment())
    assert (walk / "hc18.png").stat().st_size > 10_000

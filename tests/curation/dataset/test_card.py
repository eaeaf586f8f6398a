"""The card of a dataset: what it says is what is in the dataset, and other programs can read it."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from huggingface_hub import DatasetCard
from PIL import Image

from .curated import Curation, rows_of


def table(card: str, header: str) -> list[list[str]]:
    """The rows of the table that begins with ``header``."""
    lines = card[card.index(header) :].splitlines()[2:]
    rows = []
    for line in lines:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return rows


@pytest.fixture
def built(curation: Curation, tmp_path: Path) -> tuple[Path, str]:
    curation.describe(lambda file: "North" if file.startswith("P1") else "South")
    curation.run()
    curation.publish(
        title="Heads", licence="CC-BY-NC-4.0", citation="@data{heads, year = 2026}", contact="data@hospital.example"
    )
    curation.build(tmp_path / "out")
    return tmp_path / "out", (tmp_path / "out" / "README.md").read_text()


def test_its_figures_are_those_of_the_data(built: tuple[Path, str]) -> None:
    out, card = built
    rows = rows_of(out)
    for split, frames, patients in table(card, "| split | frames |"):
        of_split = [row for row in rows if row["split"] == split]
        assert (int(frames), int(patients)) == (len(of_split), len({row["patient_key"] for row in of_split}))
    assert table(card, "| standard plane |") == [["transthalamic", "12", "4"]]
    assert table(card, "| center |") == [["South", "9", "3"], ["North", "3", "1"]]
    assert table(card, "| scanner |") == [["not known", "12", "4"]]
    assert table(card, "| structure | regions |") == [["head", "6", "6", "4"]]
    assert table(card, "| source | accepted |") == [["import", "6", "0", "0", "0"]]
    assert sum(int(row[1]) for row in table(card, "| template |")) == 12
    assert sum(int(row[2]) for row in table(card, "| template |")) == 6
    assert "12 frames of 4 patients, with 6 outlined regions" in card
    assert "`min_short_side_px` 128" in card
    assert "The audit, which compares every table and image with the archive, was not made." in card
    for said in (
        "# Heads",
        "CC-BY-NC-4.0 (https://spdx.org/licenses/CC-BY-NC-4.0.html)",
        "@data{heads",
        "data@hospital",
    ):
        assert said in card


def test_its_metadata_is_what_the_hub_and_datasets_read(built: tuple[Path, str]) -> None:
    out, card = built
    loaded: dict[str, Any] = DatasetCard.load(out / "README.md").data.to_dict()
    assert loaded["license"] == "cc-by-nc-4.0"
    assert loaded["pretty_name"] == "Heads"
    assert [config["config_name"] for config in loaded["configs"]] == ["default", "regions", "metadata"]
    for info in loaded["dataset_info"]:
        folder = {"default": "data"}.get(info["config_name"], info["config_name"])
        assert info["download_size"] == sum(path.stat().st_size for path in (out / folder).iterdir())
    assert yaml.safe_load(card.split("---\n")[1]) == loaded


def test_every_figure_it_shows_is_there_and_is_a_picture(built: tuple[Path, str]) -> None:
    out, card = built
    shown = set(re.findall(r"!\[[^]]*\]\(([^)]+)\)", card))
    assert shown == {f"figures/{path.name}" for path in (out / "figures").iterdir()}
    assert len(shown) == 4
    for name in shown:
        picture = Image.open(io.BytesIO((out / name).read_bytes()))
        assert picture.width == 1280
        assert len(set(np.asarray(picture.convert("L")).ravel())) > 4


def test_a_licence_of_ones_own_is_named_and_none_is_said(curation: Curation, tmp_path: Path) -> None:
    curation.publish(licence="LicenseRef-Hospital-A")
    curation.build(tmp_path / "out")
    loaded = DatasetCard.load(tmp_path / "out" / "README.md").data.to_dict()
    assert (loaded["license"], loaded["license_name"]) == ("other", "hospital-a")
    curation.publish()
    curation.build(tmp_path / "out")
    card = (tmp_path / "out" / "README.md").read_text()
    assert "license" not in DatasetCard.load(tmp_path / "out" / "README.md").data.to_dict()
    assert "Without a licence nobody may use this dataset." in card


def test_names_cannot_break_its_tables(curation: Curation, tmp_path: Path) -> None:
    from sono.curation.dataset.description.card.page import _cell

    assert _cell("a|b<script>\n") == "a\\|b&lt;script> "

"""Only names of scanners pass; what else was typed there becomes a code that still tells scanners apart."""

from __future__ import annotations

import json
import re
import tomllib
from importlib import resources
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.data import get_testdata_file

from sono.curation.ingest.run import ingest
from sono.curation.ingest.scanners import manufacturer_name, model_name
from sono.curation.phantom.hospitals import CENTERS
from sono.manifests.pseudonyms import Pseudonymizer
from sono.manifests.schemas import FRAMES
from sono.manifests.stages import in_process
from sono.manifests.workspace import Workspace

KEYS = Pseudonymizer(bytes(32))
NOT_SCANNERS = [
    "Room 3",
    "Raum 12 Kreisssaal",
    "Dr. Canary",
    "Voluson E10 Dr. Canary",
    "Canary",
    "LOGIQ E9 Room 4",
    "GE",
    "EPIQ 7 - CANARY^ANNA",
    "M7",
    "Müller",
    "1980-01-01",
]


@pytest.mark.parametrize(
    ("typed", "name"),
    [
        ("Voluson E10", "Voluson E10"),
        ("VOLUSON_E10", "Voluson E10"),
        ("voluson e10 ", "Voluson E10"),
        ("GE Voluson E10", "Voluson E10"),
        ("LOGIQE9", "LOGIQ E9"),
        ("Philips EPIQ 7G", "EPIQ 7G"),
        ("iU22", "iU22"),
        ("ACUSON S2000", "ACUSON S2000"),
        ("Acuson  Sequoia", "ACUSON Sequoia"),
        ("SSD-4000", "SSD-4000"),
        ("Samsung Medison HERA W10", "HERA W10"),
    ],
)
def test_listed_models_pass_in_one_spelling(typed: str, name: str) -> None:
    assert model_name(typed, KEYS) == name


@pytest.mark.parametrize("typed", NOT_SCANNERS)
def test_anything_else_becomes_a_code(typed: str) -> None:
    code = model_name(typed, KEYS)
    assert code is not None
    assert re.fullmatch(r"model-[0-9a-f]{8}", code)
    assert code == model_name(f" {typed.upper()}", KEYS)
    assert code != model_name(typed, Pseudonymizer(bytes([1] * 32)))


def test_codes_tell_scanners_apart_and_nothing_is_no_code() -> None:
    assert len({model_name(typed, KEYS) for typed in NOT_SCANNERS}) == len(NOT_SCANNERS)
    assert [model_name(typed, KEYS) for typed in (None, "", "  ", "--")] == [None] * 4


@pytest.mark.parametrize(
    ("typed", "name"),
    [("GE Medical Systems", "GE Medical Systems"), ("PHILIPS", "Philips"), ("Toshiba_MEC_US", "TOSHIBA_MEC_US")],
)
def test_listed_manufacturers_pass_and_others_become_codes(typed: str, name: str) -> None:
    assert manufacturer_name(typed, KEYS) == name
    assert re.fullmatch(r"manufacturer-[0-9a-f]{8}", str(manufacturer_name(f"{typed} Canary", KEYS)))


def test_the_scanners_of_the_phantoms_are_listed() -> None:
    for center in CENTERS.values():
        assert manufacturer_name(center.manufacturer, KEYS) == center.manufacturer
        assert model_name(center.model, KEYS) == center.model


def test_the_list_has_no_model_that_a_room_may_be_called() -> None:
    text = resources.files("sono.curation.ingest").joinpath("scanners.toml").read_text(encoding="utf-8")
    models = [name for entry in tomllib.loads(text)["manufacturers"] for name in entry["models"]]
    assert len(models) > 300
    assert [name for name in models if sum(character.isalnum() for character in name) < 4] == []


@pytest.mark.parametrize("keyword", ["ManufacturerModelName", "Manufacturer"])
def test_no_word_that_was_typed_there_is_in_the_workspace(workspace: Workspace, tmp_path: Path, keyword: str) -> None:
    path = get_testdata_file("examples_ybr_color.dcm")
    assert isinstance(path, str)
    image = dcmread(path)
    image.PatientID = "P1"
    setattr(image, keyword, "Room 3 CANARY")
    (tmp_path / "in").mkdir()
    image.save_as(tmp_path / "in" / "a.dcm")
    ingest(workspace, [tmp_path / "in"], engine=in_process)
    row = workspace.store.read_all(FRAMES).to_pylist()[0]
    column = "model" if keyword == "ManufacturerModelName" else "manufacturer"
    assert re.fullmatch(rf"{column}-[0-9a-f]{{8}}", row[column])
    assert "CANARY" not in json.dumps(row, default=str)

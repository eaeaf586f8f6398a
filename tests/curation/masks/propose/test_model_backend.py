"""Proposals of a fitted model: by a structure's name, and only of what it was fitted to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from sono.curation.masks.backends.registry import BackendChoice
from sono.curation.masks.carry.run import carry_masks
from sono.curation.masks.fit.model_file import FILE, save_segmenter
from sono.curation.masks.fit.network import build_network
from sono.curation.masks.fit.settings import Architecture
from sono.manifests.errors import UserError
from sono.manifests.stages import in_process

from .conftest import Heads

pytestmark = pytest.mark.slow

STILLS = [f"P{patient}/scan{scan}" for patient in range(1, 4) for scan in range(2)]


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a model that sees heads everywhere."""
    architecture = Architecture(size_px=32)
    head: dict[str, Any] = {"id": "head", "temperature": 1.0, "dice": 0.9}
    description = {
        "encoder": architecture.encoder,
        "decoder_channels": architecture.decoder_channels,
        "size_px": architecture.size_px,
        "structures": [{**head, "dice_low": None, "dice_high": None, "calibration_error": None}],
        "settings": {},
        "trained_on": {},
        "patients": [],
        "pseudonyms_id": "id",
        "versions": {},
    }
    folder = tmp_path_factory.mktemp("fitted")
    network = build_network(architecture, 1, seed=4)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.startswith("segmentation_head"):
                parameter.fill_(3.0 if name.endswith("bias") else 0.0)
    save_segmenter(folder / FILE, network, description)
    return folder


def test_a_model_is_asked_by_name_for_what_it_knows(heads: Heads, fitted: Path, tmp_path: Path) -> None:
    heads.accept(STILLS, tmp_path / "masks", structure="thalami")  # whose place is known from now on
    report = heads.propose(BackendChoice("model", fitted))
    rows = heads.regions(source="model")
    assert len(rows) == report.run.rows == 13
    assert {row["structure"] for row in rows} == {"head"}
    assert report.run.exclusions == {}  # nobody expected a model of heads to find thalami
    assert {row["prompt"] for row in rows} == {json.dumps({"from": "name"})}
    assert json.loads(rows[0]["scores"]).keys() == {"score", "confidence", "expected_dice"}


def test_the_folder_of_a_fit_is_as_good_as_its_file(heads: Heads, fitted: Path) -> None:
    assert heads.propose(BackendChoice("model", fitted), limit=1).run.rows == 1
    assert BackendChoice("model", fitted).model_sha256() == BackendChoice("model", fitted / FILE).model_sha256()
    with pytest.raises(UserError, match="file not found"):
        BackendChoice("model", fitted.parent / "nothing").model_sha256()


def test_structures_that_a_model_does_not_know_are_refused(heads: Heads, fitted: Path) -> None:
    model = BackendChoice("model", fitted)
    told = "this model does not know thalami: it was fitted to head"
    with pytest.raises(UserError, match=told):
        heads.propose(model, structures=["head", "thalami"])
    with pytest.raises(UserError, match=told):
        carry_masks(heads.workspace, structures=["thalami"], backend=model, engine=in_process)
    assert heads.regions() == []

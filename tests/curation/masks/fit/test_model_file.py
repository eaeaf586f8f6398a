"""The file of a fitted segmenter: what comes back, and what is refused."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from sono.curation.masks.fit.model_file import load_segmenter, save_segmenter, square_logits
from sono.curation.masks.fit.network import build_network
from sono.curation.masks.fit.settings import Architecture
from sono.manifests.errors import UserError

pytestmark = pytest.mark.slow

ARCHITECTURE = Architecture(size_px=32)


def described(**changes: Any) -> dict[str, Any]:
    structure = {"temperature": 1.5, "dice": 0.9, "dice_low": None, "dice_high": None, "calibration_error": None}
    return {
        "encoder": ARCHITECTURE.encoder,
        "decoder_channels": ARCHITECTURE.decoder_channels,
        "size_px": 32,
        "structures": [{**structure, "id": "head"}, {**structure, "id": "falx"}],
        "settings": {},
        "trained_on": {},
        "patients": [],
        "pseudonyms_id": "id",
        "versions": {},
        **changes,
    }


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    save_segmenter(path, build_network(ARCHITECTURE, 2, seed=4), described())
    return path


def test_what_is_loaded_answers_as_what_was_saved(model: Path) -> None:
    saved = build_network(ARCHITECTURE, 2, seed=4).eval()
    loaded = load_segmenter(model)
    images = np.random.default_rng(0).integers(0, 255, (2, 32, 32), np.uint8)
    assert np.array_equal(square_logits(saved, images), square_logits(loaded.network, images))
    assert [structure.id for structure in loaded.description.structures] == ["head", "falx"]
    assert (loaded.channel("falx"), loaded.channel("femur")) == (1, None)
    assert load_segmenter(model.parent).sha256 == loaded.sha256


class Executes:
    def __init__(self, witness: Path) -> None:
        self.witness = witness

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.witness,)


def test_code_in_a_pickle_does_not_run(tmp_path: Path) -> None:
    witness = tmp_path / "ran"
    for name, write in (("a.pt", torch.save), ("model.safetensors", None)):
        path = tmp_path / name
        if write is None:
            path.write_bytes(pickle.dumps(Executes(witness)))
        else:
            write(Executes(witness), path)
        with pytest.raises(UserError, match=r"not a safetensors file, or a damaged one; give the folder"):
            load_segmenter(path)
    assert not witness.exists()


@pytest.mark.parametrize("content", [b"", b"PNG", b"\xff" * 100, b"\x08" + b"\0" * 7 + b'{"a": 1}'])
def test_files_of_other_kinds_are_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "checkpoint"
    path.write_bytes(content)
    with pytest.raises(UserError, match="not a safetensors file") as caught:
        load_segmenter(path)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no fitted model here"):
        load_segmenter(tmp_path / "nothing")


def test_other_programs_weights_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_file({"weight": torch.zeros(2)}, path)
    with pytest.raises(UserError, match="another program's model"):
        load_segmenter(path)


def test_a_truncated_file_is_refused(model: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(model.read_bytes()[:-100])
    with pytest.raises(UserError, match="damaged"):
        load_segmenter(path)


def test_one_changed_weight_is_noticed(model: Path, tmp_path: Path) -> None:
    content = bytearray(model.read_bytes())
    content[-2] ^= 1
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(UserError, match="the weights are damaged"):
        load_segmenter(path)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"format": 2}, "format"),
        ({"structures": []}, "structures"),
        ({"encoder": "no_such_encoder"}, "the encoder 'no_such_encoder' cannot be made"),
        ({"size_px": 33}, "multiple of 32"),
        ({"encoder": "tu-regnetx_004"}, "not those of the network"),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_a_description_that_is_wrong_is_refused(
    model: Path, tmp_path: Path, changes: dict[str, Any], told: str
) -> None:
    path = tmp_path / "model.safetensors"
    length = int.from_bytes(model.read_bytes()[:8], "little")
    header = json.loads(model.read_bytes()[8 : 8 + length])["__metadata__"]["sono_segmenter"]
    save_file(load_file(model), path, {"sono_segmenter": json.dumps({**json.loads(header), **changes})})
    with pytest.raises(UserError, match=told):
        load_segmenter(path)

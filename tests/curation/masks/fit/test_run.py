"""A segmenter fitted to bright discs finds them in patients it has not seen, and says how sure it is."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sono.curation.commands.segmenter import _print_fit
from sono.curation.masks.backends.model import FittedModel
from sono.curation.masks.backends.protocol import Prompts
from sono.curation.masks.fit.data.patients import patient_digest
from sono.curation.masks.fit.model_file import load_segmenter
from sono.curation.masks.fit.run import FitReport, Watch, fit_segmenter
from sono.curation.masks.fit.settings import Architecture, FitSettings
from sono.curation.masks.fit.trainer import Epoch
from sono.manifests.errors import UserError
from sono.manifests.schemas import FRAMES
from sono.manifests.workspace import Workspace, open_workspace

from .conftest import TINY, disc, frame

pytestmark = pytest.mark.slow

SHORT = replace(TINY, epochs=3)


def test_discs_of_new_patients_are_found(fitted: Path) -> None:
    figures = json.loads((fitted / "report.json").read_text())
    (head,) = figures["structures"]
    assert head["dice"] > 0.85
    assert head["dice_low"] is None or head["dice_low"] <= head["dice"] <= head["dice_high"]
    assert figures["left_out"] == {"other_structure": 3}
    assert (figures["frames"]["training"], figures["frames"]["validation"]) == (15, 3)


def test_proposals_are_the_discs_with_a_confidence(fitted: Path) -> None:
    model = FittedModel.load(fitted)
    assert (model.name, model.structures) == ("model", ("head",))
    dice = []
    for seed in range(1000, 1008):
        embedding = model.embed(frame(seed))
        (candidate,) = model.propose(embedding, Prompts("head"))
        truth = disc(seed) > 0
        assert candidate.mask.shape == truth.shape
        assert candidate.mask.dtype == np.bool_
        assert 0.5 <= candidate.score <= 1
        assert candidate.scores["confidence"] == candidate.score
        dice.append(2 * np.count_nonzero(candidate.mask & truth) / (candidate.mask.sum() + truth.sum()))
    assert np.mean(dice) > 0.85
    assert model.model_sha256 == load_segmenter(fitted).sha256


def test_where_there_is_nothing_nothing_is_proposed(fitted: Path) -> None:
    model = FittedModel.load(fitted)
    assert list(model.propose(model.embed(np.zeros((90, 130, 3), np.uint8)), Prompts("head"))) == []
    assert list(model.propose(model.embed(frame(1)), Prompts("femur"))) == []  # it was fitted on heads alone


def test_the_folder_holds_the_model_and_the_page_alone(fitted: Path) -> None:
    assert {path.name for path in fitted.iterdir()} == {".lock", "model.safetensors", "report.html", "report.json"}
    page = (fitted / "report.html").read_text()
    assert page.count("data:image/png") == 3
    assert "nan" not in re.sub(r"base64,[^\"]*", "", page).lower()


def test_the_model_names_no_patient(fitted: Path, discs: Path) -> None:
    content = (fitted / "model.safetensors").read_bytes()
    keys = set(open_workspace(discs / "workspace").store.read_all(FRAMES, ["patient_key"])["patient_key"].to_pylist())
    assert not any(key.encode() in content for key in keys)
    assert set(load_segmenter(fitted).description.patients) == {patient_digest(key) for key in keys}


def test_the_command_names_the_figures_and_the_next_step(fitted: Path, capsys: pytest.CaptureFixture[str]) -> None:
    figures = json.loads((fitted / "report.json").read_text())
    report = FitReport(str(fitted / "model.safetensors"), "", str(fitted / "report.html"), figures, up_to_date=False)
    _print_fit(report, Path("archive"))
    told = capsys.readouterr().out
    assert f"head                       Dice {figures['mean_dice']:.3f} (one patient), 0 of 3 missed" in told
    assert "  left out 3: other_structure" in told
    assert told.endswith(f"masks propose archive --backend model --checkpoint {report.model}\n")


class Stopped(BaseException):
    pass


def test_an_interrupted_fit_gives_the_same_model(discs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace = open_workspace(discs / "workspace")
    whole = fit_segmenter(workspace, tmp_path / "whole", SHORT, structures=["head"])

    def stop(epoch: Epoch) -> None:
        raise Stopped

    with pytest.raises(Stopped):
        fit_segmenter(workspace, tmp_path / "out", SHORT, structures=["head"], watch=Watch(epoch=stop))
    with pytest.raises(UserError, match="an interrupted fit of other masks, or with other settings"):
        fit_segmenter(workspace, tmp_path / "out", TINY, structures=["head"])
    monkeypatch.chdir(discs)  # however the workspace is named, it is the same fit
    workspace = open_workspace(Path("workspace"))
    seen: list[int] = []
    watch = Watch(epoch=lambda epoch: seen.append(epoch.number))
    resumed = fit_segmenter(workspace, tmp_path / "out", SHORT, structures=["head"], watch=watch)
    assert seen == [1, 2]
    one, two = (load_segmenter(Path(report.model)).description for report in (whole, resumed))
    assert one.weights_sha256 == two.weights_sha256
    assert one.structures == two.structures
    assert fit_segmenter(workspace, tmp_path / "out", SHORT, structures=["head"]).up_to_date
    with pytest.raises(UserError, match="other masks, or one fitted with other settings"):
        fit_segmenter(workspace, tmp_path / "out", TINY, structures=["head"])
    figures = tmp_path / "out" / "report.json"
    figures.write_text(figures.read_text().replace(resumed.model_sha256, "0" * 64))
    with pytest.raises(UserError, match=r"not the model that report\.json is about"):
        fit_segmenter(workspace, tmp_path / "out", SHORT, structures=["head"])


def test_an_encoder_that_drops_paths_at_random_depends_on_the_seed_alone(discs: Path, tmp_path: Path) -> None:
    import torch

    settings = FitSettings(Architecture("efficientnet-b0", size_px=32), epochs=1, batch=8)
    digests = set()
    for name in ("one", "two"):
        torch.manual_seed(ord(name[0]))
        before = torch.random.get_rng_state()
        report = fit_segmenter(open_workspace(discs / "workspace"), tmp_path / name, settings, structures=["head"])
        assert torch.equal(before, torch.random.get_rng_state())
        digests.add(load_segmenter(Path(report.model)).description.weights_sha256)
    assert len(digests) == 1


def test_a_folder_with_other_files_is_refused(discs: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match=r"'notes.txt' does not belong to a fit"):
        fit_segmenter(open_workspace(discs / "workspace"), tmp_path, SHORT)


def test_an_unknown_structure_is_refused(with_masks: Workspace, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="unknown structure"):
        fit_segmenter(with_masks, tmp_path / "out", SHORT, structures=["haed"])
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "wrong",
    [{"epochs": 0}, {"minutes": 0.0}, {"minutes": float("nan")}, {"validation": 1.0}, {"validation": float("nan")}],
)
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(UserError):
        FitSettings(**wrong)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="multiple of 32"):
        Architecture(size_px=100)

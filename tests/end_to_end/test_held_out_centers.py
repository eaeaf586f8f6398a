"""A dataset rebuilt with another held-out center: its results stand beside the first ones, and no patient is both
trained on and scored without a word."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest

from sono.captioning.captions.run import caption_workspace
from sono.curation.dataset.run import build
from sono.curation.ingest.run import ingest
from sono.curation.masks.run import import_masks
from sono.curation.qc.run import qc
from sono.manifests.errors import UserError
from sono.manifests.splits import SplitPlan
from sono.manifests.stages import in_process
from sono.manifests.workspace import Workspace
from sono.training import recipes
from sono.training.data.dataset import read_description
from sono.training.evaluation.retrieval import retrieve
from sono.training.evaluation.scoring import Scoring
from sono.training.evaluation.zero_shot.run import evaluate
from sono.training.export.export import export
from sono.training.pretraining.checkpoints import load_model
from sono.training.pretraining.run import pretrain

CENTERS = {"north": 4, "south": 6}  # patients
PLANES = ("transthalamic", "abdominal_circumference")
SETTINGS = ("train.steps=2", "train.batch_size=4", "train.warmup_steps=1", "train.threads=1", "log.every=1")


@pytest.fixture
def captioned(workspace: Workspace, tmp_path: Path) -> Workspace:
    """Two frames of each patient of two centers, with masks and captions."""
    archive, drawn = tmp_path / "archive", tmp_path / "drawn"
    patients = [(f"P{number}", "north" if number < CENTERS["north"] else "south") for number in range(10)]
    metadata = ["file,patient_id,plane,center"]
    for number, (patient, center) in enumerate(patients):
        for scan, plane in enumerate(PLANES):
            file = f"{patient}/scan{scan}.png"
            for folder, pixels in ((archive, speckle(10 * number + scan)), (drawn, disk())):
                (folder / file).parent.mkdir(parents=True, exist_ok=True)
                assert cv2.imwrite(str(folder / file), pixels)
            metadata.append(f"{file},{patient},{plane},{center}")
    (tmp_path / "metadata.csv").write_text("\n".join(metadata) + "\n")
    records = ["patient_id,ga_days", *(f"{patient},147" for patient, _ in patients)]
    (tmp_path / "records.csv").write_text("\n".join(records) + "\n")
    ingest(workspace, [archive], engine=in_process, metadata=tmp_path / "metadata.csv", cropped=True)
    qc(workspace, engine=in_process)
    import_masks(workspace, drawn, structure="head", mask_format="png", engine=in_process)
    caption_workspace(workspace, [tmp_path / "records.csv"], templates="paper", engine=in_process)
    return workspace


def speckle(seed: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    y, x = np.mgrid[:200, :260]
    inside = np.hypot(y + 40, x - 130) < 220
    return np.asarray(np.random.default_rng(seed).rayleigh(60, (200, 260)).clip(0, 255) * inside, dtype=np.uint8)


def disk() -> np.ndarray[Any, np.dtype[np.uint8]]:
    canvas = np.zeros((200, 260), np.uint8)
    cv2.circle(canvas, (130, 110), 45, 255, -1)
    return canvas


def test_results_of_both_stand_side_by_side_and_patients_of_the_first_are_refused(
    captioned: Workspace, tmp_path: Path
) -> None:
    dataset, run = tmp_path / "fetal", tmp_path / "run"

    def hold_out(center: str) -> dict[str, str]:
        plan = SplitPlan(validation=0, test=0, holdout_center=center)
        build(captioned, dataset, plan=plan, allow_unchecked_text=True, engine=in_process)
        return read_description(str(dataset)).identity

    def scoring(**options: Any) -> Scoring:
        return Scoring(run, str(dataset), resamples=20, notice=lambda _: None, **options)

    south = hold_out("south")
    pretrain([str(dataset)], run, recipes.override(recipes.tiny(), SETTINGS), notice=lambda _: None)
    first = evaluate(scoring())
    assert (first["dataset"], first["trained_on"]) == (south, {"patients": 0, "of": 6, "not_known": []})

    north = hold_out("north")  # those that the run trained on
    assert (north["name"], north["fingerprint"] == south["fingerprint"]) == ("fetal", False)
    for measure in (evaluate, retrieve):
        with pytest.raises(UserError, match=r"trained on 4 of the 4 patients of the test split;.*--allow-trained"):
            measure(scoring())
    second = evaluate(scoring(allow_trained=True))
    assert (second["dataset"], second["trained_on"]) == (north, {"patients": 4, "of": 4, "not_known": []})
    assert evaluate(scoring(split="train"))["trained_on"] == {"patients": 0, "of": 6, "not_known": []}

    files = sorted((run / "evaluation").glob("*/test-none.json"))
    stored = [json.loads(file.read_bytes()) for file in files]
    assert {found["dataset"]["fingerprint"] for found in stored} == {south["fingerprint"], north["fingerprint"]}
    assert first in stored
    assert second in stored
    export(run, tmp_path / "exported", "open_clip")
    card = (tmp_path / "exported" / "README.md").read_text()
    for identity, patients, trained in ((south, 6, 0), (north, 4, 4)):
        start = rf"\| fetal `{identity['fingerprint'][:12]}` \| test \| step-00000002 `\w{{12}}` \| test-none \|"
        numbers = rf"{2 * patients} \| {patients} \| {trained} \|"
        assert re.search(rf"{start} masks\.none\.top1 \| 0\.\d+ \| 0\.\d+ \| \d\.\d+ \| {numbers}", card), card


def test_who_starts_from_an_export_knows_its_patients(captioned: Workspace, tmp_path: Path) -> None:
    dataset, weights = tmp_path / "fetal", tmp_path / "first-exported" / "open_clip_model.safetensors"

    def train(name: str, center: str, *settings: str) -> Path:
        plan = SplitPlan(validation=0, test=0, holdout_center=center)
        build(captioned, dataset, plan=plan, allow_unchecked_text=True, engine=in_process)
        recipe = recipes.override(recipes.tiny(), [*SETTINGS, *settings])
        pretrain([str(dataset)], tmp_path / name, recipe, notice=lambda _: None)
        export(tmp_path / name, tmp_path / f"{name}-exported", "open_clip")
        return tmp_path / name

    train("first", "south")
    run = train("second", "north", f"model.weights={weights}", "model.from_scratch=false")
    trained = load_model(run, pytest.fail)[2]["trained_patients"]
    assert [len(one["digests"]) for one in trained["sets"]] == [4, 6]
    assert trained["not_known"] == []
    with pytest.raises(UserError, match="trained on 4 of the 4 patients of the test split"):
        evaluate(Scoring(run, str(dataset), notice=lambda _: None))
    texts = [path.read_text() for path in (tmp_path / "second-exported").iterdir() if path.suffix in (".json", ".md")]
    (shard,) = (dataset / "data").glob("train-*.parquet")
    for key in pq.read_table(shard, columns=["patient_key"])["patient_key"].to_pylist():
        assert not any(key in text for text in texts)

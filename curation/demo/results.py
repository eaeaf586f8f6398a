"""What each training run learned: its loss by step, and its scores, as ``sono-train`` wrote them.

The only file of the demo that knows the names in training's files: curation imports nothing from training.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sono.manifests.filenames import MARKER, RUN_LOG, dataset_name, evaluation_file

MASKS: Mapping[str, str] = {
    "none": "the whole image",
    "region": "the image with each structure's true mask",
    "shuffled": "the image with another patient's masks",
    "blank": "the true masks, and a black image",
}
"""What the model sees under each mask."""

LEAK = "leak"
SCORED: Mapping[str, str] = {**MASKS, LEAK: "no image and no model: the true masks alone, without names"}
"""What is scored, in the order of the table: the masks, and how far they get by themselves."""

_EVALUATION = "test-all"  # the split, and what `evaluate --mask` was given


@dataclass(frozen=True)
class Estimate:
    """A score with its 95 % interval; without one, both limits are None."""

    value: float
    low: float | None
    high: float | None

    @property
    def excludes_zero(self) -> bool:
        return self.low is not None and self.high is not None and not self.low <= 0 <= self.high


@dataclass(frozen=True)
class RunResult:
    """One training run.

    Attributes:
        losses: (step, loss) of every logged step.
        frames, patients: how many were scored.
        planes_present: planes among these frames; ``planes`` of them could be answered.
        top1, top5: by mask, and of the leak.
        leak_fitted_on: training frames and their patients that taught the leak's classifier.
        region_minus_none: paired difference in top-1.
        confusion: by mask, frames counted as [true plane][predicted plane].
    """

    losses: Sequence[tuple[int, float]]
    frames: int
    patients: int
    planes_present: int
    planes: Sequence[str]
    top1: Mapping[str, Estimate]
    top5: Mapping[str, Estimate]
    leak_fitted_on: tuple[int, int]
    region_minus_none: Estimate
    confusion: Mapping[str, Sequence[Sequence[int]]]


def read_run_result(run: Path, dataset: Path) -> RunResult:
    """What a run learned, and its scores on the test split of ``dataset``."""
    fingerprint = json.loads((dataset / MARKER).read_text())["fingerprint"]
    identity = {"name": dataset_name(str(dataset)), "fingerprint": fingerprint}
    result = json.loads(evaluation_file(run, identity, _EVALUATION).read_text())
    by_mask: Mapping[str, Any] = {mask: result["masks"][mask] for mask in MASKS}
    by_scored = {**by_mask, LEAK: result["leak"]}
    fitted_on = result["leak"]["fitted_on"]
    return RunResult(
        losses=_read_losses(run / RUN_LOG),
        frames=result["n_frames"],
        patients=result["n_patients"],
        planes_present=result["planes_present"],
        planes=by_mask["none"]["confusion"]["true_by_predicted"],
        top1={name: _estimate(scores["top1"]) for name, scores in by_scored.items()},
        top5={name: _estimate(scores["top5"]) for name, scores in by_scored.items()},
        leak_fitted_on=(fitted_on["n_frames"], fitted_on["n_patients"]),
        region_minus_none=_estimate(result["minus_none"]["region"]["top1"]),
        confusion={mask: scores["confusion"]["counts"] for mask, scores in by_mask.items()},
    )


def _read_losses(log: Path) -> list[tuple[int, float]]:
    with log.open(newline="") as file:
        return [(int(row["step"]), float(row["loss"])) for row in csv.DictReader(file)]


def _estimate(score: Mapping[str, Any]) -> Estimate:
    return Estimate(score["value"], score["low"], score["high"])

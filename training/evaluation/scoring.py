"""What all measurements share: their options, the open model and split, and how a result is described and written."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Any

from sono.manifests.errors import UserError
from sono.training.arrays import Integers
from sono.training.data.dataset import Frames, open_split, read_description
from sono.training.data.patients import Overlap
from sono.training.features.encoder import Encoder, Report
from sono.training.features.views import FrameViews, Views

from .bootstrap import METHOD, RESAMPLES, Bootstrap
from .notes import Notes
from .results import write_result


@dataclass(frozen=True)
class Scoring:
    """What is scored, and how.

    Args:
        run: folder of a training run; its newest checkpoint is scored.
        dataset: folder of a finished build, or a dataset on the Hub.
        split: of the dataset.
        name: of the files that are written, without their ending; if omitted, ``<split>-<measurement>``.
        allow_trained: score patients that the model was trained on, too; else they are an error.
        resamples: how many times patients are drawn for an interval.
        seed: of these draws, and of whatever else a measurement draws.
        notice: called with a line of text about damaged checkpoints and the like.
        progress: called after every batch; its parts are batches, its exclusions the frames left out.
    """

    run: Path
    dataset: str
    _: KW_ONLY
    split: str = "test"
    name: str | None = None
    allow_trained: bool = False
    resamples: int = RESAMPLES
    seed: int = 0
    notice: Callable[[str], None] = print
    progress: Report = lambda _: None

    def file_name(self, measurement: str) -> str:
        """The name of the files that hold the result of ``measurement``, without their ending."""
        return self.name or f"{self.split}-{measurement}"

    def open(self) -> Measurement:
        """Load the model and open the split.

        Raises:
            UserError: the run has no checkpoint, the dataset or its split cannot be read, or the model was trained on
                patients of the split and that is not allowed.
        """
        encoder = Encoder.load(self.run, self.notice)
        frames = open_split(read_description(self.dataset), self.split)
        overlap = encoder.trained.overlap(frames)
        if overlap.patients and not self.allow_trained:
            raise UserError(
                f"the model was trained on {overlap.patients} of the {overlap.of} patients of the {self.split} split",
                where=self.dataset,
                fix="score patients that it was not trained on, or add --allow-trained",
            )
        return Measurement(self, encoder, frames, overlap)


@dataclass(frozen=True)
class Measurement:
    """An open model, the open split that it is scored on, and how many of its patients the model was trained on."""

    scoring: Scoring
    encoder: Encoder
    frames: Frames
    overlap: Overlap

    def open_other_split(self, split: str) -> Frames:
        """Another split of the same dataset.

        Raises:
            UserError: the split cannot be read.
        """
        return open_split(self.frames.description, split)

    def batches(self, stage: str, views: FrameViews, left_out: int) -> Iterator[list[Views]]:
        """The views in batches, with their progress reported as ``stage``.

        Raises:
            UserError: a frame's image or mask is at fault; the text names the frame.
        """
        return self.encoder.batches(stage, views, left_out, self.scoring.progress)

    def bootstrap(self, patients_N: Integers) -> Bootstrap:
        """How intervals are made for frames of these patients."""
        return Bootstrap(patients_N, self.scoring.resamples, self.scoring.seed)

    def write(self, measurement: str, figures: Mapping[str, Any], notes: Notes | None = None) -> dict[str, Any]:
        """The complete result, also written into the run: what was scored, on what data, with which figures.

        ``notes`` are what a reader must know before the figures.
        """
        result = {
            "split": self.frames.split,
            "checkpoint": self.encoder.checkpoint,
            "dataset": self.frames.description.identity,
            "trained_on": self.overlap.to_json(),
            "training_datasets": list(self.encoder.datasets),
            "bootstrap": {
                "method": METHOD,
                "over": "patients",
                "resamples": self.scoring.resamples,
                "seed": self.scoring.seed,
            },
            "notes": notes or {},
            **figures,
        }
        write_result(self.scoring.run, self.scoring.file_name(measurement), result)
        return result


def refuse_fitted_split(scoring: Scoring, fitted: str) -> None:
    """Check that the scored split is not one that ``fitted`` (the probe, the decoder) is fitted or chosen on.

    Raises:
        UserError: it is.
    """
    if scoring.split in ("train", "validation"):
        raise UserError(
            f"the {scoring.split} split is used to train or select the {fitted}", fix="score the test split"
        )

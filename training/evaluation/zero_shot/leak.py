"""The leak: how often a frame's masks alone tell its plane, without any image and without the model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch.utils.data import Dataset

from sono.manifests.errors import UserError, import_extra
from sono.manifests.stages import Progress
from sono.training.arrays import Booleans, Floats, Integers
from sono.training.data.dataset import Frames, decode_image, decode_mask
from sono.training.data.visible_regions import count_regions
from sono.training.evaluation.answers import Answers
from sono.training.evaluation.probe import LinearProbe
from sono.training.evaluation.scoring import Measurement
from sono.training.evaluation.selection import Classes, Selection, number_classes
from sono.training.features.encoder import FRAMES_AT_ONCE
from sono.training.model.transforms import PadToSquare, Pixels

FIT_AT_MOST = 20_000
"""Training frames to fit on; of more, so many are drawn. Masks of millions of frames would take hours to read."""

STRENGTH = 1.0
"""``C`` of the logistic regression: scikit-learn's own. It is not tuned, so no split is needed to choose it."""

MOMENTS = ("area", "x", "y", "spread_x", "spread_y", "correlation")
STATISTICS = ("mean", "deviation", "least", "greatest")


@dataclass(frozen=True)
class Leak:
    """The answers that the masks alone give, None if nothing could be fitted; ``about`` says on what, or why not."""

    answers: Answers | None
    about: Mapping[str, Any]


def measure_leak(measurement: Measurement, selection: Selection, classes: Classes) -> Leak:
    """Tell the planes of the selected frames by their masks alone.

    Multinomial logistic regression on what ``describe_masks`` says about a frame's masks, fitted on the frames of the
    train split with a plane and regions, without those of a scored patient. It is given what the model's mask channel
    is: the masks of all of a frame's regions, at the size of the model's input, without the names of their structures.

    What this does not measure: everything that masks tell. A better classifier may find more, so it is a lower bound.

    Raises:
        UserError: the train split or one of its masks cannot be read, or scikit-learn is not installed.
    """
    import_extra("sklearn", "train")
    source = measurement.frames.description
    train = measurement.open_other_split("train") if source.rows("train") else None
    indices_F = np.zeros(0, dtype=np.int64) if train is None else _to_fit_on(train, measurement, selection, classes)
    if train is None or not len(indices_F):
        reason = "the train split has no frame with a plane and regions of a patient who is not scored"
        return Leak(None, {"not_measured": reason})
    truth_F = number_classes(train, classes)[indices_F]
    described_FD = _describe(measurement, "masks of train", train, indices_F)
    scored_ND = _describe(measurement, "masks alone", measurement.frames, selection.indices)
    scores_NC = np.full((len(scored_ND), len(classes)), -np.inf)
    fitted_K = np.unique(truth_F)
    if len(fitted_K) == 1:  # nothing to tell apart: always the only plane
        scores_NC[:, fitted_K] = 0.0
    else:
        linear, converged = LinearProbe.fit(described_FD, truth_F, STRENGTH)
        scores_NC[:, linear.classes_K] = linear.scores(scored_ND)
        if not converged:
            measurement.scoring.notice("the fit of the planes by masks alone did not converge; the leak may be larger")
    about = {
        "classifier": f"multinomial logistic regression, C={STRENGTH:g}",
        "sees": {"of_each_mask": list(MOMENTS), "over_the_masks_of_a_frame": list(STATISTICS)},
        "fitted_on": {
            "split": train.split,
            "n_frames": len(indices_F),
            "n_patients": len(pc.unique(train.column("patient_key").take(pa.array(indices_F)))),
        },
        "planes_not_fitted": [name for number, name in enumerate(classes) if number not in fitted_K],
    }
    return Leak(_answers(scores_NC, selection.truth), about)


def describe_masks(masks_VSS: Pixels) -> Floats:
    """What a frame's masks look like, whatever their number and order: ``STATISTICS`` of their ``MOMENTS``, flat.

    Args:
        masks_VSS: covered area from 0 to 255, as the model's input holds it.
    """
    moments_V6 = mask_moments(masks_VSS)
    return np.concatenate([statistic(moments_V6, axis=0) for statistic in (np.mean, np.std, np.min, np.max)])


def mask_moments(masks_VSS: Pixels) -> Floats:
    """Area, place and second moments of every mask, [masks, 6].

    The logarithm of the share of the square; the centroid and the standard deviation across and down, in sides of the
    square; and the correlation of across and down. A mask of which nothing is left has its centroid in the middle.
    """
    side = masks_VSS.shape[-1]
    place_S = (np.arange(side) + 0.5) / side
    covered_VSS = masks_VSS.astype(np.float64) / 255
    area_V = covered_VSS.sum(axis=(1, 2))
    share_VSS = covered_VSS / np.maximum(area_V, 1.0 / 255)[:, None, None]
    is_there = area_V > 0
    x_V = np.where(is_there, share_VSS.sum(axis=1) @ place_S, 0.5)
    y_V = np.where(is_there, share_VSS.sum(axis=2) @ place_S, 0.5)
    off_x_VS, off_y_VS = place_S - x_V[:, None], place_S - y_V[:, None]
    xx_V = np.einsum("vij,vj,vj->v", share_VSS, off_x_VS, off_x_VS)
    yy_V = np.einsum("vij,vi,vi->v", share_VSS, off_y_VS, off_y_VS)
    xy_V = np.einsum("vij,vi,vj->v", share_VSS, off_y_VS, off_x_VS)
    both_V = np.sqrt(xx_V * yy_V)
    correlation_V = np.divide(xy_V, both_V, out=np.zeros_like(both_V), where=both_V > 1e-12)
    least = 1.0 / 255 / side**2  # of what 8 bits can hold
    area_share_V = np.maximum(area_V / side**2, least)
    return np.stack([np.log(area_share_V), x_V, y_V, np.sqrt(xx_V), np.sqrt(yy_V), correlation_V], axis=1)


def _to_fit_on(train: Frames, measurement: Measurement, selection: Selection, classes: Classes) -> Integers:
    """The rows of the train split with a plane and regions, of patients who are not scored."""
    scored = measurement.frames.column("patient_key").take(pa.array(selection.indices))
    patients = train.column("patient_key")
    is_other: Booleans = pc.and_(
        pc.is_valid(patients), pc.invert(pc.is_in(patients, value_set=pc.unique(scored)))
    ).to_numpy()
    has_regions_F = count_regions(train, measurement.encoder.transform)[0] > 0
    indices_F = np.flatnonzero((number_classes(train, classes) >= 0) & has_regions_F & is_other)
    if len(indices_F) <= FIT_AT_MOST:
        return indices_F
    random = np.random.default_rng(selection.seed)
    return np.sort(random.choice(indices_F, FIT_AT_MOST, replace=False))


class _MaskDescriptions(Dataset[Floats | UserError]):
    """What the masks of each frame look like. An error in the data is returned, not raised."""

    def __init__(self, frames: Frames, indices: Integers, transform: PadToSquare) -> None:
        self.frames, self.indices, self.transform = frames, indices, transform

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, position: int) -> Floats | UserError:
        row = self.frames.row(int(self.indices[position]))
        try:
            image = decode_image(row)  # only to check that it has its masks' size
            masks = [self.transform.mask(decode_mask(row, region, image)) for region in row["regions"]]
        except UserError as error:
            return error
        visible = [mask for mask in masks if mask.any()]  # what scaling has wiped out tells nothing
        return describe_masks(np.stack(visible or masks))


def _describe(measurement: Measurement, stage: str, frames: Frames, indices_N: Integers) -> Floats:
    """The descriptions of these frames' masks, [frames, 24]."""
    encoder, described = measurement.encoder, []
    items = _MaskDescriptions(frames, indices_N, encoder.transform)
    total = -(-len(items) // FRAMES_AT_ONCE)
    for number, batch in enumerate(encoder.load_items(items, FRAMES_AT_ONCE), start=1):
        described += batch
        measurement.scoring.progress(Progress(stage, total, number, len(described), 0))
    return np.stack(described)


def _answers(scores_NC: Floats, truth_N: Integers) -> Answers:
    """As of a model, but a plane that was not fitted is never among the answers."""
    answers = Answers.of(torch.from_numpy(scores_NC), truth_N, temperature=1.0)
    is_answer = np.isfinite(np.take_along_axis(scores_NC, answers.best, axis=1))
    top5 = None if answers.top5 is None else ((answers.best == truth_N[:, None]) & is_answer).any(axis=1)
    return Answers(answers.best, answers.probability, answers.temperature, answers.top1, top5)

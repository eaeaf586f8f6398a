"""A linear probe: multinomial logistic regression on frozen features, one layer and nothing else."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from sono.manifests.errors import UserError, import_extra
from sono.training.arrays import Integers
from sono.training.data.dataset import Frames
from sono.training.features.views import FrameViews

from . import metrics
from .bootstrap import Bootstrap
from .notes import about_classes
from .scoring import Measurement, Scoring, refuse_fitted_split
from .selection import Classes, Selection, each_plane, select_frames

STRENGTHS = tuple(10.0**power for power in range(-5, 3))
"""``C`` of scikit-learn, the inverse of the L2 penalty's strength: the smallest regularises most."""

MASKS = ("none", "region")

_ITERATIONS = 2000

Features = npt.NDArray[np.float64]


def probe(scoring: Scoring, *, mask: str = "none", classes: Classes | None = None) -> dict[str, Any]:
    """Classify planes by logistic regression on the frozen features of the newest checkpoint.

    Fitted on the train split. The strength of its L2 penalty is the one with the best mean per-class accuracy on the
    validation split, the strongest among equals. The scored split is looked at only after that, and decides nothing.

    Features are standardised by the train split's mean and deviation, which leaves the probe linear.

    Args:
        scoring: the run, the dataset, and how to score; the splits ``train`` and ``validation`` are refused.
        mask: ``none`` or ``region``: what frames are seen through, in all three splits alike.
        classes: planes that count as one class; if omitted, each plane is its own.

    Returns:
        Mean per-class accuracy, plain accuracy and macro F1 with 95 % intervals over patients, ``chosen`` with what the
        validation split decided, and the confusion counts. Also written to
        ``RUN/evaluation/<dataset>/<split>-probe-<mask>.json``.

    Raises:
        UserError: the run has no checkpoint; a split is empty, has no frame of a class, or is of one patient; the train
            split has only one class.
    """
    import_extra("sklearn", "train")
    assert mask in MASKS
    refuse_fitted_split(scoring, "probe")
    measurement = scoring.open()
    frames = {split: measurement.open_other_split(split) for split in ("train", "validation")}
    classes = classes or each_plane(frames["train"])
    train, validation = (_embed(measurement, each, mask, classes) for each in frames.values())
    linear, trials = choose_probe(train, validation, scoring.notice)
    test = _embed(measurement, measurement.frames, mask, classes)
    predicted = linear.answer(test.features_ND)
    figures = {
        "mask": mask,
        "chosen": {"C": linear.strength, "on": "validation", "tried": trials},
        "fitted_on": train.selection.counts(),
        "chosen_on": validation.selection.counts(),
        "classes_not_fitted": [name for number, name in enumerate(classes) if number not in train.selection.truth],
        **test.selection.counts(),
        **_figures(test.selection, predicted, measurement.bootstrap(test.selection.patients)),
    }
    notes = about_classes(test.selection.truth, test.selection.names, top5=False)
    return measurement.write(f"probe-{mask}", figures, notes)


@dataclass(frozen=True)
class Embedded:
    """The selected frames of a split with their features, [frames, dim]."""

    features_ND: Features
    selection: Selection


@dataclass(frozen=True)
class LinearProbe:
    """``answer = argmax(weight (x - mean) / deviation + bias)``: one matrix and one vector.

    ``classes_K`` are the numbers of the classes that the rows of ``weight_KD`` stand for.
    """

    strength: float
    mean_D: Features
    deviation_D: Features
    weight_KD: Features
    bias_K: Features
    classes_K: Integers

    @classmethod
    def fit(cls, features_ND: Features, truth_N: Integers, strength: float) -> tuple[LinearProbe, bool]:
        """The probe, and whether the solver converged."""
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.linear_model import LogisticRegression

        deviation_D = features_ND.std(axis=0)
        mean_D, deviation_D = features_ND.mean(axis=0), np.where(deviation_D > 0, deviation_D, 1.0)
        regression = LogisticRegression(C=strength, max_iter=_ITERATIONS)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", ConvergenceWarning)
            regression.fit((features_ND - mean_D) / deviation_D, truth_N)
        weight_KD, bias_K = regression.coef_, regression.intercept_
        if len(weight_KD) == 1:  # for two classes scikit-learn keeps only the difference
            weight_KD, bias_K = np.concatenate([-weight_KD, weight_KD]) / 2, np.concatenate([-bias_K, bias_K]) / 2
        fitted = cls(strength, mean_D, deviation_D, weight_KD, bias_K, regression.classes_)
        return fitted, not any(issubclass(warning.category, ConvergenceWarning) for warning in caught)

    def answer(self, features_ND: Features) -> Integers:
        """For every frame the number of the class that fits best."""
        numbers: Integers = self.classes_K[self.scores(features_ND).argmax(axis=1)]
        return numbers

    def scores(self, features_ND: Features) -> Features:
        """For every frame the logits of ``classes_K``."""
        scores_NK: Features = (features_ND - self.mean_D) / self.deviation_D @ self.weight_KD.T + self.bias_K
        return scores_NK


def choose_probe(
    train: Embedded, validation: Embedded, notice: Callable[[str], None], strengths: Sequence[float] = STRENGTHS
) -> tuple[LinearProbe, list[dict[str, float]]]:
    """The probe that is best on the validation split, and its accuracy there at every strength.

    Raises:
        UserError: the train split has frames of one class only.
    """
    if len(np.unique(train.selection.truth)) < 2:
        raise UserError("the train split has frames of only one class", fix="build the dataset from more planes")
    best, trials = None, []
    for strength in strengths:
        fitted, converged = LinearProbe.fit(train.features_ND, train.selection.truth, strength)
        if not converged:
            notice(f"the fit with C={strength:g} did not converge in {_ITERATIONS} iterations")
        accuracy = _per_class(validation.selection.truth, fitted.answer(validation.features_ND))
        trials.append({"C": strength, "accuracy": accuracy})
        if best is None or accuracy > best[0]:  # among equals the first, which regularises most
            best = accuracy, fitted
    assert best is not None
    return best[1], trials


def _per_class(truth_N: Integers, predicted_N: Integers) -> float:
    hits_N = truth_N == predicted_N
    return float(np.mean([hits_N[truth_N == number].mean() for number in np.unique(truth_N)]))


def _embed(measurement: Measurement, frames: Frames, mask: str, classes: Classes) -> Embedded:
    encoder = measurement.encoder
    selection = select_frames(frames, (mask,), classes, encoder.transform, predicted_dataset=None, seed=0)
    views = FrameViews(frames, selection.indices, (mask,), encoder.transform)
    batches = measurement.batches(frames.split, views, selection.left_out)
    features = torch.cat([encoder.frame_features(batch, mask) for batch in batches])
    return Embedded(features.double().numpy(), selection)


def _figures(selection: Selection, predicted_N: Integers, bootstrap: Bootstrap) -> Mapping[str, Any]:
    truth_N, names = selection.truth, selection.names
    hits_N, counts_CC = truth_N == predicted_N, metrics.confusion(truth_N, predicted_N, len(names))
    f1_C = metrics.f1_per_class(counts_CC)
    return {
        "mean_per_class": asdict(metrics.mean_per_class(hits_N, truth_N, bootstrap)),
        "accuracy": asdict(metrics.mean(hits_N, bootstrap)),
        "f1": asdict(metrics.macro_f1(truth_N, predicted_N, len(names), bootstrap)),
        "per_class": {
            names[number]: {
                "n_frames": int((truth_N == number).sum()),
                "n_patients": bootstrap.take(truth_N == number).patients,
                "accuracy": float(hits_N[truth_N == number].mean()),
                "f1": float(f1_C[number]),
            }
            for number in np.unique(truth_N)
        },
        "confusion": {"true_by_predicted": list(names), "counts": counts_CC.tolist()},
    }

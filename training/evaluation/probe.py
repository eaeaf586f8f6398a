"""A linear probe: multinomial logistic regression on frozen features, one layer and nothing else."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from sono.manifests.errors import UserError, import_extra
from sono.training.arrays import Integers
from sono.training.data.dataset import Frames, open_split, read_description
from sono.training.features.encoder import Encoder, Report
from sono.training.features.views import FrameViews

from . import metrics
from .metrics import RESAMPLES, Draws
from .results import describe, write_result
from .selection import Chosen, Classes, choose, each_plane

STRENGTHS = tuple(10.0**power for power in range(-5, 3))
"""``C`` of scikit-learn, the inverse of the L2 penalty's strength: the smallest is the most regularised."""

MASKS = ("none", "region")

_ITERATIONS = 2000

Features = npt.NDArray[np.float64]


def probe(
    run: Path,
    dataset: str,
    *,
    mask: str = "none",
    split: str = "test",
    classes: Classes | None = None,
    name: str | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
    notice: Callable[[str], None] = print,
    progress: Report = lambda _: None,
) -> dict[str, Any]:
    """Classify planes by logistic regression on the frozen features of the newest checkpoint.

    Fitted on the train split; the strength of its L2 penalty is the one with the best mean per-class accuracy on the
    validation split, the strongest of equals. ``split`` is looked at after that is settled and decides nothing.

    Features are standardised by the train split's mean and deviation, which leaves the probe linear.

    Args:
        mask: ``none`` or ``region``: what frames are seen through, in all three splits alike.
        split: what to score; ``train`` and ``validation`` are refused.
        classes: planes that count as one class; without it each plane is its own.
        name: of the file that is written; by default ``<split>-probe-<mask>``.

    Returns:
        Mean per-class accuracy, plain accuracy and macro F1 with 95 % intervals over patients, ``chosen`` with what the
        validation split decided, and the confusion counts. Also written to ``RUN/evaluation/<name>.json``.

    Raises:
        UserError: there is no checkpoint; a split is empty, has no frame of a class, or is of one patient; the train
            split has one class only.
    """
    import_extra("sklearn", "train")
    if split in ("train", "validation"):
        raise UserError(f"the probe is made with the {split} split", fix="score the test split")
    assert mask in MASKS
    encoder = Encoder.load(run, notice)
    description = read_description(dataset)
    parts = {part: open_split(description, part) for part in ("train", "validation", split)}
    classes = classes or each_plane(parts["train"])
    train, validation = (_embed(encoder, parts[part], mask, classes, progress) for part in ("train", "validation"))
    linear, trials = choose_probe(train, validation, notice)
    test = _embed(encoder, parts[split], mask, classes, progress)
    predicted = linear.answer(test.features_ND)
    result = {
        **describe(encoder, parts[split], resamples, seed),
        "mask": mask,
        "chosen": {"C": linear.strength, "on": "validation", "tried": trials},
        "fitted_on": train.chosen.counts(),
        "classes_not_fitted": [name for number, name in enumerate(classes) if number not in train.chosen.truth],
        **test.chosen.counts(),
        **_figures(test.chosen, predicted, Draws(test.chosen.patients, resamples, seed)),
    }
    write_result(run, name or f"{split}-probe-{mask}", result)
    return result


@dataclass(frozen=True)
class Embedded:
    """The features of the frames of a split that are scored, [frames, dim]."""

    features_ND: Features
    chosen: Chosen


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
        """The probe, and whether the solver came to its end."""
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.linear_model import LogisticRegression

        deviation_D = features_ND.std(axis=0)
        mean_D, deviation_D = features_ND.mean(axis=0), np.where(deviation_D > 0, deviation_D, 1.0)
        regression = LogisticRegression(C=strength, max_iter=_ITERATIONS)
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always", ConvergenceWarning)
            regression.fit((features_ND - mean_D) / deviation_D, truth_N)
        weight_KD, bias_K = regression.coef_, regression.intercept_
        if len(weight_KD) == 1:  # of two classes scikit-learn keeps the difference
            weight_KD, bias_K = np.concatenate([-weight_KD, weight_KD]) / 2, np.concatenate([-bias_K, bias_K]) / 2
        found = cls(strength, mean_D, deviation_D, weight_KD, bias_K, regression.classes_)
        return found, not any(issubclass(one.category, ConvergenceWarning) for one in told)

    def answer(self, features_ND: Features) -> Integers:
        """For every frame the number of its class."""
        scores_NK = (features_ND - self.mean_D) / self.deviation_D @ self.weight_KD.T + self.bias_K
        numbers: Integers = self.classes_K[scores_NK.argmax(axis=1)]
        return numbers


def choose_probe(
    train: Embedded, validation: Embedded, notice: Callable[[str], None], strengths: Sequence[float] = STRENGTHS
) -> tuple[LinearProbe, list[dict[str, float]]]:
    """The probe that is best on the validation split, and the accuracy there with every strength.

    Raises:
        UserError: the train split has frames of one class only.
    """
    if len(np.unique(train.chosen.truth)) < 2:
        raise UserError("the train split has frames of one class only", fix="build the dataset from more planes")
    best, trials = None, []
    for strength in strengths:
        fitted, converged = LinearProbe.fit(train.features_ND, train.chosen.truth, strength)
        if not converged:
            notice(f"the fit with C={strength:g} did not converge in {_ITERATIONS} iterations")
        accuracy = _per_class(validation.chosen.truth, fitted.answer(validation.features_ND))
        trials.append({"C": strength, "accuracy": accuracy})
        if best is None or accuracy > best[0]:  # of equals the first, which is the most regularised
            best = accuracy, fitted
    assert best is not None
    return best[1], trials


def _per_class(truth_N: Integers, predicted_N: Integers) -> float:
    hits_N = truth_N == predicted_N
    return float(np.mean([hits_N[truth_N == number].mean() for number in np.unique(truth_N)]))


def _embed(encoder: Encoder, frames: Frames, mask: str, classes: Classes, progress: Report) -> Embedded:
    chosen = choose(frames, (mask,), classes, predicted_dataset=None, seed=0)
    views = FrameViews(frames, chosen.indices, (mask,), encoder.transform)
    batches = encoder.batches(frames.split, views, chosen.left_out, progress)
    features = torch.cat([encoder.frame_features(batch, mask) for batch in batches])
    return Embedded(features.double().numpy(), chosen)


def _figures(chosen: Chosen, predicted: Integers, draws: Draws) -> Mapping[str, Any]:
    truth, names = chosen.truth, chosen.names
    hits, counts = truth == predicted, metrics.confusion(truth, predicted, len(names))
    f1 = metrics.f1_per_class(counts)
    return {
        "mean_per_class": asdict(metrics.mean_per_class(hits, truth, draws)),
        "accuracy": asdict(metrics.mean(hits, draws)),
        "f1": asdict(metrics.macro_f1(truth, predicted, len(names), draws)),
        "per_class": {
            names[number]: {
                "n_frames": int((truth == number).sum()),
                "accuracy": float(hits[truth == number].mean()),
                "f1": float(f1[number]),
            }
            for number in np.unique(truth)
        },
        "confusion": {"true_by_predicted": list(names), "counts": counts.tolist()},
    }

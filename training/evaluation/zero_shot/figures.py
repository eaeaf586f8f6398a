"""The figures of zero-shot recognition: of the answers through one mask, and of differences between masks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from sono.training.arrays import Integers
from sono.training.evaluation import metrics
from sono.training.evaluation.answers import Answers
from sono.training.evaluation.bootstrap import Bootstrap
from sono.training.evaluation.breakdown import Groups
from sono.training.evaluation.calibration import reliability

from .leak import Leak

REFERENCES = ("none", "region")
"""The masks that others are compared with."""


def recognition_figures(
    answers: Answers, truth_N: Integers, classes: Sequence[str], bootstrap: Bootstrap, groups: Groups
) -> dict[str, Any]:
    """Accuracy, F1 and calibration of the answers through one mask, overall, by group and by plane.

    ``top5`` is None with five classes or fewer.
    """
    predicted_N = answers.best[:, 0]
    counts_CC = metrics.confusion(truth_N, predicted_N, len(classes))
    error, bins = reliability(answers.probability, answers.top1)
    return {
        "top1": asdict(metrics.mean_per_class(answers.top1, truth_N, bootstrap)),
        "top5": None if answers.top5 is None else asdict(metrics.mean_per_class(answers.top5, truth_N, bootstrap)),
        "f1": asdict(metrics.macro_f1(truth_N, predicted_N, len(classes), bootstrap)),
        "calibration": {
            "temperature": answers.temperature,
            "expected_error": error,
            "bins": [asdict(each) for each in bins],
        },
        "by": groups.figures(answers.top1, answers.top5, truth_N, bootstrap),
        "per_plane": _per_plane(answers, truth_N, counts_CC, classes, bootstrap),
        "confusion": {"true_by_predicted": list(classes), "counts": counts_CC.tolist()},
    }


def leak_figures(
    leak: Leak, truth_N: Integers, classes: Sequence[str], bootstrap: Bootstrap, groups: Groups
) -> dict[str, Any]:
    """The same figures of what the masks alone answer, after what they come from; or only why they are missing."""
    if leak.answers is None:
        return dict(leak.about)
    return {**leak.about, **recognition_figures(leak.answers, truth_N, classes, bootstrap, groups)}


def differences(
    answers: Mapping[str, Answers], leak: Answers | None, truth_N: Integers, bootstrap: Bootstrap
) -> dict[str, Any]:
    """By what is subtracted (``minus_none``, ``minus_region``, ``minus_leak``) and by mask: top-1 and top-5, paired.

    Only ``predicted`` is compared with ``region``: masks that a program made with the dataset's own. And only
    ``region`` with the leak: the same masks with an image and the model, and without either.
    """
    minus_leak = (
        {"region": _difference(answers["region"], leak, truth_N, bootstrap)} if leak and "region" in answers else {}
    )
    minus_masks = {
        f"minus_{reference}": {
            mask: _difference(answers[mask], answers[reference], truth_N, bootstrap)
            for mask in answers
            if reference in answers and mask != reference and (reference == "none" or mask == "predicted")
        }
        for reference in REFERENCES
    }
    return {**minus_masks, "minus_leak": minus_leak}


def _per_plane(
    answers: Answers, truth_N: Integers, counts_CC: Integers, classes: Sequence[str], bootstrap: Bootstrap
) -> dict[str, Any]:
    f1_C = metrics.f1_per_class(counts_CC)
    return {
        classes[plane]: {
            "n_frames": int((truth_N == plane).sum()),
            "n_patients": bootstrap.take(truth_N == plane).patients,
            "top1": float(answers.top1[truth_N == plane].mean()),
            "top5": None if answers.top5 is None else float(answers.top5[truth_N == plane].mean()),
            "f1": float(f1_C[plane]),
        }
        for plane in np.unique(truth_N)
    }


def _difference(answers: Answers, reference: Answers, truth_N: Integers, bootstrap: Bootstrap) -> dict[str, Any]:
    top5 = (
        asdict(metrics.paired_difference(answers.top5, reference.top5, truth_N, bootstrap))
        if answers.top5 is not None and reference.top5 is not None
        else None
    )
    return {
        "top1": asdict(metrics.paired_difference(answers.top1, reference.top1, truth_N, bootstrap)),
        "top5": top5,
    }

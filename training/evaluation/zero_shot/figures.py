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
        "per_plane": _per_plane(answers, truth_N, counts_CC, classes),
        "confusion": {"true_by_predicted": list(classes), "counts": counts_CC.tolist()},
    }


def differences(answers: Mapping[str, Answers], truth_N: Integers, bootstrap: Bootstrap) -> dict[str, Any]:
    """``minus_none`` and ``minus_region``: by mask, the paired differences of top-1 and top-5 to that reference.

    Only ``predicted`` is compared with ``region``: masks that a program made with the dataset's own.
    """
    return {
        f"minus_{reference}": {
            mask: _difference(answers[mask], answers[reference], truth_N, bootstrap)
            for mask in answers
            if reference in answers and mask != reference and (reference == "none" or mask == "predicted")
        }
        for reference in REFERENCES
    }


def _per_plane(answers: Answers, truth_N: Integers, counts_CC: Integers, classes: Sequence[str]) -> dict[str, Any]:
    f1_C = metrics.f1_per_class(counts_CC)
    return {
        classes[plane]: {
            "n_frames": int((truth_N == plane).sum()),
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

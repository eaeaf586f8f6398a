"""Zero-shot recognition of the plane: a frame's features against those of sentences that name the planes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sono.training.arrays import Integers
from sono.training.data.dataset import Frames, open_split, read_description
from sono.training.features.encoder import Encoder, Report
from sono.training.features.views import MODES, FrameViews, Kind

from . import metrics
from .answers import Answers
from .breakdown import Groups
from .metrics import RESAMPLES, Draws
from .prompts import plane_features, prompts, wordings_of
from .results import describe, write_result
from .selection import Chosen, Classes, captions_of, choose, count_sources, each_plane
from .zero_shot_page import write_report

MASK_SETS: Mapping[str, tuple[str, ...]] = {
    "both": ("none", "region"),
    "predicted": ("none", "region", "predicted"),
    "all": ("none", "region", "shuffled", "blank"),
}
"""Names for several masks together, in ``--mask`` and in the names of result files."""


_REFERENCES = {"minus_none": "none", "minus_region": "region"}


def evaluate(
    run: Path,
    dataset: str,
    *,
    masks: Sequence[str] = ("none",),
    split: str = "test",
    predicted: str | None = None,
    classes: Classes | None = None,
    name: str | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
    notice: Callable[[str], None] = print,
    progress: Report = lambda _: None,
) -> dict[str, Any]:
    """Score the newest checkpoint of ``run`` on a split of ``dataset``, seen through each of ``masks``.

    Mean per-class top-1 and top-5 accuracy and F1 over the planes present, with 95 % intervals over patients; the same
    by center, scanner and trimester; calibration. All masks are scored on the same frames, those that have what every
    one of the masks needs; the others are counted.

    What this does not measure: anything but which plane a frame shows. And ``region`` looks through true masks, which
    nobody has at a scanner; docs/evaluation.md says how far the controls ``shuffled`` and ``blank`` tell what they add.

    Args:
        run: folder of the training run.
        dataset: folder of a finished build, or a dataset on the Hub.
        masks: names out of ``MODES``, in any order.
        split: of the dataset.
        predicted: a dataset that holds predicted masks of the same frames; without it, ``dataset`` must.
        classes: planes that count as one class; without it each plane is its own.
        name: of the files that are written; by default ``<split>-<mask>``, of several masks the name of their set.
        resamples: how many times patients are drawn for an interval.
        seed: of these draws, and of the choice of other frames' masks.
        notice: told of damaged checkpoints.
        progress: told after every batch; its parts are batches, its exclusions the frames left out.

    Returns:
        What all masks have in common; under ``masks`` the figures of each; under ``minus_none``, where ``none`` is
        among them, the paired differences of the others. Also written to ``RUN/evaluation/<name>.json``, and a page
        for people beside it.

    Raises:
        UserError: there is no checkpoint, no such split, no frame to score, only one patient, or a mask does not fit
            its image.
    """
    assert masks
    assert set(masks) <= set(MODES), masks
    names = tuple(mode for mode in MODES if mode in masks)
    encoder = Encoder.load(run, notice)
    frames = open_split(read_description(dataset), split)
    classes = classes or each_plane(frames)
    chosen = choose(frames, names, classes, predicted_dataset=predicted, seed=seed)
    sentences = {
        kind: prompts(wordings_of(kind, captions_of(frames, kind))) for kind in {MODES[mode].kind for mode in names}
    }
    planes = {kind: plane_features(encoder, frames, classes, of_kind) for kind, of_kind in sentences.items()}
    views = FrameViews(
        frames, chosen.indices, names, encoder.transform, donors_N=chosen.donors, predicted=chosen.predicted
    )
    answers = _answer(encoder, views, planes, chosen, progress)
    draws = Draws(chosen.patients, resamples, seed)
    groups = Groups.find(frames, chosen.indices)
    figures = {mode: _figures(answers[mode], chosen, draws, groups, tuple(classes)) for mode in names}
    for mode in names:
        figures[mode] |= _provenance(mode, frames, chosen, sentences[MODES[mode].kind])
    result = {
        **describe(encoder, frames, resamples, seed),
        **chosen.counts(),
        "planes_present": len(np.unique(chosen.truth)),
        "planes": len(classes),
        "masks": figures,
        **_differences(answers, chosen, draws),
    }
    stem = name or default_name(split, names)
    write_result(run, stem, result)
    write_report(run, stem, result, frames, chosen, answers)
    return result


def default_name(split: str, masks: Sequence[str]) -> str:
    """Of the files for these masks, in the order of ``MODES``."""
    known = [name for name, together in MASK_SETS.items() if together == tuple(masks)]
    return f"{split}-{known[0] if known else '-'.join(masks)}"


def _answer(
    encoder: Encoder, views: FrameViews, planes: Mapping[Kind, torch.Tensor], chosen: Chosen, progress: Report
) -> dict[str, Answers]:
    """By mask the answers; an image is decoded once for all of them."""
    cosines: dict[str, list[torch.Tensor]] = {mode: [] for mode in views.modes}
    for batch in encoder.batches("evaluate", views, chosen.left_out, progress):
        for mode in views.modes:
            cosines[mode].append(encoder.frame_features(batch, mode) @ planes[MODES[mode].kind].T)
    return {mode: Answers.of(torch.cat(parts), chosen.truth, encoder.temperature) for mode, parts in cosines.items()}


def _figures(answers: Answers, chosen: Chosen, draws: Draws, groups: Groups, classes: Sequence[str]) -> dict[str, Any]:
    truth, predicted = chosen.truth, answers.best[:, 0]
    counts = metrics.confusion(truth, predicted, len(classes))
    error, bins = metrics.reliability(answers.probability, answers.top1)
    return {
        "top1": asdict(metrics.mean_per_class(answers.top1, truth, draws)),
        "top5": asdict(metrics.mean_per_class(answers.top5, truth, draws)),
        "f1": asdict(metrics.macro_f1(truth, predicted, len(classes), draws)),
        "calibration": {
            "temperature": answers.temperature,
            "expected_error": error,
            "bins": [asdict(one) for one in bins],
        },
        "by": groups.figures(answers.top1, answers.top5, truth, draws),
        "per_plane": _per_plane(answers, truth, counts, classes),
        "confusion": {"true_by_predicted": list(classes), "counts": counts.tolist()},
    }


def _per_plane(answers: Answers, truth: Integers, counts: Integers, classes: Sequence[str]) -> dict[str, Any]:
    f1 = metrics.f1_per_class(counts)
    return {
        classes[plane]: {
            "n_frames": int((truth == plane).sum()),
            "top1": float(answers.top1[truth == plane].mean()),
            "top5": float(answers.top5[truth == plane].mean()),
            "f1": float(f1[plane]),
        }
        for plane in np.unique(truth)
    }


def _provenance(mode: str, frames: Frames, chosen: Chosen, sentences: Sequence[str]) -> dict[str, Any]:
    """What sentences and masks a figure is of."""
    found: dict[str, Any] = {"prompts": list(sentences)}
    if sources := count_sources(frames, chosen, mode):
        found["sources"] = sources
    if MODES[mode].of_donor:
        assert chosen.donors is not None
        # A mask of a frame of the same plane is not wholly foreign: the share tells how often that happened.
        same = float((chosen.truth == chosen.truth[chosen.donors]).mean())
        found["donors"] = {"seed": chosen.seed, "same_plane": same}
    return found


def _differences(answers: Mapping[str, Answers], chosen: Chosen, draws: Draws) -> dict[str, Any]:
    """Paired differences to ``none``, and of predicted masks to the dataset's own."""
    found: dict[str, Any] = {}
    for name, reference in _REFERENCES.items():
        others = [mode for mode in answers if reference in answers and mode != reference]
        if reference == "region":
            others = [mode for mode in others if mode == "predicted"]
        found[name] = {
            mode: {
                top: asdict(
                    metrics.paired_difference(
                        getattr(answers[mode], top), getattr(answers[reference], top), chosen.truth, draws
                    )
                )
                for top in ("top1", "top5")
            }
            for mode in others
        }
    return found

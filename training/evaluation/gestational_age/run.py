"""Gestational age by text: the age whose sentences fit the image best, as FetalCLIP estimates it.

Maani et al. 2025, "FetalCLIP: A Visual-Language Foundation Model for Fetal Ultrasound Image Analysis"
(arXiv 2502.14807) and the scripts published with it: a sentence for every day from 14+0 weeks on, in several wordings
whose similarities are averaged; the answer is the middle one of the 15 best days. No other smoothing is done.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, Literal

import numpy as np
import torch

from sono.training.arrays import Floats, Integers
from sono.training.data.dataset import Frames
from sono.training.data.wordings import DAY_WORDINGS
from sono.training.evaluation import metrics
from sono.training.evaluation.bootstrap import Bootstrap
from sono.training.evaluation.intervals import POSITIVE
from sono.training.evaluation.notes import UNREAD_DAYS, Notes
from sono.training.evaluation.prompts import SHORTER_PLANE, choose_wordings, plane_names
from sono.training.evaluation.scoring import Measurement, Scoring
from sono.training.evaluation.selection import Classes, each_plane
from sono.training.features.encoder import Encoder
from sono.training.features.views import FrameViews

from .head_circumference import fits_age
from .subjects import Subjects

Step = Literal["weeks", "days"]

BEST: Mapping[Step, int] = {"weeks": 3, "days": 15}
"""The answer is the middle one of so many best ages."""

HEAD_MM = (100.0, 342.0)
"""Head circumferences that are scored: the median from 14 to 40 weeks."""


def estimate_age(scoring: Scoring, *, step: Step = "weeks", planes: Classes | None = None) -> dict[str, Any]:
    """Estimate the gestational age of every frame from its image, seen as a whole, and compare.

    With ``ga_days``: the mean absolute error in days. With an outlined head and a pixel size: the share of frames whose
    head circumference lies within the 2.5th and 97.5th percentile of the estimated age, which is FetalCLIP's measure;
    it is lenient, because late in pregnancy the interval is weeks wide. Next to both is what answering the same age
    for every frame would give: the median of the split's own ages, or the middle of the range.

    Args:
        scoring: the run, the dataset, and how to score.
        step: ages in whole ``weeks``, or in ``days`` with the pixel spacing in the sentence.
        planes: which frames, and by which name their sentences call them; if omitted, every plane by its own name.

    Returns:
        ``mean_absolute_error_days`` and ``within_95``, each with a 95 % interval over patients, or None if no frame can
        be compared that way. Also written to ``RUN/evaluation/<dataset>/<split>-ga-<step>.json``.

    Raises:
        UserError: the run has no checkpoint, the split cannot be read, no frame has a plane and an age or an outlined
            head, or only one patient has; ``step`` is days and a frame has no pixel size.
    """
    measurement = scoring.open()
    encoder, frames = measurement.encoder, measurement.frames
    subjects = Subjects.find(frames, planes or each_plane(frames), plane_names(encoder, frames), encoder.transform.size)
    if step == "days":
        subjects.require_spacing(frames.description.source)
    wordings, source, notes = _wordings(encoder, frames, step)
    features_ND = _features(measurement, subjects)
    estimated_N = _estimate(encoder, features_ND, subjects, step, wordings)
    bootstrap = measurement.bootstrap(subjects.patients)
    figures = {
        "step": step,
        "ages": {"from_days": int(_ages(step)[0]), "to_days": int(_ages(step)[-1]), "best": BEST[step]},
        "wording": source,
        "prompts": list(wordings),
        "n_frames": len(subjects.indices),
        "n_patients": bootstrap.patients,
        "frames_left_out": len(frames) - len(subjects.indices),
        "mean_absolute_error_days": _errors(estimated_N, subjects, bootstrap),
        "within_95": _within(estimated_N, subjects, bootstrap),
    }
    return measurement.write(f"ga-{step}", figures, notes)


def middle_of_best(scores_NA: Floats, best: int) -> Integers:
    """For every row the middle one, by position, of its ``best`` highest scores."""
    positions_NB = np.sort(np.argsort(-scores_NA, axis=1, kind="stable")[:, :best], axis=1)
    middle_N: Integers = positions_NB[:, best // 2]
    return middle_N


def _wordings(encoder: Encoder, frames: Frames, step: Step) -> tuple[Sequence[str], str, Notes]:
    """The sentences with their gaps, where they come from, and what to know about them."""
    chosen = choose_wordings(encoder, frames, ("whole",))
    if step == "weeks":
        return chosen.of["whole"], chosen.source, chosen.notes
    sentences = tuple(wording.sentence for wording in DAY_WORDINGS)
    read = chosen.read.wordings["whole"] if chosen.read else {}
    seen = tuple(sentence for sentence in sentences if read.get(sentence))
    if seen:
        return seen, chosen.source, {}
    return sentences, "all wordings with days", {"wording_unread": UNREAD_DAYS}


def _features(measurement: Measurement, subjects: Subjects) -> torch.Tensor:
    encoder, frames = measurement.encoder, measurement.frames
    views = FrameViews(frames, subjects.indices, ("none",), encoder.transform)
    batches = measurement.batches("gestational age", views, len(frames) - len(subjects.indices))
    return torch.cat([encoder.frame_features(batch, "none") for batch in batches])


def _ages(step: Step) -> Integers:
    """In days, from 14+0 to 38+6 weeks."""
    return np.arange(14 * 7, 39 * 7, 7 if step == "weeks" else 1)


def _estimate(
    encoder: Encoder, features_ND: torch.Tensor, subjects: Subjects, step: Step, wordings: Sequence[str]
) -> Floats:
    """For every frame the estimated age in days; for a week, its middle."""
    ages = _ages(step)
    estimated_N = np.zeros(len(features_ND))
    spacings = np.round(subjects.spacing_N, 2) if step == "days" else np.zeros(len(features_ND))
    for name, spacing in sorted({*zip(subjects.name_N.tolist(), spacings.tolist(), strict=True)}):
        rows = np.flatnonzero((subjects.name_N == name) & (spacings == spacing))
        words = {"plane": subjects.names[name], "mm": f"{spacing:.2f}"}
        sentences = [
            wording.format(weeks=age // 7, days=age % 7, **words) for wording in wordings for age in ages.tolist()
        ]
        texts_WAD = encoder.sentences(sentences, SHORTER_PLANE).view(len(wordings), len(ages), -1)
        scores_NA = (features_ND[rows] @ texts_WAD.mean(dim=0).T).double().numpy()
        estimated_N[rows] = ages[middle_of_best(scores_NA, BEST[step])] + (3 if step == "weeks" else 0)
    return estimated_N


def _errors(estimated_N: Floats, subjects: Subjects, bootstrap: Bootstrap) -> dict[str, Any] | None:
    has_age = np.isfinite(subjects.days_N)
    if not has_age.any():
        return None
    true = subjects.days_N[has_age]
    return {
        **asdict(metrics.mean(np.abs(estimated_N[has_age] - true), bootstrap.take(has_age), POSITIVE)),
        "always_the_median": float(np.abs(true - np.median(true)).mean()),
    }


def _within(estimated_N: Floats, subjects: Subjects, bootstrap: Bootstrap) -> dict[str, Any] | None:
    scored = (subjects.head_mm_N >= HEAD_MM[0]) & (subjects.head_mm_N <= HEAD_MM[1])
    if not scored.any():
        return None
    heads = subjects.head_mm_N[scored]
    middle = np.full(len(heads), float(_ages("days").mean()))
    return {
        **asdict(metrics.mean(fits_age(heads, estimated_N[scored]), bootstrap.take(scored))),
        "always_the_middle": float(fits_age(heads, middle).mean()),
    }

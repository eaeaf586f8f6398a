"""Gestational age by text: the age whose sentences fit the image best, as FetalCLIP estimates it.

Maani et al. 2025, "FetalCLIP: A Visual-Language Foundation Model for Fetal Ultrasound Image Analysis"
(arXiv 2502.14807) and the scripts published with it: a sentence for every day from 14+0 weeks on, in several wordings
whose similarities are averaged; of the 15 best days the middle one is the answer. Nothing is smoothed beyond that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from sono.manifests.errors import UserError
from sono.manifests.masks import Mask
from sono.training.arrays import Booleans, Floats, Integers
from sono.training.data.dataset import Frames, decode_image, decode_mask, open_split, read_description
from sono.training.features.encoder import Encoder, Report
from sono.training.features.predicted_masks import drawn
from sono.training.features.views import FrameViews

from . import metrics
from .metrics import RESAMPLES, Draws
from .prompts import SHORTER_PLANE, wordings_of
from .results import describe, write_result
from .selection import Classes, captions_of, each_plane, number_classes, number_patients

Step = Literal["weeks", "days"]

DAY_WORDINGS = (
    "Fetal ultrasound image of the {plane} at {weeks} weeks and {days} days of gestation, {mm} mm/pixel.",
    "Ultrasound at {weeks} weeks and {days} days showing the fetal {plane}, pixel spacing of {mm} mm/pixel.",
    "At {weeks} weeks and {days} days, ultrasound of the fetal {plane} with a pixel spacing of {mm} mm/pixel.",
)
"""For models that were trained on captions with days and the pixel spacing after scaling, as FetalCLIP was. These are
not FetalCLIP's own sentences."""

BEST: Mapping[Step, int] = {"weeks": 3, "days": 15}
"""Of how many best ages the middle one is the answer."""

HEAD_MM = (100.0, 342.0)
"""Head circumferences that are scored: the median from 14 to 40 weeks."""

_PERCENTILES: Mapping[str, tuple[float, ...]] = {
    "low": (1.59317517131532, 2.9459800552433e-1, -7.3860372566707e-3, 6.56951770216148e-5),
    "median": (2.09924879247164, 2.53373656106037e-1, -6.05647816678282e-3, 5.14256072059917e-5),
    "high": (2.50074069629423, 2.20067854715719e-1, -4.93623111462443e-3, 3.89066000946519e-5),
}
"""ln(head circumference in mm) as a polynomial of the age in weeks, for the 2.5th, 50th and 97.5th percentile.

World Health Organization fetal growth charts (Kiserud et al. 2017, PLoS Med 14:e1002220), as its calculator has them
(srhr.org/fetalgrowthcalculator).
"""

_HEAD = "head"


def estimate_age(
    run: Path,
    dataset: str,
    *,
    step: Step = "weeks",
    split: str = "test",
    planes: Classes | None = None,
    name: str | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
    notice: Callable[[str], None] = print,
    progress: Report = lambda _: None,
) -> dict[str, Any]:
    """Estimate the gestational age of every frame from its image, seen whole, and compare.

    With ``ga_days``: the mean absolute error in days. With a head outlined and a pixel size: the share of frames whose
    head circumference lies within the 2.5th and 97.5th percentile of the estimated age, which is FetalCLIP's measure;
    it is lenient, because the interval is weeks wide late in pregnancy. Beside both stands what answering the same age
    for every frame would give, the median of the split's own ages or the middle of the range.

    Args:
        step: ages in whole ``weeks``, or in ``days`` with the pixel spacing in the sentence.
        planes: which frames, and by which name their sentences call them; without it every plane by its own name.
        name: of the file that is written; by default ``<split>-ga-<step>``.

    Returns:
        ``mean_absolute_error_days`` and ``within_95``, each with a 95 % interval over patients or None where no frame
        can be compared so. Also written to ``RUN/evaluation/<name>.json``.

    Raises:
        UserError: there is no checkpoint, no such split, no frame with a plane and an age or an outlined head, or only
            one patient; days are asked for and a frame has no pixel size.
    """
    encoder = Encoder.load(run, notice)
    frames = open_split(read_description(dataset), split)
    subjects = _Subjects.find(frames, planes or each_plane(frames), step, encoder.transform.size)
    views = FrameViews(frames, subjects.indices, ("none",), encoder.transform)
    parts = [
        encoder.frame_features(batch, "none")
        for batch in encoder.batches("ages", views, len(frames) - len(subjects.indices), progress)
    ]
    wordings = DAY_WORDINGS if step == "days" else wordings_of("whole", captions_of(frames, "whole"))
    estimated = _answer(encoder, torch.cat(parts), subjects, step, wordings)
    draws = Draws(subjects.patients, resamples, seed)
    result = {
        **describe(encoder, frames, resamples, seed),
        "step": step,
        "ages": {"from_days": int(_ages(step)[0]), "to_days": int(_ages(step)[-1]), "best": BEST[step]},
        "prompts": list(wordings),
        "n_frames": len(subjects.indices),
        "n_patients": int(subjects.patients.max()) + 1,
        "frames_left_out": len(frames) - len(subjects.indices),
        "mean_absolute_error_days": _errors(estimated, subjects, draws),
        "within_95": _within(estimated, subjects, draws),
    }
    write_result(run, name or f"{split}-ga-{step}", result)
    return result


def head_circumference(mask: Mask, pixel_mm: tuple[float, float]) -> float:
    """The perimeter in mm of the ellipse with the mask's second moments (Ramanujan's approximation of 1914).

    Args:
        mask: of the whole head, [height, width].
        pixel_mm: mm per px, across and down.
    """
    y, x = np.nonzero(mask)
    moments = np.cov(np.stack([x * pixel_mm[0], y * pixel_mm[1]]), bias=True)
    a, b = 2 * np.sqrt(np.linalg.eigvalsh(moments).clip(min=0))  # of a solid ellipse the variance is (semi-axis)² / 4
    return float(np.pi * (3 * (a + b) - np.sqrt((3 * a + b) * (a + 3 * b))))


def circumference_at(days: Floats, percentile: Literal["low", "median", "high"]) -> Floats:
    """The head circumference in mm at an age in days: the 2.5th, 50th or 97.5th percentile."""
    weeks = np.asarray(days, dtype=np.float64) / 7
    found: Floats = np.exp(sum(c * weeks**power for power, c in enumerate(_PERCENTILES[percentile])))
    return found


def middle_of_best(scores_NA: Floats, best: int) -> Integers:
    """For every row the middle one, by place, of its ``best`` highest scores."""
    places_NB = np.sort(np.argsort(-scores_NA, axis=1, kind="stable")[:, :best], axis=1)
    found: Integers = places_NB[:, best // 2]
    return found


@dataclass(frozen=True)
class _Subjects:
    """The frames whose age is estimated: what they show, at what pixel size, and what is known to compare with.

    Days and circumferences are NaN where unknown.
    """

    indices: Integers
    patients: Integers
    names: tuple[str, ...]
    name_N: Integers
    spacing_N: Floats  # mm per px of the model's input
    days_N: Floats
    head_mm_N: Floats

    @classmethod
    def find(cls, frames: Frames, planes: Classes, step: Step, size: int) -> _Subjects:
        number = number_classes(frames, planes)
        days = pc.fill_null(pc.cast(frames.column("ga_days"), pa.float64()), float("nan")).to_numpy()
        head_mm, spacing = _measure(frames, number >= 0, size)
        chosen = (number >= 0) & (np.isfinite(days) | np.isfinite(head_mm))
        patients = number_patients(frames, chosen, "has a plane, and an age or an outlined head with its pixel size")
        if step == "days" and np.isnan(spacing[chosen]).any():
            raise UserError(
                f"{int(np.isnan(spacing[chosen]).sum())} frames have no pixel size, and sentences with days name it",
                where=frames.description.source,
                fix="estimate with --step weeks, or give pixel sizes to sono-curate ingest --metadata",
            )
        shown = frames.description.planes
        names = tuple(shown[ids[0]] if len(ids) == 1 else name.replace("_", " ") for name, ids in planes.items())
        picked = (number[chosen], spacing[chosen], days[chosen], head_mm[chosen])
        return cls(np.flatnonzero(chosen), patients, names, *picked)


def _measure(frames: Frames, wanted: Booleans, size: int) -> tuple[Floats, Floats]:
    """For every frame its head's circumference in mm, and the pixel size of the model's input; NaN where unknown."""
    head_mm, spacing = np.full((2, len(frames)), np.nan)
    for place in np.flatnonzero(wanted).tolist():
        row = frames.row(place)
        if not row["pixel_mm"]:
            continue
        image = decode_image(row)
        x_mm, y_mm = row["pixel_mm"]
        spacing[place] = x_mm * max(image.size) / size
        for region in drawn(row["regions"]):
            if region["structure"] == _HEAD:
                mask = decode_mask(row, region, image)
                head_mm[place] = head_circumference(mask, (x_mm, y_mm)) if mask.any() else np.nan
    return head_mm, spacing


def _ages(step: Step) -> Integers:
    """In days, from 14+0 to 38+6 weeks."""
    return np.arange(14 * 7, 39 * 7, 7 if step == "weeks" else 1)


def _answer(
    encoder: Encoder, features_ND: torch.Tensor, subjects: _Subjects, step: Step, wordings: Sequence[str]
) -> Floats:
    """For every frame the estimated age in days; of a week its middle."""
    ages = _ages(step)
    estimated = np.zeros(len(features_ND))
    spacings = np.round(subjects.spacing_N, 2) if step == "days" else np.zeros(len(features_ND))
    for name, spacing in sorted({*zip(subjects.name_N.tolist(), spacings.tolist(), strict=True)}):
        rows = np.flatnonzero((subjects.name_N == name) & (spacings == spacing))
        words = {"plane": subjects.names[name], "mm": f"{spacing:.2f}"}
        sentences = [
            wording.format(weeks=age // 7, days=age % 7, **words) for wording in wordings for age in ages.tolist()
        ]
        texts_WAD = encoder.sentences(sentences, SHORTER_PLANE).view(len(wordings), len(ages), -1)
        scores_NA = (features_ND[rows] @ texts_WAD.mean(dim=0).T).double().numpy()
        estimated[rows] = ages[middle_of_best(scores_NA, BEST[step])] + (3 if step == "weeks" else 0)
    return estimated


def _errors(estimated: Floats, subjects: _Subjects, draws: Draws) -> dict[str, Any] | None:
    known = np.isfinite(subjects.days_N)
    if not known.any():
        return None
    true = subjects.days_N[known]
    return {
        "n_frames": int(known.sum()),
        **asdict(metrics.mean(np.abs(estimated[known] - true), draws.of(known))),
        "always_the_median": float(np.abs(true - np.median(true)).mean()),
    }


def _within(estimated: Floats, subjects: _Subjects, draws: Draws) -> dict[str, Any] | None:
    scored = (subjects.head_mm_N >= HEAD_MM[0]) & (subjects.head_mm_N <= HEAD_MM[1])
    if not scored.any():
        return None
    heads = subjects.head_mm_N[scored]
    middle = np.full(len(heads), float(_ages("days").mean()))
    return {
        "n_frames": int(scored.sum()),
        **asdict(metrics.mean(_holds(estimated[scored], heads), draws.of(scored))),
        "always_the_middle": float(_holds(middle, heads).mean()),
    }


def _holds(days: Floats, head_mm: Floats) -> Booleans:
    found: Booleans = (circumference_at(days, "low") <= head_mm) & (head_mm <= circumference_at(days, "high"))
    return found

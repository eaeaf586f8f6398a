"""How far features move with the mask: a model that looks past its masks cannot be guided by them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sono.training.arrays import Floats, Integers
from sono.training.data.dataset import open_split, read_description
from sono.training.features.encoder import Encoder, Report, average
from sono.training.features.views import FrameViews, choose_donors

from . import metrics
from .metrics import RESAMPLES, Draws
from .results import describe, write_result
from .selection import count_regions, number_patients

_MODES = ("none", "region", "shuffled")
_PAIRS = (("none", "region"), ("none", "shuffled"), ("region", "shuffled"))
_PERCENTILES = (5, 25, 50, 75, 95)


def sensitivity(
    run: Path,
    dataset: str,
    *,
    split: str = "test",
    resamples: int = RESAMPLES,
    seed: int = 0,
    notice: Callable[[str], None] = print,
    progress: Report = lambda _: None,
) -> dict[str, Any]:
    """Cosine distances (0 to 2) between the features of one image seen through different masks.

    Of every frame with regions: between no mask, its own masks (averaged over them), and another patient's; and
    between its own regions among each other, where it has two or more. The yardstick is the distance between two
    frames of different patients, both seen whole: a ratio of 0.1 says that a mask moves an image a tenth as far as
    another image is away.

    What this does not measure: whether the features move to the right place. ``evaluate --mask all`` does.

    Returns:
        Under ``distances`` mean with 95 % interval over patients and percentiles, and under ``ratio`` each mean over
        the yardstick's. Also written to ``RUN/evaluation/<split>-sensitivity.json``.

    Raises:
        UserError: there is no checkpoint, no such split, no frame with regions, or only one patient.
    """
    encoder = Encoder.load(run, notice)
    frames = open_split(read_description(dataset), split)
    chosen = count_regions(frames) > 0
    patients = number_patients(frames, chosen, "has regions")
    donors = choose_donors(patients, seed)
    views = FrameViews(frames, np.flatnonzero(chosen), _MODES, encoder.transform, donors_N=donors)
    distances = _distances(encoder, views, donors, int((~chosen).sum()), progress)
    draws = Draws(patients, resamples, seed)
    summaries = {name: _summary(values, draws) for name, values in distances.items()}
    yardstick = summaries["between_frames"]["mean"]["value"]
    result = {
        **describe(encoder, frames, resamples, seed),
        "n_frames": len(patients),
        "n_patients": int(patients.max()) + 1,
        "frames_without_regions": int((~chosen).sum()),
        "distances": summaries,
        "ratio": {
            name: summary["mean"]["value"] / yardstick if yardstick > 0 else None
            for name, summary in summaries.items()
            if name != "between_frames" and summary["n_frames"]
        },
    }
    write_result(run, f"{split}-sensitivity", result)
    return result


def _distances(
    encoder: Encoder, views: FrameViews, donors_N: Integers, left_out: int, progress: Report
) -> dict[str, Floats]:
    """By name for every frame; NaN where it has none."""
    features: dict[str, list[torch.Tensor]] = {mode: [] for mode in _MODES}
    among: list[float] = []
    for batch in encoder.batches("sensitivity", views, left_out, progress):
        for mode in _MODES:
            views_VD, owners_V = encoder.view_features(batch, mode)
            if mode == "region":
                among.extend(_spread(views_VD[owners_V == owner]) for owner in range(len(batch)))
            features[mode].append(average(views_VD, owners_V, len(batch)))
    whole = {mode: torch.cat(parts) for mode, parts in features.items()}
    return {
        **{f"{one}_{other}": _distance(whole[one], whole[other]) for one, other in _PAIRS},
        "among_regions": np.array(among),
        "between_frames": _distance(whole["none"], whole["none"][torch.from_numpy(donors_N)]),
    }


def _distance(one_ND: torch.Tensor, other_ND: torch.Tensor) -> Floats:
    cosines: Floats = (one_ND.double() * other_ND.double()).sum(dim=1).numpy()
    return np.clip(1 - cosines, 0, 2)


def _spread(features_VD: torch.Tensor) -> float:
    """The mean distance of two of one frame's regions; NaN where it has one."""
    count = len(features_VD)
    if count < 2:
        return float("nan")
    cosines_VV = features_VD.double() @ features_VD.double().T
    pairs = torch.triu_indices(count, count, offset=1)
    return float((1 - cosines_VV[pairs[0], pairs[1]]).clamp(min=0).mean())


def _summary(values_N: Floats, draws: Draws) -> dict[str, Any]:
    known = np.isfinite(values_N)
    if not known.any():
        return {"n_frames": 0}
    percentiles = np.percentile(values_N[known], _PERCENTILES)
    return {
        "n_frames": int(known.sum()),
        "mean": asdict(metrics.mean(values_N[known], draws.of(known))),
        "percentiles": {str(at): float(value) for at, value in zip(_PERCENTILES, percentiles, strict=True)},
    }

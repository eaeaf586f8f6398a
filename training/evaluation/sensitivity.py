"""How far features move with the mask: a model that ignores its masks cannot be guided by them."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
import torch

from sono.training.arrays import Floats, Integers
from sono.training.data.visible_regions import count_regions
from sono.training.features.encoder import average
from sono.training.features.views import FrameViews, choose_donors

from . import metrics
from .bootstrap import Bootstrap
from .intervals import POSITIVE
from .scoring import Measurement, Scoring
from .selection import number_patients

_MODES = ("none", "region", "shuffled")
_PAIRS = (("none", "region"), ("none", "shuffled"), ("region", "shuffled"))
_PERCENTILES = (5, 25, 50, 75, 95)
_YARDSTICK = "between_frames"


def sensitivity(scoring: Scoring) -> dict[str, Any]:
    """Cosine distances (0 to 2) between the features of one image seen through different masks.

    For every frame with regions: between no mask, its own masks (averaged over them), and another patient's; and among
    its own regions, if it has two or more. The yardstick is the distance between two frames of different patients, both
    seen as a whole: a ratio of 0.1 says that a mask moves an image a tenth as far as another image is away.

    What this does not measure: whether the features move to the right place. ``evaluate --mask all`` does.

    Returns:
        Under ``distances`` the mean with its 95 % interval over patients, and percentiles; under ``ratio`` each mean
        divided by the yardstick's. Also written to ``RUN/evaluation/<dataset>/<split>-sensitivity.json``.

    Raises:
        UserError: the run has no checkpoint, the split cannot be read, or it has no frame with regions or only one
            patient.
    """
    measurement = scoring.open()
    regions, vanished = count_regions(measurement.frames, measurement.encoder.transform)
    with_regions = regions > 0
    patients = number_patients(measurement.frames, with_regions, "has regions")
    donors = choose_donors(patients, scoring.seed)
    distances = _distances(measurement, np.flatnonzero(with_regions), donors)
    bootstrap = measurement.bootstrap(patients)
    summaries = {name: _summary(values, bootstrap) for name, values in distances.items()}
    figures = {
        "n_frames": len(patients),
        "n_patients": bootstrap.patients,
        "frames_without_regions": int((~with_regions).sum()),
        "regions_vanished": int(vanished.sum()),
        "distances": summaries,
        "ratio": _ratios(summaries),
    }
    return measurement.write("sensitivity", figures)


def _distances(measurement: Measurement, indices: Integers, donors_N: Integers) -> dict[str, Floats]:
    """By name the distance for every frame; NaN for a frame that has none."""
    encoder, frames = measurement.encoder, measurement.frames
    views = FrameViews(frames, indices, _MODES, encoder.transform, donors_N=donors_N)
    features: dict[str, list[torch.Tensor]] = {mode: [] for mode in _MODES}
    among_regions: list[float] = []
    for batch in measurement.batches("sensitivity", views, len(frames) - len(indices)):
        for mode in _MODES:
            views_VD, owners_V = encoder.view_features(batch, mode)
            if mode == "region":
                among_regions.extend(_mean_distance(views_VD[owners_V == owner]) for owner in range(len(batch)))
            features[mode].append(average(views_VD, owners_V, len(batch)))
    by_mode = {mode: torch.cat(parts) for mode, parts in features.items()}
    return {
        **{f"{first}_{second}": _distance(by_mode[first], by_mode[second]) for first, second in _PAIRS},
        "among_regions": np.array(among_regions),
        _YARDSTICK: _distance(by_mode["none"], by_mode["none"][torch.from_numpy(donors_N)]),
    }


def _distance(first_ND: torch.Tensor, second_ND: torch.Tensor) -> Floats:
    cosines_N: Floats = (first_ND.double() * second_ND.double()).sum(dim=1).numpy()
    return np.clip(1 - cosines_N, 0, 2)


def _mean_distance(features_VD: torch.Tensor) -> float:
    """The mean distance between two regions of one frame; NaN if it has only one."""
    count = len(features_VD)
    if count < 2:
        return float("nan")
    cosines_VV = features_VD.double() @ features_VD.double().T
    pairs = torch.triu_indices(count, count, offset=1)
    return float((1 - cosines_VV[pairs[0], pairs[1]]).clamp(min=0).mean())


def _summary(values_N: Floats, bootstrap: Bootstrap) -> dict[str, Any]:
    has_value = np.isfinite(values_N)
    if not has_value.any():
        return {"n_frames": 0}
    percentiles = np.percentile(values_N[has_value], _PERCENTILES)
    return {
        "n_frames": int(has_value.sum()),
        "mean": asdict(metrics.mean(values_N[has_value], bootstrap.take(has_value), POSITIVE)),
        "percentiles": {str(at): float(value) for at, value in zip(_PERCENTILES, percentiles, strict=True)},
    }


def _ratios(summaries: dict[str, dict[str, Any]]) -> dict[str, float | None]:
    """Every mean distance divided by that between frames."""
    yardstick = summaries[_YARDSTICK]["mean"]["value"]
    return {
        name: summary["mean"]["value"] / yardstick if yardstick > 0 else None
        for name, summary in summaries.items()
        if name != _YARDSTICK and summary["n_frames"]
    }

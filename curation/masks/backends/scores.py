"""How good a candidate looks without the answer: how stable it is, and how well it fits its prompts."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import numpy as np
import numpy.typing as npt

from sono.manifests import masks
from sono.manifests.masks import Mask

from .protocol import Box, Candidate, Prompts

STABILITY_OFFSET = 1.0
"""In logits, as in segment-anything's automatic mask generator."""

_DECIMALS = 4


def rank(found: Iterable[Candidate]) -> list[Candidate]:
    """The best first. What a model predicts about its own mask only decides between equals.

    On ultrasound, SAM's predicted IoU put bad masks before good ones; stability did well.
    """
    return sorted(found, key=lambda each: (-each.score, -each.scores.get("predicted_iou", 0.0)))


def from_logits(
    logits: npt.NDArray[np.float32], predicted_iou: float | None, prompts: Prompts, threshold: float = 0.0
) -> Candidate | None:
    """The mask where ``logits``, shape [height, width], exceed the threshold; None if they do so nowhere.

    Args:
        predicted_iou: as the model gives it; networks also say 1.03, or less than nothing. One that is not a number
            counts as none.
    """
    mask = logits > threshold
    if not mask.any():
        return None
    scores = {"stability": stability(logits, threshold), "fit": fit(mask, prompts)}
    if predicted_iou is not None and math.isfinite(predicted_iou):
        scores["predicted_iou"] = float(np.clip(predicted_iou, 0.0, 1.0))
    return Candidate(mask, combined(scores), scores)


def for_json(scores: Mapping[str, float]) -> dict[str, float]:
    """Scores as they are stored and sent: rounded, and only those that are numbers, for JSON has no others."""
    return {name: round(float(value), _DECIMALS) for name, value in scores.items() if math.isfinite(value)}


def combined(scores: Mapping[str, float]) -> float:
    """One figure from 0 to 1: the product of all scores but the one that a model gives itself."""
    return float(np.prod([value for name, value in scores.items() if name != "predicted_iou"]))


def stability(logits: npt.NDArray[np.float32], threshold: float = 0.0) -> float:
    """IoU of the masks at a threshold a little higher and a little lower (Kirillov et al., ICCV 2023, appendix B)."""
    high = np.count_nonzero(logits > threshold + STABILITY_OFFSET)
    low = np.count_nonzero(logits > threshold - STABILITY_OFFSET)
    return float(high / low) if low else 0.0


def fit(mask: Mask, prompts: Prompts) -> float:
    """How well a mask does what its prompts say: the IoU of its box with theirs, times the share of points it obeys."""
    result = box_iou(masks.bbox(mask), prompts.box) if prompts.box is not None else 1.0
    if len(prompts.labels):
        height, width = mask.shape
        columns = np.clip(np.floor(prompts.points[:, 0]).astype(int), 0, width - 1)
        rows = np.clip(np.floor(prompts.points[:, 1]).astype(int), 0, height - 1)
        result *= float(np.mean(mask[rows, columns] == (prompts.labels == 1)))
    return result


def box_iou(a: Box, b: Box) -> float:
    """Intersection over union of two boxes."""
    across = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    down = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    shared = max(across, 0.0) * max(down, 0.0)
    return shared / (a[2] * a[3] + b[2] * b[3] - shared)

"""How well a segmentation's masks overlap with the true ones, in the image's own pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow.compute as pc
import torch
import torch.nn.functional as F

from sono.training.arrays import Floats, Integers
from sono.training.evaluation import metrics
from sono.training.evaluation.bootstrap import Bootstrap
from sono.training.features.encoder import Report

from .decoder import Segmenter
from .targets import OutlinedFrames


@dataclass(frozen=True)
class Scores:
    """Dice and intersection over union of every outlined structure of every frame, and which they belong to."""

    dice_R: Floats
    iou_R: Floats
    structure_R: Integers
    position_R: Integers

    def mean_dice(self) -> float:
        """The mean over structures of the mean within each."""
        by_structure = [self.dice_R[self.structure_R == number].mean() for number in np.unique(self.structure_R)]
        return float(np.mean(by_structure))


@torch.no_grad()
def score(segmenter: Segmenter, outlined: OutlinedFrames, progress: Report) -> Scores:
    """Compare the decoder's mask of every outlined structure of every frame with the true one."""
    dice, iou, structure, position = [], [], [], []
    for batch in segmenter.batches(outlined, np.arange(len(outlined)), outlined.frames.split, progress):
        logits_RSS, _ = segmenter.outlined_logits(batch)
        true = [(number, mask, target.position) for target in batch for number, mask in target.masks.items()]
        for (number, mask, place), logits_SS in zip(true, logits_RSS, strict=True):
            found = without_padding(logits_SS, mask.shape) > 0
            shared, total = int((found & mask).sum()), int(found.sum()) + int(mask.sum())
            dice.append(2 * shared / total)  # a true mask has a pixel
            iou.append(shared / (total - shared))
            structure.append(number)
            position.append(place)
    return Scores(np.array(dice), np.array(iou), np.array(structure), np.array(position))


def without_padding(logits_SS: torch.Tensor, shape: tuple[int, ...]) -> Floats:
    """Logits of the padded square in the image's own pixels, [height, width]: enlarged, and the padding cut off."""
    height, width = shape
    side = max(height, width)
    square = F.interpolate(logits_SS[None, None], size=(side, side), mode="bilinear", align_corners=False)[0, 0]
    top, left = (side - height) // 2, (side - width) // 2
    logits_HW: Floats = square[top : top + height, left : left + width].double().cpu().numpy()
    return logits_HW


def overlap_figures(scores: Scores, outlined: OutlinedFrames, bootstrap: Bootstrap) -> dict[str, Any]:
    """Means over structures and over planes with intervals over patients, and the means of each.

    Args:
        bootstrap: of the outlined frames.
    """
    of_regions = bootstrap.take(scores.position_R)
    plane_R = pc.fill_null(outlined.frames.column("plane"), -1).to_numpy()[outlined.indices[scores.position_R]]
    planes = (*outlined.frames.planes, "unknown")
    counted_R = plane_R >= 0  # frames without a plane are not a plane of their own
    counted_R = counted_R if counted_R.any() else ~counted_R
    plane_R = np.where(plane_R < 0, len(planes) - 1, plane_R)

    def over_planes(values_R: Floats) -> dict[str, Any]:
        kept = of_regions.take(counted_R)
        return asdict(metrics.mean_per_class(values_R[counted_R], plane_R[counted_R], kept))

    return {
        "dice": asdict(metrics.mean_per_class(scores.dice_R, scores.structure_R, of_regions)),
        "iou": asdict(metrics.mean_per_class(scores.iou_R, scores.structure_R, of_regions)),
        "dice_over_planes": over_planes(scores.dice_R),
        "iou_over_planes": over_planes(scores.iou_R),
        "per_structure": _by_group(scores, scores.structure_R, outlined.structures, of_regions),
        "per_plane": _by_group(scores, plane_R, planes, of_regions),
    }


def _by_group(scores: Scores, groups_R: Integers, names: Sequence[str], bootstrap: Bootstrap) -> dict[str, Any]:
    return {
        names[group]: {
            "n_masks": int((groups_R == group).sum()),
            "n_patients": bootstrap.take(groups_R == group).patients,
            "dice": float(scores.dice_R[groups_R == group].mean()),
            "iou": float(scores.iou_R[groups_R == group].mean()),
        }
        for group in np.unique(groups_R)
    }

"""The same average mask for every frame: the least that a segmentation has to beat, however high its Dice."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from torch import nn

from sono.training.evaluation import metrics
from sono.training.evaluation.bootstrap import Bootstrap
from sono.training.features.encoder import Report

from .decoder import Segmenter
from .scores import Scores, score
from .targets import OutlinedFrames


def compare_with_average(
    segmenter: Segmenter,
    scores: Scores,
    train: OutlinedFrames,
    test: OutlinedFrames,
    bootstrap: Bootstrap,
    progress: Report,
) -> dict[str, Any]:
    """What the average mask of the train split scores on the same regions, and the paired differences from it.

    It covers every pixel that is in at least half of the structure's training masks. A structure that is always in the
    same place gets a high Dice from it, without a look at any image.

    Args:
        segmenter: the trained one, for its encoder and its batches.
        scores: its scores on ``test``.
        bootstrap: of the outlined frames of ``test``.
    """
    average = score(_average_segmenter(segmenter, train, progress), test, progress)
    of_regions, structure_R = bootstrap.take(scores.position_R), scores.structure_R
    pairs = {"dice": (scores.dice_R, average.dice_R), "iou": (scores.iou_R, average.iou_R)}
    return {
        "always_the_average": {
            name: asdict(metrics.mean_per_class(theirs_R, structure_R, of_regions))
            for name, (_, theirs_R) in pairs.items()
        },
        "minus_always_the_average": {
            name: asdict(metrics.paired_difference(ours_R, theirs_R, structure_R, of_regions))
            for name, (ours_R, theirs_R) in pairs.items()
        },
    }


class AverageMask(nn.Module):
    """In place of a decoder: the same logits for every frame, above 0 where at least half of the masks are."""

    def __init__(self, share_KSS: torch.Tensor) -> None:
        super().__init__()
        above_KSS = (share_KSS - 0.5).clamp(min=1e-6)  # half is enough
        self.register_buffer("logits_KSS", torch.where(share_KSS >= 0.5, above_KSS, share_KSS - 0.5).float())

    def forward(self, features_BCHW: torch.Tensor, size: int) -> torch.Tensor:
        logits_KSS = self.get_buffer("logits_KSS")
        assert size == logits_KSS.shape[-1]
        return logits_KSS.expand(len(features_BCHW), -1, -1, -1)


def _average_segmenter(segmenter: Segmenter, train: OutlinedFrames, progress: Report) -> Segmenter:
    encoder, size = segmenter.encoder, segmenter.encoder.transform.size
    covered_KSS = torch.zeros(len(train.structures), size, size, dtype=torch.float64)
    masks_K = torch.zeros(len(train.structures), dtype=torch.float64)
    for batch in segmenter.batches(train, np.arange(len(train)), "average mask", progress):
        for target in batch:
            for number, mask_SS in zip(target.masks, target.square_KS2, strict=True):
                covered_KSS[number] += torch.from_numpy(mask_SS).double() / 255
                masks_K[number] += 1
    share_KSS = covered_KSS / masks_K.clamp(min=1)[:, None, None]
    return Segmenter(encoder, AverageMask(share_KSS).to(encoder.device))

"""How the decoder of a segmentation is trained, and after which epoch it is kept."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from sono.training.features.encoder import Encoder, Report

from .decoder import BATCH_SIZE, Segmenter
from .scores import score
from .targets import OutlinedFrames, Target

EPOCHS = 10

_RATE, _DECAY = 1e-3, 1e-2


def train_decoder(
    encoder: Encoder, train: OutlinedFrames, validation: OutlinedFrames, epochs: int, seed: int, progress: Report
) -> tuple[Segmenter, dict[str, Any]]:
    """The decoder after the epoch with the best mean Dice on the validation split, and the Dice after every epoch."""
    torch.manual_seed(seed)
    segmenter = Segmenter.untrained(encoder, len(train.structures))
    decoder = segmenter.decoder
    optimizer = torch.optim.AdamW(decoder.parameters(), lr=_RATE, weight_decay=_DECAY)
    steps = epochs * -(-len(train) // BATCH_SIZE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    best, dices = copy.deepcopy(decoder.state_dict()), []
    for epoch in range(epochs):
        order = np.random.default_rng([seed, epoch]).permutation(len(train))
        for batch in segmenter.batches(train, order, f"epoch {epoch + 1}", progress):
            loss = _loss(segmenter, batch)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
        dices.append(score(segmenter, validation, lambda _: None).mean_dice())
        if dices[-1] > max(dices[:-1], default=-1.0):
            best = copy.deepcopy(decoder.state_dict())
    decoder.load_state_dict(best)
    decoder.eval()
    return segmenter, {"epoch": int(np.argmax(dices)) + 1, "dice_by_epoch": dices}


def _loss(segmenter: Segmenter, batch: Sequence[Target]) -> torch.Tensor:
    """Cross entropy and Dice, half of each, over the structures that each frame has outlined."""
    logits_RSS, targets_RSS = segmenter.outlined_logits(batch)
    chances_RSS = logits_RSS.sigmoid()
    shared_R = (chances_RSS * targets_RSS).sum(dim=(1, 2))
    dice_R = (2 * shared_R + 1) / (chances_RSS.sum(dim=(1, 2)) + targets_RSS.sum(dim=(1, 2)) + 1)
    return 0.5 * F.binary_cross_entropy_with_logits(logits_RSS, targets_RSS) + 0.5 * (1 - dice_R).mean()

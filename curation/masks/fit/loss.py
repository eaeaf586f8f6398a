"""What a fit minimises: cross entropy and soft Dice, of what is known alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def segmentation_loss(logits: torch.Tensor, coverage: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
    """Binary cross entropy over the known pixels plus 1 - Dice (Milletari et al. 2016) of the structures present.

    Args:
        logits: of shape [frames, structures, size, size].
        coverage: share of each pixel that the structure's mask covers, of the same shape.
        known: ``annotation.PRESENT``, ``ABSENT`` or ``UNKNOWN``, of shape [frames, structures]; channels whose
            structure is unknown in a frame contribute nothing, and no gradient.
    """
    from torch.nn import functional

    from .data.annotation import PRESENT, UNKNOWN

    logits = logits.float()
    chosen, present = known != UNKNOWN, known == PRESENT
    if not chosen.any():
        return logits.sum() * 0
    loss = functional.binary_cross_entropy_with_logits(logits[chosen], coverage[chosen])
    if not present.any():
        return loss
    # Of the channels that are there alone: most structures are absent from most frames.
    shares, truth = logits[present].sigmoid(), coverage[present]
    overlap = 2 * (shares * truth).sum(dim=(1, 2)) + 1
    return loss + (1 - overlap / (shares.sum(dim=(1, 2)) + truth.sum(dim=(1, 2)) + 1)).mean()

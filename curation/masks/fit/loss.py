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
    import torch
    from torch.nn import functional

    from .annotation import PRESENT, UNKNOWN

    logits = logits.float()
    chosen = known != UNKNOWN
    entropy = functional.binary_cross_entropy_with_logits(logits, coverage, reduction="none").mean(dim=(2, 3))
    number = chosen.sum().clamp(min=1)
    loss = torch.where(chosen, entropy, 0.0).sum() / number
    present = known == PRESENT
    shares = logits.sigmoid()
    overlap = 2 * (shares * coverage).sum(dim=(2, 3)) + 1
    dice = overlap / (shares.sum(dim=(2, 3)) + coverage.sum(dim=(2, 3)) + 1)
    return loss + torch.where(present, 1 - dice, 0.0).sum() / present.sum().clamp(min=1)

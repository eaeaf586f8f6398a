"""The learning rate over training: linear warm-up, then a half cosine that reaches zero at the end."""

from __future__ import annotations

import math


def factor(step: int, *, warmup_steps: int, total_steps: int, cosine_steps: int | None = None) -> float:
    """The factor of every group's learning rate at ``step``, counted from 0.

    Rises linearly to 1 over ``warmup_steps``, then falls and never climbs again: at and beyond ``total_steps`` it is 0,
    and not the next period of a cosine. With ``cosine_steps`` it is 0 there instead, and climbs to 1 and falls again
    beyond, as in SonoCLIP's and Alpha-CLIP's released code.
    """
    assert 0 <= warmup_steps < total_steps
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    progress = (step - warmup_steps) / ((cosine_steps or total_steps) - warmup_steps)
    if cosine_steps is None:
        progress = min(1.0, progress)
    return 0.5 * (1.0 + math.cos(math.pi * progress))

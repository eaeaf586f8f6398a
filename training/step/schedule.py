"""The learning rate over training: linear warm-up, then a half cosine that reaches zero at the end."""

from __future__ import annotations

import math


def factor(step: int, *, warmup_steps: int, total_steps: int) -> float:
    """The factor of every group's learning rate at ``step``, counted from 0.

    Rises linearly to 1 over ``warmup_steps``, then falls and never climbs again: at and beyond ``total_steps`` it is 0,
    and not the next period of a cosine.
    """
    assert 0 <= warmup_steps < total_steps
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    progress = min(1.0, (step - warmup_steps) / (total_steps - warmup_steps))
    return 0.5 * (1.0 + math.cos(math.pi * progress))

"""The learning rate over training: linear warm-up, then one half cosine that reaches zero where training ends."""

from __future__ import annotations

import math


def factor(step: int, *, warmup_steps: int, total_steps: int) -> float:
    """What every group's learning rate is multiplied by at ``step``, counted from 0.

    Rises linearly to 1 over ``warmup_steps``, then falls and never climbs again: the progress is clamped, so a step
    at or beyond ``total_steps`` has 0 and not the next period of a cosine.
    """
    assert 0 <= warmup_steps < total_steps
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    progress = min(1.0, (step - warmup_steps) / (total_steps - warmup_steps))
    return 0.5 * (1.0 + math.cos(math.pi * progress))

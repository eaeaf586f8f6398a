"""How often the captions in a training batch are equal."""

from __future__ import annotations

import math
from collections.abc import Mapping


def repeated_share(groups: Mapping[int, int], batch: int) -> float | None:
    """The share of a random batch's rows, drawn without replacement, whose caption another row of the batch has too.

    If n of N rows have the same caption, none of the other n - 1 is among the batch's other B - 1 rows with the
    hypergeometric probability C(N - n, B - 1) / C(N - 1, B - 1).

    Args:
        groups: size of a group of equal captions -> number of such groups.
        batch: rows.

    Returns:
        The expected share; None if there are fewer rows than the batch takes.
    """
    rows = sum(size * number for size, number in groups.items())
    if batch > rows:
        return None
    repeated = sum(size * number * (1 - _alone(rows, size, batch)) for size, number in groups.items() if size > 1)
    return repeated / rows


def _alone(rows: int, size: int, batch: int) -> float:
    if rows - size < batch - 1:
        return 0.0
    logarithm = (
        math.lgamma(rows - size + 1)
        - math.lgamma(rows - size - batch + 2)
        - math.lgamma(rows)
        + math.lgamma(rows - batch + 1)
    )
    return min(1.0, math.exp(logarithm))

"""How exact the numbers of a dataset are: what is not needed for training may single out a file or a pregnancy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

SPACING_DIGITS = 3
"""Of ``pixel_mm``: to a micrometre."""


@dataclass(frozen=True)
class Precision:
    """``exact_spacing`` keeps every digit of ``pixel_mm``; ``whole_weeks`` drops the days of ``ga_days``."""

    exact_spacing: bool = False
    whole_weeks: bool = False

    def apply(self, row: dict[str, Any]) -> None:
        """Round the numbers of a row of the dataset in place."""
        if row["pixel_mm"] and not self.exact_spacing:
            row["pixel_mm"] = [round(value, SPACING_DIGITS) for value in row["pixel_mm"]]
        if row["ga_days"] is not None and self.whole_weeks:
            row["ga_days"] -= row["ga_days"] % 7

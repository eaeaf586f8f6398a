"""How much a dataset says about a frame: what is not needed for training may single out a hospital or a pregnancy."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from sono.manifests.dataset_keys import DatasetKeys
from sono.manifests.splits import SplitPlan

from .config import PublishSection

_SPACING_DIGITS = 3  # of ``pixel_mm``: to a micrometre

ATTRIBUTES = ("center", "manufacturer", "model", "ga_days")
"""What may single out a patient in combination: what somebody who knows her may know."""


@dataclass(frozen=True)
class Disclosure:
    """The keys of ``[publish]`` that decide what a row says."""

    ga_days: Literal["exact", "weeks"] = "exact"
    scanner: Literal["exact", "manufacturer", "drop"] = "exact"
    center: Literal["name", "key", "drop"] = "name"
    pixel_mm: Literal["rounded", "exact"] = "rounded"

    @classmethod
    def of(cls, section: PublishSection) -> Disclosure:
        """What the section asks for."""
        return cls(section.ga_days, section.scanner, section.center, section.pixel_mm)

    def as_json(self) -> dict[str, object]:
        """As plain data."""
        return asdict(self)

    def apply(self, row: dict[str, Any], keys: DatasetKeys) -> None:
        """Coarsen a row of the dataset, or a patient's attributes, in place."""
        if row.get("pixel_mm") and self.pixel_mm == "rounded":
            row["pixel_mm"] = [round(value, _SPACING_DIGITS) for value in row["pixel_mm"]]
        if row["ga_days"] is not None and self.ga_days == "weeks":
            row["ga_days"] -= row["ga_days"] % 7
        row["model"] = keys.scanner(row["model"]) if self.scanner == "exact" else None
        row["manufacturer"] = keys.scanner(row["manufacturer"]) if self.scanner != "drop" else None
        row["center"] = self.center_name(row["center"], keys)

    def center_name(self, name: str | None, keys: DatasetKeys) -> str | None:
        """A center's name as it is published; None if it is not."""
        if name is None or self.center == "name":
            return name
        return keys.center(name) if self.center == "key" else None

    def split_plan(self, plan: SplitPlan, keys: DatasetKeys) -> dict[str, Any]:
        """A plan of splits as plain data, with the center that is held out as it is published."""
        return {**asdict(plan), "holdout_center": self.center_name(plan.holdout_center, keys)}

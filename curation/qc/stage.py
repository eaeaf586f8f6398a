"""Quality control of one part: metrics from stored statistics, a verdict, and its reasons."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Self

import numpy as np
import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from sono.curation.cleaning import reasons as cleaning
from sono.curation.images.statistics import PixelStatistics
from sono.manifests.schemas import QC, TableSpec
from sono.manifests.stages import StageOutput

Fraction = Annotated[float, Field(ge=0, le=1)]


class QcSection(BaseModel):
    """``[qc]`` of ``sono.toml``: a frame below a minimum or above a maximum gets the reason named beside it.

    The defaults were chosen on clinical frames so that everything passes that a person would call an ultrasound image:
    they find broken frames, not poor ones.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    black_level: Annotated[int, Field(ge=0, le=254)] = 8  # grey levels up to this are background
    white_level: Annotated[int, Field(ge=1, le=255)] = 250
    min_short_side_px: Annotated[int, Field(ge=1)] = 128  # reject: too_small
    min_lit_fraction: Fraction = 0.02  # reject: empty
    min_contrast: Annotated[float, Field(ge=0)] = 5.0  # reject: empty
    min_mean_intensity: Annotated[float, Field(ge=0, le=255)] = 20.0  # review: dark
    max_mean_intensity: Annotated[float, Field(ge=0, le=255)] = 200.0  # review: bright
    max_saturated_fraction: Fraction = 0.25  # review: saturated
    min_sharpness: Annotated[float, Field(ge=0)] = 3.0  # review: blurred

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        for low, high in (("black_level", "white_level"), ("min_mean_intensity", "max_mean_intensity")):
            if getattr(self, low) >= getattr(self, high):
                raise PydanticCustomError("order", f"{low} must be below {high}")
        return self


REASONS: Mapping[str, str] = {  # reason -> the verdict it leads to
    "too_small": "reject",
    "empty": "reject",
    "duplicate": "reject",
    "duplicate_across_patients": "review",
    "dark": "review",
    "bright": "review",
    "saturated": "review",
    "blurred": "review",
    **dict.fromkeys(cleaning.REASONS, "review"),
}


@dataclass(frozen=True)
class Metrics:
    """Grey-level metrics of a frame; levels are 0 to 255, and all but ``lit_fraction`` are over lit pixels only."""

    short_side_px: int
    mean_intensity: float
    contrast: float
    lit_fraction: float
    saturated_fraction: float
    sharpness: float


def measure(statistics: PixelStatistics, height: int, width: int, section: QcSection) -> Metrics:
    """The metrics of a frame of height x width px, from the statistics of its pixels.

    The black surroundings of the sector do not count, because they would hide what is wrong inside it. Sharpness is the
    root mean square of the Laplacian (Pech-Pacheco et al., ICPR 2000, use its variance), to which they add nothing.
    """
    levels = np.arange(256)
    lit = np.where(levels > section.black_level, np.asarray(statistics.grey_histogram, np.float64), 0.0)
    lit_px = max(float(lit.sum()), 1.0)
    mean = float(lit @ levels) / lit_px
    return Metrics(
        short_side_px=min(height, width),
        mean_intensity=mean,
        contrast=float(np.sqrt(lit @ (levels - mean) ** 2 / lit_px)),
        lit_fraction=float(lit.sum()) / (height * width),
        saturated_fraction=float(lit[section.white_level :].sum()) / lit_px,
        sharpness=float(np.sqrt(statistics.laplacian_energy / lit_px)),
    )


def judge(metrics: Metrics, section: QcSection) -> list[str]:
    """The reasons against a frame, empty if there are none."""
    if metrics.short_side_px < section.min_short_side_px:
        return ["too_small"]
    if metrics.lit_fraction < section.min_lit_fraction or metrics.contrast < section.min_contrast:
        return ["empty"]
    checks = {
        "dark": metrics.mean_intensity < section.min_mean_intensity,
        "bright": metrics.mean_intensity > section.max_mean_intensity,
        "saturated": metrics.saturated_fraction > section.max_saturated_fraction,
        "blurred": metrics.sharpness < section.min_sharpness,
    }
    return [reason for reason, applies in checks.items() if applies]


def verdict(reasons: list[str]) -> str:
    """``reject`` if any reason leads to it, else ``review`` if there is any reason, else ``accept``."""
    kinds = {REASONS[reason] for reason in reasons}
    return "reject" if "reject" in kinds else "review" if kinds else "accept"


@dataclass(frozen=True)
class QcStage:
    """From frames, with what cleaning doubts and their duplicate group and reason, to metrics and verdicts.

    Frames of a pulled dataset are measured, but not judged again: who published them has accepted them, some of them by
    a person's decision that nothing shows any more.
    """

    section: QcSection

    name = "qc"
    version = 2

    @property
    def output(self) -> TableSpec:
        return QC

    def config(self) -> Mapping[str, object]:
        return self.section.model_dump(mode="json")

    def __call__(self, part: pa.Table) -> StageOutput:
        config_sha256 = hashlib.sha256(json.dumps(self.config(), sort_keys=True).encode()).hexdigest()
        rows: list[dict[str, object]] = []
        for frame in part.to_pylist():
            statistics = PixelStatistics(frame["grey_histogram"], frame["laplacian_energy"])
            metrics = measure(statistics, frame["height"], frame["width"], self.section)
            reasons = [] if frame["pulled"] else self._reasons(metrics, frame)
            rows.append(
                {
                    "frame_id": frame["frame_id"],
                    **vars(metrics),
                    "reasons": reasons,
                    "verdict": verdict(reasons),
                    "duplicate_group": frame["duplicate_group"],
                    "config_sha256": config_sha256,
                }
            )
        return StageOutput(QC.from_rows(rows), [])

    def _reasons(self, metrics: Metrics, frame: Mapping[str, Any]) -> list[str]:
        reasons = [*judge(metrics, self.section), *(frame["cleaning_reasons"] or [])]
        return [*reasons, *([frame["duplicate_reason"]] if frame["duplicate_reason"] else [])]

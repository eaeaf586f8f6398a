"""Checking of one part: frames with their masks in, measures of the masks out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa

from sono.manifests.schemas import FRAMES, MASK_CHECKS, RLE, TableSpec
from sono.manifests.stages import StageOutput

INPUT = pa.schema(
    [
        *(
            FRAMES.schema.field(name)
            for name in ("source_key", "frame_index", "frame_id", "height", "width", "sectors")
        ),
        pa.field(
            "regions",
            pa.list_(pa.struct({"region_id": pa.string(), "structure": pa.string(), "mask": RLE})),
        ),
    ]
)


@dataclass(frozen=True)
class MaskCheckStage:
    """From frames with masks that nobody rejected to their measures. Input columns: ``INPUT``."""

    name = "masks-check"
    version = 1

    @property
    def output(self) -> TableSpec:
        return MASK_CHECKS

    def config(self) -> Mapping[str, object]:
        return {}

    def __call__(self, part: pa.Table) -> StageOutput:
        # Imported here, because a run that finds everything up to date does not need OpenCV.
        from sono.curation.cleaning.sectors.geometry import Sector

        from .measure import measure

        rows = [
            row
            for frame in part.to_pylist()
            for row in measure(
                frame["regions"],
                frame["height"],
                frame["width"],
                [Sector.from_row(sector) for sector in frame["sectors"] or []],
            )
        ]
        return StageOutput(MASK_CHECKS.from_rows(rows), [])

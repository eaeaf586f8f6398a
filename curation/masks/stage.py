"""Import of one part: mask files in, regions out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pyarrow as pa

from sono.curation.images.pixels import ExcludedError
from sono.manifests import masks
from sono.manifests.pseudonyms import Pseudonymizer
from sono.manifests.schemas import REGIONS, TableSpec
from sono.manifests.stages import Exclusion, StageOutput

from .outlines import MESSAGES, fill_outline, read_mask

MaskFormat = Literal["png", "outline"]


@dataclass(frozen=True)
class MaskImportStage:
    """From mask files, each with its frame, to regions. Its input's columns are those of ``INPUT``."""

    keys: Pseudonymizer
    mask_format: MaskFormat
    source: Literal["import", "model"] = "import"

    name = "masks-import"
    version = 2

    @property
    def output(self) -> TableSpec:
        return REGIONS

    def config(self) -> Mapping[str, object]:
        return {"format": self.mask_format, "source": self.source}

    def __call__(self, part: pa.Table) -> StageOutput:
        rows: list[dict[str, object]] = []
        exclusions: list[Exclusion] = []
        for file in part.to_pylist():
            try:
                rows.append(self._region(file))
            except ExcludedError as error:
                exclusions.append(Exclusion(file["source_key"], error.reason, error.message, file["frame_index"]))
        return StageOutput(REGIONS.from_rows(rows), exclusions)

    def _region(self, file: Mapping[str, object]) -> dict[str, object]:
        if file["problem"]:
            raise ExcludedError(str(file["problem"]), MESSAGES[str(file["problem"])])
        drawn = read_mask(Path(str(file["path"])))
        frame = json.loads(str(file["frame"]))
        if drawn.shape not in ((frame["source_height"], frame["source_width"]), (frame["height"], frame["width"])):
            raise ExcludedError("size_mismatch", MESSAGES["size_mismatch"])
        if not drawn.any():
            raise ExcludedError("empty_mask", MESSAGES["empty_mask"])
        mask = fill_outline(drawn) if self.mask_format == "outline" else drawn
        if mask.shape != (frame["height"], frame["width"]):
            x, y, width, height = frame["crop"]
            mask = mask[y : y + height, x : x + width]
            if not mask.any():
                raise ExcludedError("outside_crop", MESSAGES["outside_crop"])
        return {
            "region_id": self.keys.region(frame["frame_id"], str(file["structure"]), self.source),
            "frame_id": frame["frame_id"],
            "pixel_sha256": frame["pixel_sha256"],
            "structure": file["structure"],
            "mask": masks.encode(mask),
            "area_px": masks.area_px(mask),
            "bbox": list(masks.bbox(mask)),
            "source": self.source,
            "status": "accepted",
        }

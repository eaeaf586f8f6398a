"""Import of one part: mask files in, regions out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import pyarrow as pa

from sono.manifests.pseudonyms import Pseudonymizer
from sono.manifests.schemas import REGIONS, TableSpec
from sono.manifests.stages import Exclusion, StageOutput


@dataclass(frozen=True)
class MaskImportStage:
    """From mask files, each with its frame, to regions. Input columns: ``targets.INPUT``."""

    keys: Pseudonymizer
    mask_format: str  # one of formats.registry.FORMATS
    source: Literal["import", "model"] = "import"

    name = "masks-import"
    version = 2

    @property
    def output(self) -> TableSpec:
        return REGIONS

    def config(self) -> Mapping[str, object]:
        return {"format": self.mask_format, "source": self.source}

    def __call__(self, part: pa.Table) -> StageOutput:
        # Imported here, because a run that finds everything up to date does not need OpenCV.
        from sono.curation.images.pixels import ExcludedError

        from .region_row import region_row

        rows: list[dict[str, object]] = []
        exclusions: list[Exclusion] = []
        for file in part.to_pylist():
            try:
                rows.append(region_row(file, self.keys, mask_format=self.mask_format, source=self.source))
            except ExcludedError as error:
                exclusions.append(Exclusion(file["source_key"], error.reason, error.message, file["frame_index"]))
        return StageOutput(REGIONS.from_rows(rows), exclusions)

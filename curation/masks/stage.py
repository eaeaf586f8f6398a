"""Import of one part: planned masks in, regions out."""

from __future__ import annotations

import itertools
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pyarrow as pa

from sono.manifests.pseudonyms import Pseudonymizer
from sono.manifests.schemas import REGIONS, TableSpec
from sono.manifests.stages import Exclusion, StageOutput

if TYPE_CHECKING:
    from sono.curation.images.pixels import ExcludedError


@dataclass(frozen=True)
class MaskImportStage:
    """From masks in files, each with its frame, to regions. Input columns: ``plan.INPUT``."""

    keys: Pseudonymizer
    mask_format: str  # one of formats.registry.FORMATS
    source: Literal["import", "model"] = "import"

    name = "masks-import"
    version = 3

    @property
    def output(self) -> TableSpec:
        return REGIONS

    def config(self) -> Mapping[str, object]:
        return {"format": self.mask_format, "source": self.source}

    def __call__(self, part: pa.Table) -> StageOutput:
        # Imported here, because a run that finds everything up to date does not need OpenCV.
        from sono.curation.images.pixels import ExcludedError

        from .formats.registry import mask_format
        from .region_row import region_row

        reads = mask_format(self.mask_format)
        rows: list[dict[str, object]] = []
        exclusions: list[Exclusion] = []
        for path, group in itertools.groupby(part.to_pylist(), key=lambda planned: planned["path"]):
            masks = list(group)
            try:
                read = reads.reader(Path(os.fsdecode(path)))
            except ExcludedError as error:  # once, however many masks the file may hold
                exclusions.append(_exclusion(masks[0], error))
                continue
            for planned in masks:
                try:
                    row = region_row(planned, read, self.keys, source=self.source)
                    rows += [row] if row else []
                except ExcludedError as error:
                    exclusions.append(_exclusion(planned, error))
        return StageOutput(REGIONS.from_rows(rows), exclusions)


def _exclusion(planned: Mapping[str, Any], error: ExcludedError) -> Exclusion:
    return Exclusion(planned["source_key"], error.reason, error.message, planned["frame_index"])

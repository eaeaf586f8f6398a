"""Ingest of one part: files in, frames out. Only pseudonyms leave."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import pyarrow as pa

from sono.manifests.pseudonyms import Pseudonymizer
from sono.manifests.schemas import FRAMES, TableSpec
from sono.manifests.stages import Exclusion, StageOutput
from sono.manifests.vocabulary import Vocabulary

from .config import IngestSection


@dataclass(frozen=True)
class IngestStage:
    """From file rows to frames; it alone sees a file's bytes. Input columns: ``parts.INPUT``."""

    keys: Pseudonymizer = field(repr=False)
    vocabulary: Vocabulary
    center: str  # of files whose row names none
    section: IngestSection

    name = "ingest"
    version = 5

    @property
    def output(self) -> TableSpec:
        return FRAMES

    def config(self) -> Mapping[str, object]:
        synonyms = {plane.id: [plane.name, *plane.synonyms] for plane in self.vocabulary.planes.values()}
        return {
            **self.section.model_dump(mode="json"),
            "center": self.center,
            "planes": synonyms,
            "scope": self.keys.patient_scope,
        }

    def __call__(self, part: pa.Table) -> StageOutput:
        # Imported here, because a run that finds everything up to date needs neither OpenCV nor pydicom.
        from .frame_rows import frame_rows

        rows: list[dict[str, object]] = []
        exclusions: list[Exclusion] = []
        for file in part.to_pylist():
            for row in frame_rows(file, self.keys, self.vocabulary, self.section, self.center):
                if isinstance(row, Exclusion):
                    exclusions.append(row)
                else:
                    rows.append(row)
        return StageOutput(FRAMES.from_rows(rows), exclusions)

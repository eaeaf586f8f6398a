"""Ingest of one part: files in, frames out. Only pseudonyms leave."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib import metadata

import pyarrow as pa

from sono.curation.cleaning.config import CleaningSection
from sono.curation.cleaning.overlays.networks import networks_sha256
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
    cleaning: CleaningSection
    cropped: bool = False  # the files show nothing but ultrasound

    name = "ingest"
    version = 8

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
            "cleaning": self.cleaning.model_dump(mode="json"),
            "cropped": self.cropped,
            "text_detector": networks_sha256(),
        }

    def made_with(self) -> Mapping[str, object]:
        return made_with(self.cleaning, cropped=self.cropped)

    def __call__(self, part: pa.Table) -> StageOutput:
        rows: list[dict[str, object]] = []
        exclusions: list[Exclusion] = []
        for file in part.to_pylist():
            for row in self._rows(file):
                if isinstance(row, Exclusion):
                    exclusions.append(row)
                else:
                    rows.append(row)
        return StageOutput(FRAMES.from_rows(rows), exclusions)

    def _rows(self, file: Mapping[str, object]) -> Iterator[dict[str, object] | Exclusion]:
        # Imported here, because a run that finds everything up to date needs neither OpenCV nor pydicom.
        from .frame_rows import frame_rows

        return frame_rows(
            file, self.keys, self.vocabulary, self.section, self.cleaning, self.center, cropped=self.cropped
        )


def made_with(cleaning: CleaningSection, *, cropped: bool) -> dict[str, object]:
    """What decides how frames are cleaned, as parts keep it and the page on cleaning shows it."""
    return {
        "sono-curate": metadata.version("sono-curate"),
        "version": IngestStage.version,
        "cleaning": cleaning.model_dump(mode="json"),
        "cropped": cropped,
        "text_detector": networks_sha256(),
        "text_readers": {name: metadata.version(name) for name in ("rapidocr", "tesserocr")},
    }

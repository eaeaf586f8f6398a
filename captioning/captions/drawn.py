"""Captions of masks that people drew in a workspace whose captions came with a pulled dataset, and stay as they are."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import pyarrow as pa
import pyarrow.compute as pc

from sono.captioning.exams.database import captions_database
from sono.manifests.schemas import CAPTIONS, TableSpec
from sono.manifests.stages import Engine, Part, Progress, RunReport, StageOutput, run_stage
from sono.manifests.store import TableStore
from sono.manifests.workspace import Workspace

from .join import JOINED, joined_parts
from .plan import plan_stage
from .stage import CaptionStage

_PREFIX = SCOPE = "drawn"


@dataclass(frozen=True)
class DrawnCaptionStage:
    """Writes the captions of the regions of a part of joined frames, and none of the frames themselves."""

    stage: CaptionStage

    name = "drawn-captions"
    version = 1

    @property
    def output(self) -> TableSpec:
        return CAPTIONS

    def config(self) -> Mapping[str, object]:
        return {"caption": [self.stage.version, self.stage.config()]}

    def __call__(self, part: pa.Table) -> StageOutput:
        captions, exclusions = self.stage(part)
        return StageOutput(captions.filter(pc.is_valid(captions["region_id"])), exclusions)


def caption_drawn(
    workspace: Workspace,
    *,
    templates: str | None = None,
    seed: int | None = None,
    engine: Engine,
    progress: Callable[[Progress], None] = lambda _: None,
) -> RunReport:
    """Bring the captions of regions up to date that the pulled dataset has none for. The caller holds the workspace.

    Args:
        templates, seed: as for ``caption_workspace``.

    Raises:
        UserError: there are no frames, or the configuration or the templates cannot be used.
    """
    store, stage = workspace.store, DrawnCaptionStage(plan_stage(workspace, templates=templates, seed=seed))
    with captions_database(store) as database, joined_parts(database, store) as (parts, _):
        missing = list(_parts_without_captions(parts, _captioned(store)))
        return run_stage(stage, missing, store, engine=engine, scope=SCOPE, progress=progress)


def _captioned(store: TableStore) -> frozenset[str]:
    """The regions whose captions came with the dataset."""
    names = [name for name, info in store.parts(CAPTIONS).items() if info.stage != DrawnCaptionStage.name]
    found = (store.read(CAPTIONS, name, ["region_id"])["region_id"].drop_null().to_pylist() for name in names)
    return frozenset(region_id for some in found for region_id in some)


def _parts_without_captions(parts: Sequence[Part], captioned: frozenset[str]) -> Iterator[Part]:
    """Frames with regions that have no caption, each with these regions alone."""
    for part in parts:
        rows = []
        for row in part.load().to_pylist():
            regions = [region for region in row["regions"] or () if region["region_id"] not in captioned]
            if regions:
                rows.append({**row, "regions": regions})
        if rows:
            digest = hashlib.sha256(json.dumps(rows).encode()).hexdigest()
            yield Part(f"{_PREFIX}-{part.name}", digest, partial(pa.Table.from_pylist, rows, schema=JOINED))

"""Whether to propose again: what ``status`` says about proposals, without any model."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from sono.curation.masks.backends.registry import prefix_of
from sono.manifests.schemas import REGIONS, TableSpec
from sono.manifests.stages import StageOutput, stale_parts
from sono.manifests.store import PartInfo, TableStore
from sono.manifests.workspace import Workspace

from .plan import plan
from .stage import ProposeStage, Wanted


def stale_proposed(workspace: Workspace) -> int:
    """How many parts the last run of each backend would compute now, with the options and the model that it had.

    A backend that was only tried on some frames counts as never used. Another model is no reason either: where its
    file lies is not stored.
    """
    store = workspace.store
    return sum(_stale(workspace, made_with) for made_with in _last_runs(store))


def _last_runs(store: TableStore) -> Iterable[Mapping[str, Any]]:
    """What the part that each backend has written last was made with: the others may be up to date for longer."""
    last: dict[str, PartInfo] = {}
    infos = [info for info in store.parts(REGIONS).values() if info.stage == ProposeStage.name]
    for info in sorted(infos, key=lambda info: store.path(REGIONS, info.name).stat().st_mtime_ns):
        last[info.made_with["backend"]] = info
    return [info.made_with for info in last.values()]


def _stale(workspace: Workspace, made_with: Mapping[str, Any]) -> int:
    settings = dict(made_with)
    if "wanted" not in settings:  # written by a version that did not say
        return 0
    wanted = Wanted(**settings.pop("wanted"))
    if not wanted.all_frames:
        return 0
    with (
        tempfile.TemporaryDirectory(prefix="sono-plan-") as folder,  # whoever asks may not write to the workspace
        plan(
            workspace.store,
            workspace.vocabulary,
            prefix=prefix_of(settings["backend"]),
            structures=wanted.structures,
            keep_others=wanted.keep_others,
            limit=None,
            folder=Path(folder),
        ) as planned,
    ):
        return stale_parts(_LastRun(settings), planned.parts, workspace.store)


@dataclass(frozen=True)
class _LastRun:
    """The stage as an earlier run had it. It can only be asked what is stale."""

    settings: Mapping[str, object]

    name = ProposeStage.name
    version = ProposeStage.version

    @property
    def output(self) -> TableSpec:
        return REGIONS

    def config(self) -> Mapping[str, object]:
        return self.settings

    def __call__(self, part: pa.Table) -> StageOutput:
        raise NotImplementedError

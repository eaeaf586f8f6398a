"""Carries accepted masks through their cines: what ``sono-curate masks carry`` runs, and whether to run it again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sono.curation.masks.backends.registry import BackendChoice, open_backend, refuse_unknown
from sono.manifests.errors import UserError
from sono.manifests.schemas import REGIONS
from sono.manifests.stages import Engine, Progress, RunReport, run_stage, stale_parts
from sono.manifests.workspace import Workspace

from .parts import SCOPE, carry_parts
from .stage import CarryStage


def carry_masks(
    workspace: Workspace,
    *,
    structures: Sequence[str] | None = None,
    backend: BackendChoice | None = None,
    engine: Engine,
    progress: Callable[[Progress], None] = lambda _: None,
) -> RunReport:
    """Propose masks for the frames of cines of which other frames have an accepted one.

    The caller holds ``workspace.writing()``. Proposals whose mask is no longer accepted are removed; what a person has
    decided upon stays as it is.

    Args:
        structures: to carry; None for all. Proposals of other structures stay as they are.
        backend: corrects carried masks; None to leave them as they are.

    Raises:
        UserError: a structure is unknown, no cine has a mask that a person accepted, or the backend cannot be loaded.
    """
    chosen = sorted(map(workspace.vocabulary.require_structure, structures)) if structures else None
    if backend:
        refuse_unknown(chosen or (), backend)
    sha256 = open_backend(backend).model_sha256 if backend else None
    stage = CarryStage(workspace.keys, workspace.store, chosen, backend, sha256)
    parts = list(carry_parts(workspace.store, chosen))
    if not parts and not any(info.stage == stage.name for info in workspace.store.parts(stage.output).values()):
        raise UserError(
            "no frame of a cine has a mask that a person accepted",
            where=str(workspace.path),
            fix="import drawn masks of cine frames first: sono-curate masks import",
        )
    return run_stage(stage, parts, workspace.store, engine=engine, scope=SCOPE, progress=progress)


def stale_carried(workspace: Workspace) -> int:
    """How many parts a run with the options of the last one would compute; 0 if nothing was ever carried."""
    store = workspace.store
    made = [info.made_with for info in store.parts(REGIONS).values() if info.stage == CarryStage.name]
    if not made:
        return 0
    last = _LastRun(workspace.keys, store, options=made[-1])
    return stale_parts(last, carry_parts(store, last.options["structures"]), store)


@dataclass(frozen=True)
class _LastRun(CarryStage):
    """The stage with the options that its parts say they were made with. It can only be asked what is stale."""

    options: Mapping[str, Any] = field(default_factory=dict)

    def config(self) -> Mapping[str, object]:
        return self.options

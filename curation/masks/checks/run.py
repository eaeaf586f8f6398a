"""Measures masks for the checks: what ``sono-curate masks check`` runs, and every command that adds masks."""

from __future__ import annotations

from collections.abc import Callable

from sono.manifests.projection import apply_decisions
from sono.manifests.stages import Engine, Progress, RunReport, run_stage
from sono.manifests.workspace import Workspace

from .parts import check_parts
from .stage import MaskCheckStage


def check_masks(
    workspace: Workspace, *, engine: Engine, progress: Callable[[Progress], None] = lambda _: None
) -> RunReport:
    """Bring ``mask_checks`` up to date with the masks. The caller holds ``workspace.writing()``."""
    store = workspace.store
    apply_decisions(store)  # a stage may just have brought a region that was in a part of the review, or dropped one
    return run_stage(MaskCheckStage(), check_parts(store), store, engine=engine, progress=progress)

"""Quality control: metrics and a verdict for every frame, from the statistics that ingest took of its pixels."""

from __future__ import annotations

from collections.abc import Callable

from sono.manifests.stages import Engine, Progress, RunReport, run_stage
from sono.manifests.workspace import Workspace

from .parts import qc_parts
from .stage import QcSection, QcStage


def qc(workspace: Workspace, *, engine: Engine, progress: Callable[[Progress], None] = lambda _: None) -> RunReport:
    """Bring the ``qc`` table up to date with the frames. The caller holds ``workspace.writing()``."""
    stage = QcStage(workspace.section("qc", QcSection))
    return run_stage(stage, qc_parts(workspace.store), workspace.store, engine=engine, progress=progress)

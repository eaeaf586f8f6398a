"""Everything that the demo's page and its table on the terminal show."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean

from sono.manifests.workspace import open_workspace

from .faults import InjectedFault, read_faults
from .funnel import Funnel, read_funnel
from .plan import DemoLayout, DemoPlan, commands
from .results import LEAK, Estimate, RunResult, read_run_result
from .shown_frames import ShownFrame, read_shown_frames


@dataclass(frozen=True)
class DemoFacts:
    """What the steps wrote, read back.

    ``runs`` has one result per training run, and ``dry_run`` is what ``publish --dry-run`` printed.
    """

    exams: int
    funnel: Funnel
    shown_frames: Sequence[ShownFrame]
    faults: Sequence[InjectedFault]
    runs: Sequence[RunResult]
    commands: Sequence[str]
    dry_run: str

    def top1(self, mask: str) -> list[Estimate]:
        """Of every run."""
        return [run.top1[mask] for run in self.runs]

    @property
    def leak(self) -> Estimate:
        """Top-1 of the masks alone: the same for every run, because no model takes part in it."""
        return self.runs[0].top1[LEAK]

    def mean_top1(self, mask: str) -> float:
        return mean(run.top1[mask].value for run in self.runs)

    def mean_top5(self, mask: str) -> float:
        return mean(run.top5[mask].value for run in self.runs)

    @property
    def differences(self) -> list[Estimate]:
        """Top-1 with the true masks minus top-1 without masks, of every run."""
        return [run.region_minus_none for run in self.runs]

    @property
    def differences_exclude_zero(self) -> bool:
        """No run's interval of the difference reaches zero."""
        return all(difference.excludes_zero for difference in self.differences)


def read_facts(layout: DemoLayout, plan: DemoPlan) -> DemoFacts:
    workspace = open_workspace(layout.workspace)
    return DemoFacts(
        exams=plan.exams,
        funnel=read_funnel(layout, workspace.store),
        shown_frames=list(read_shown_frames(workspace)),
        faults=read_faults(layout, workspace),
        runs=[read_run_result(layout.run(seed), layout.dataset) for seed in range(plan.runs)],
        commands=[shlex.join(step) for step in commands(layout, plan)],
        dry_run=layout.dry_run.read_text(encoding="utf-8"),
    )

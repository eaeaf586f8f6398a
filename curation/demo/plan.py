"""What the demo will do: where its files are, how much it draws and trains, and its commands in order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sono.curation.phantom.hospitals import CENTERS

HOLDOUT = "south"
MAX_SIDE_PX = 128  # the dataset's images: twice what the recipe `tiny` looks at
PAGE = "index.html"
REPO = "hospital/phantoms"  # on the Hub, where nothing is sent
LICENCE = "CC0-1.0"


@dataclass(frozen=True)
class DemoLayout:
    """Where everything is in the demo's folder."""

    root: Path

    @property
    def phantoms(self) -> Path:
        return self.root / "phantoms"

    @property
    def workspace(self) -> Path:
        return self.root / "workspace"

    @property
    def dataset(self) -> Path:
        return self.root / "dataset"

    @property
    def runs(self) -> Path:
        return self.root / "runs"

    def run(self, seed: int) -> Path:
        return self.runs / f"seed-{seed}"

    @property
    def dry_run(self) -> Path:
        """What ``publish --dry-run`` printed."""
        return self.root / "publish-dry-run.txt"

    @property
    def page(self) -> Path:
        return self.root / PAGE


@dataclass(frozen=True)
class DemoPlan:
    """How much is drawn and trained.

    Attributes:
        exams: phantom examinations.
        seed: for the phantoms; training runs use the seeds 0, 1, ...
        runs: training runs, to show the spread between them.
        settings: changes to the recipe ``tiny``, as ``sono-train pretrain --set`` takes them.
        workers: processes; 0 for one per processor.
    """

    exams: int
    seed: int
    runs: int
    settings: tuple[str, ...] = ()
    workers: int = 0


SHORT = DemoPlan(exams=100, seed=0, runs=1)
"""A few minutes on two cores; its held-out hospital has 24 patients."""

FULL = DemoPlan(exams=240, seed=0, runs=3)
"""The figures that the documentation shows; its held-out hospital has 54 patients."""


def commands(layout: DemoLayout, plan: DemoPlan) -> Iterator[list[str]]:
    """The steps, as one would type them."""
    workers = ["--workers", str(plan.workers)] if plan.workers else []
    workspace, phantoms, dataset = str(layout.workspace), layout.phantoms, str(layout.dataset)
    curate = "sono-curate"
    archives = {center: str(phantoms / "dicom" / center) for center in CENTERS}
    records = ["--records", str(phantoms / "records" / "csv"), "--templates", "paper"]
    yield [curate, "phantom", str(phantoms), "--exams", str(plan.exams), "--seed", str(plan.seed), *workers]
    yield [curate, "init", workspace]
    for center, archive in archives.items():
        yield [curate, "ingest", workspace, archive, "--center", center, *workers]
    yield [curate, "qc", workspace, *workers]
    for center in CENTERS:
        yield [curate, "masks", "import", workspace, str(phantoms / "truth" / "masks" / center), *workers]
    yield [curate, "caption", workspace, *records, *workers]
    centers = [word for center in archives for word in ("--center", center)]
    yield [curate, "audit", workspace, *archives.values(), *centers, *records, *workers]
    options = ["--max-side", str(MAX_SIDE_PX), "--holdout-center", HOLDOUT]
    yield [curate, "build", workspace, dataset, *options, *workers]
    for seed in range(plan.runs):
        run = str(layout.run(seed))
        settings = [f"--set={setting}" for setting in (f"train.seed={seed}", *plan.settings)]
        yield ["sono-train", "pretrain", dataset, run, "--recipe", "tiny", "--resume", *settings]
        yield ["sono-train", "evaluate", run, dataset, "--mask", "all"]
    yield [curate, "publish", dataset, REPO, "--workspace", workspace, "--dry-run"]

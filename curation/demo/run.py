"""The whole product on phantoms: the commands a user would type, one after the other, then one page about it all.

Every step is a command of its own, run in a process of its own, so what is shown works outside the demo as well. Any of
them can be interrupted: the next call goes on from there.
"""

from __future__ import annotations

import importlib.util
import json
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from sono.curation.phantom.exams import CENTERS, plan_exam
from sono.manifests import vocabulary
from sono.manifests.errors import UserError
from sono.manifests.store import write_atomically

HOLDOUT = "south"
MAX_SIDE_PX = 128  # the dataset's images: twice what the recipe `tiny` looks at
PAGE = "index.html"

_MODULES = {"sono-curate": "sono.curation.cli", "sono-train": "sono.training.cli"}
_ENDS_S = 60  # time that an interrupted command gets to save what it has


@dataclass(frozen=True)
class Layout:
    """Where everything lies under the demo's folder."""

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

    def run(self, seed: int) -> Path:
        return self.root / "runs" / f"seed-{seed}"

    @property
    def page(self) -> Path:
        return self.root / PAGE


@dataclass(frozen=True)
class Plan:
    """How much is drawn and trained.

    Attributes:
        exams: phantom examinations.
        seed: of the phantoms; training runs take the seeds 0, 1, ...
        runs: training runs, for the spread between them.
        settings: changes of the recipe ``tiny``, as ``sono-train pretrain --set`` takes them.
        workers: processes, 0 for one a processor.
    """

    exams: int
    seed: int
    runs: int
    settings: tuple[str, ...] = ()
    workers: int = 0


def run_demo(out: Path, plan: Plan, say: Callable[[str], None] = print) -> Path:
    """Run every step that is not done yet, and write the page.

    Returns:
        The page.

    Raises:
        UserError: training is not installed, the folder holds a demo of another plan, or a step failed.
    """
    if importlib.util.find_spec("open_clip") is None:  # before minutes of drawing, not after
        raise UserError(
            "the demo trains a model, and torch is not installed", fix="run: pip install 'sono-curate[train]'"
        )
    layout = Layout(out)
    _check_centers(plan)
    _claim(layout, plan)
    steps = list(commands(layout, plan))
    for number, step in enumerate(steps, 1):
        say(f"\n[{number}/{len(steps)}] {shlex.join(step)}")
        if step[1] == "init" and layout.workspace.exists():
            say("there already")
            continue
        _call(step)
    from .page import gather, table, write_page

    facts = gather(layout, plan)
    page = write_page(layout, facts)
    say("")
    for line in table(facts):
        say(line)
    return page


def commands(layout: Layout, plan: Plan) -> Iterator[list[str]]:
    """The steps, as one would type them."""
    workers = ["--workers", str(plan.workers)] if plan.workers else []
    workspace, phantoms, dataset = str(layout.workspace), layout.phantoms, str(layout.dataset)
    curate = "sono-curate"
    yield [curate, "phantom", str(phantoms), "--exams", str(plan.exams), "--seed", str(plan.seed), *workers]
    yield [curate, "init", workspace]
    for center in CENTERS:
        yield [curate, "ingest", workspace, str(phantoms / "dicom" / center), "--center", center, *workers]
    yield [curate, "qc", workspace, *workers]
    for center in CENTERS:
        yield [curate, "masks", "import", workspace, str(phantoms / "truth" / "masks" / center), *workers]
    records = str(phantoms / "records" / "csv")
    yield [curate, "caption", workspace, "--records", records, "--templates", "paper", *workers]
    options = ["--max-side", str(MAX_SIDE_PX), "--holdout-center", HOLDOUT, "--allow-unchecked-text"]
    yield [curate, "build", workspace, dataset, *options, *workers]
    for seed in range(plan.runs):
        run = str(layout.run(seed))
        settings = [f"--set={setting}" for setting in (f"train.seed={seed}", *plan.settings)]
        yield ["sono-train", "pretrain", dataset, "--out", run, "--recipe", "tiny", "--resume", *settings]
        yield ["sono-train", "evaluate", run, dataset, "--mask", "all"]


def _check_centers(plan: Plan) -> None:
    """Two patients at least must be held out: a frame is scored through the masks of another patient, too."""
    words = vocabulary.load()
    records = [plan_exam(plan.seed, number, words).record for number in range(plan.exams)]
    held_out = {record.patient.patient_id for record in records if record.center.center == HOLDOUT}
    if len(held_out) < 2 or {record.center.center for record in records} != set(CENTERS):
        raise UserError(
            f"{plan.exams} exams with seed {plan.seed} have too few patients of one hospital",
            fix="give more --exams or another --seed",
        )


def _claim(layout: Layout, plan: Plan) -> None:
    """A folder holds one plan's demo: another would mix two datasets."""
    path = layout.root / "demo.json"
    wanted = {"exams": plan.exams, "seed": plan.seed, "settings": list(plan.settings)}
    if path.exists():
        if json.loads(path.read_text()) != wanted:
            raise UserError(
                "this folder holds a demo of other settings", where=str(layout.root), fix="name a new folder"
            )
    elif layout.root.exists() and any(layout.root.iterdir()):
        raise UserError("the folder is not empty", where=str(layout.root), fix="name a new folder")
    write_atomically(path, lambda file: file.write(json.dumps(wanted).encode()))


def _call(step: Sequence[str]) -> None:
    """Run one command with our own terminal.

    Ctrl-C reaches the whole process group: the command gets time to save and to say so before this process goes on
    ending.
    """
    program, *arguments = step
    with subprocess.Popen([sys.executable, "-m", _MODULES[program], *arguments]) as process:
        try:
            code = process.wait()
        except BaseException:
            try:
                process.wait(_ENDS_S)
            except subprocess.TimeoutExpired:
                process.terminate()
            raise
    if code != 0:
        raise UserError(
            f"`{shlex.join(step)}` ended with exit status {code}",
            fix="its message stands above; run the same demo again to go on from there",
        )

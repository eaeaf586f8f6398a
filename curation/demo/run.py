"""The entire product on phantoms: the commands a user would type, one after another, then a page about the outcome.

Each step is a command, run in its own process, so what the demo shows works outside the demo as well. An interrupted
demo resumes where it stopped.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from sono.curation.phantom.exams import plan_exam
from sono.curation.phantom.hospitals import CENTERS
from sono.manifests import vocabulary
from sono.manifests.errors import UserError
from sono.manifests.outputs import refuse_inside_dataset
from sono.manifests.publishable import CARD
from sono.manifests.store import write_atomically

from .plan import HOLDOUT, LICENCE, DemoLayout, DemoPlan, commands

_MODULES = {"sono-curate": "sono.curation.cli", "sono-train": "sono.training.cli"}
_GRACE_S = 60  # an interrupted command's time to save what it has


def run_demo(out: Path, plan: DemoPlan, report: Callable[[str], None] = print) -> Path:
    """Run every step that is not done yet, then write the page and return its path.

    Raises:
        UserError: training is not installed, the folder holds another demo, or a step failed.
    """
    if importlib.util.find_spec("open_clip") is None:  # before minutes of drawing, not after
        raise UserError(
            "the demo trains a model, and torch is not installed", fix="run: pip install 'sono-curate[train]'"
        )
    layout = DemoLayout(out)
    _check_centers(plan)
    _claim(layout, plan)
    steps = list(commands(layout, plan))
    for number, step in enumerate(steps, 1):
        report(f"\n[{number}/{len(steps)}] {shlex.join(step)}")
        if step[1] == "init" and layout.workspace.exists():
            report("already done")
        elif step[1] == "publish":
            _call_kept(step, layout)
        else:
            _call(step)
        if step[1] == "init":
            _choose_licence(layout, report)
    from .facts import read_facts
    from .page import write_page
    from .summary import summary_lines

    facts = read_facts(layout, plan)
    page = write_page(layout, facts)
    report("")
    for line in summary_lines(facts):
        report(line)
    report(f"\nThe dataset's card: {layout.dataset / CARD}")
    return page


def _check_centers(plan: DemoPlan) -> None:
    """At least two patients must be held out, because a frame is also scored with another patient's masks."""
    planes = vocabulary.load()
    records = [plan_exam(plan.seed, number, planes).record for number in range(plan.exams)]
    held_out = {record.patient.patient_id for record in records if record.center.center == HOLDOUT}
    if len(held_out) < 2 or {record.center.center for record in records} != set(CENTERS):
        raise UserError(
            f"with {plan.exams} exams and seed {plan.seed}, one hospital has too few patients",
            fix="give more --exams or another --seed",
        )


def _claim(layout: DemoLayout, plan: DemoPlan) -> None:
    """A folder contains one demo: a second one would mix two datasets."""
    refuse_inside_dataset(layout.root)
    path = layout.root / "demo.json"
    wanted = {"exams": plan.exams, "seed": plan.seed, "settings": list(plan.settings)}
    if path.exists():
        if json.loads(path.read_text()) != wanted:
            raise UserError(
                "this folder contains a demo with other settings", where=str(layout.root), fix="name a new folder"
            )
    elif layout.root.exists() and any(layout.root.iterdir()):
        raise UserError("the folder is not empty", where=str(layout.root), fix="name a new folder")
    write_atomically(path, lambda file: file.write(json.dumps(wanted).encode()))


def _choose_licence(layout: DemoLayout, report: Callable[[str], None]) -> None:
    """What an owner does in an editor: without a licence, nothing is published."""
    config = layout.workspace / "sono.toml"
    text, changed = re.subn(r'^# licence = "[^"]*"', f'licence = "{LICENCE}"', config.read_text(), flags=re.MULTILINE)
    if changed:
        write_atomically(config, lambda file: file.write(text.encode()))
    report(f'licence = "{LICENCE}" in [publish] of {config}')


def _call_kept(step: Sequence[str], layout: DemoLayout) -> None:
    """Run a command that only prints, and keep what it printed for the page.

    It is not given anybody's token: the Hub is not asked, and the demo sends nothing to anywhere.
    """
    environment = {**os.environ, "HF_TOKEN": "", "HF_TOKEN_PATH": str(layout.root / "no-token")}
    with tempfile.TemporaryFile() as printed:
        try:
            _call(step, environment, printed.fileno())
        finally:
            printed.seek(0)
            text = printed.read().decode()
            print(text, end="", flush=True)
    write_atomically(layout.dry_run, lambda file: file.write(text.encode()))


def _call(step: Sequence[str], environment: Mapping[str, str] | None = None, output: int | None = None) -> None:
    """Run one command, on our own terminal unless there is another ``output``.

    Ctrl-C reaches the whole process group; the command gets time to save its work before this process ends as well.
    """
    program, *arguments = step
    command = [sys.executable, "-m", _MODULES[program], *arguments]
    with subprocess.Popen(command, env=environment, stdout=output) as process:
        try:
            code = process.wait()
        except BaseException:
            try:
                process.wait(_GRACE_S)
            except subprocess.TimeoutExpired:
                process.terminate()
            raise
    if code != 0:
        raise UserError(
            f"`{shlex.join(step)}` ended with exit status {code}",
            fix="see its message above; run the same demo again to resume",
        )

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
from collections.abc import Callable, Sequence
from pathlib import Path

from sono.curation.phantom.exams import CENTERS, plan_exam
from sono.manifests import vocabulary
from sono.manifests.errors import UserError
from sono.manifests.store import write_atomically

from .plan import HOLDOUT, Layout, Plan, commands

_MODULES = {"sono-curate": "sono.curation.cli", "sono-train": "sono.training.cli"}
_ENDS_S = 60  # time that an interrupted command gets to save what it has


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
    from .facts import gather, table
    from .page import write_page

    facts = gather(layout, plan)
    page = write_page(layout, facts)
    say("")
    for line in table(facts):
        say(line)
    return page


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

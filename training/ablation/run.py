"""What masks, the loss, and equal captions as positives are each good for: training runs that differ in them alone.

The design of figure 2 of the mask-guided CLIP's paper (masks off or on, softmax or sigmoid loss), and for the sigmoid
loss also the diagonal alone as positives, which is the paper's. Every run is trained and scored in a process of its
own, one after the other, so nothing but its settings and its seed can tell it from the others.
"""

from __future__ import annotations

import csv
import io
import itertools
import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sono.manifests.errors import UserError
from sono.manifests.store import exclusive, write_atomically
from sono.training import recipes

from .design import CELLS, FIGURES, SEEN_THROUGH, VARIED, Cell
from .summary import Run, summary

RUNS, RESULTS, LOGS = "runs", "results", "logs"
"""How every model is scored: by whole images, and through the dataset's true masks."""


def ablation(
    dataset: str,
    out: Path,
    recipe: str,
    settings: Sequence[str] = (),
    *,
    seeds: int = 3,
    split: str = "test",
    cells: Sequence[Cell] = CELLS,
    notice: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Train and score every cell with every seed, and write table, figure and page into ``out``.

    What was finished is not run again, and what was begun goes on from its last checkpoint.

    Args:
        dataset: a folder that ``sono-curate build`` wrote, or a Hub id.
        recipe: its name.
        settings: changes of it, ``section.key=value``, the same for all runs.
        seeds: how many for each cell, counted from the recipe's own.
        split: that is scored.
        cells: some of ``CELLS``.
        notice: told of every run that begins or is there already.

    Returns:
        The content of ``ablation.json``.

    Raises:
        UserError: the settings hold one that is varied; or a run failed, whose own words the text repeats.
    """
    chosen = _recipe(recipe, settings)
    planned = [(cell, chosen.train.seed + number) for number in range(seeds) for cell in cells]
    out.mkdir(parents=True, exist_ok=True)
    with exclusive(out, str(out)):
        runs = []
        for number, (cell, seed) in enumerate(planned, start=1):
            task = _Task(dataset, out, recipe, tuple(settings), cell, seed, split)
            notice(f"{number} of {len(planned)}: {task.name}" + (", there already" if task.is_done() else ""))
            runs.append(Run(cell=cell, seed=seed, result=task.finish()))
        content = summary(runs, dataset=dataset, recipe=chosen, split=split)
        _write(out, content, runs)
    return content


def _recipe(name: str, settings: Sequence[str]) -> recipes.Recipe:
    for setting in settings:
        key = setting.partition("=")[0]
        if key in VARIED[:-1]:
            raise UserError(f"--set {key}: an ablation varies it by itself", fix="leave it out")
    return recipes.override(recipes.find(name), settings)


@dataclass(frozen=True)
class _Task:
    """One run, from its settings to its result."""

    dataset: str
    out: Path
    recipe: str
    settings: tuple[str, ...]
    cell: Cell
    seed: int
    split: str

    @property
    def name(self) -> str:
        return f"{self.cell.name}-seed-{self.seed}"

    @property
    def run(self) -> Path:
        return self.out / RUNS / self.name

    def is_done(self) -> bool:
        """Whether it was trained to the end and scored, with these settings, on this dataset as it is now."""
        return self._stored() is not None

    def finish(self) -> Mapping[str, Any]:
        """The result, after what is missing of training and scoring."""
        from sono.manifests.filenames import evaluation_file

        stored = self._stored()
        if stored is not None:
            return stored
        changed = [part for one in self._all_settings() for part in ("--set", one)]
        self._call("pretrain", self.dataset, self.run, "--recipe", self.recipe, "--resume", *changed)
        self._call("evaluate", self.run, self.dataset, "--mask", "both", "--split", self.split)
        result: Mapping[str, Any] = json.loads(evaluation_file(self.run, f"{self.split}-both").read_bytes())
        text = json.dumps({"recipe": recipes.flatten(self._wanted()), "result": result}).encode()
        self._store.parent.mkdir(exist_ok=True)
        write_atomically(self._store, lambda file: file.write(text))
        return result

    @property
    def _store(self) -> Path:
        """Written when both are done: a run that was stopped may have been scored by hand, and is not finished."""
        return self.out / RESULTS / f"{self.name}.json"

    def _stored(self) -> Mapping[str, Any] | None:
        from sono.training.data.dataset import read_description

        if not self._store.exists():
            return None
        content = json.loads(self._store.read_bytes())
        result: Mapping[str, Any] = content["result"]
        same = (
            recipes.first_difference(recipes.from_flat(content["recipe"]), self._wanted()) is None
            and result["dataset"]["fingerprint"] == read_description(self.dataset).fingerprint
            and result["split"] == self.split
        )
        return result if same else None  # what differs is said by pretrain

    def _wanted(self) -> recipes.Recipe:
        return recipes.override(recipes.find(self.recipe), self._all_settings())

    def _all_settings(self) -> list[str]:
        return [*self.settings, *self.cell.settings, f"train.seed={self.seed}"]

    def _call(self, *arguments: object) -> None:
        """``sono-train`` in a process of its own; what it says goes into a log, and its last line into an error."""
        log = self.out / LOGS / f"{self.name}.log"
        log.parent.mkdir(exist_ok=True)
        with log.open("ab") as file:
            before = file.tell()
            child = subprocess.Popen(
                [sys.executable, "-m", "sono.training.cli", *map(str, arguments)], stdout=file, stderr=file
            )
            try:
                code = child.wait()
            except BaseException:  # Ctrl-C reached the child, too: it saves a checkpoint before it ends
                child.wait()
                raise
        if code:
            said = log.read_bytes()[before:].decode(errors="replace").strip().splitlines() or ["it said nothing"]
            reason = said[-1].removeprefix("sono-train: ")
            raise UserError(f"{self.name} ended with exit code {code}: {reason}", where=str(log))


def _write(out: Path, content: Mapping[str, Any], runs: Sequence[Run]) -> None:
    from .page import figure, page

    texts = {
        "ablation.json": json.dumps(content, indent=2),
        "ablation.csv": "".join(_table(content)),
        "runs.csv": "".join(_run_table(runs)),
        "ablation.svg": figure(content),
        "ablation.html": page(content),
    }
    for name, text in texts.items():
        write_atomically(out / name, lambda file, text=text: file.write(text.encode()))  # type: ignore[misc]


def _table(content: Mapping[str, Any]) -> Iterator[str]:
    """A line for each cell, way of scoring and figure: mean and spread over seeds."""
    yield "masks,loss,positives,seen_through,figure,n_seeds,mean,sd,least,greatest\n"
    for cell in content["cells"]:
        for mask, name in itertools.product(SEEN_THROUGH, FIGURES):
            spread = cell["figures"][mask][name]
            yield _line(cell["masks"], cell["kind"], cell["positives"], mask, name, *spread.values())


def _run_table(runs: Sequence[Run]) -> Iterator[str]:
    """A line for each run, way of scoring and figure: the value, and its interval over patients."""
    yield "masks,loss,positives,seed,seen_through,figure,value,low,high\n"
    for run in runs:
        for mask, name in itertools.product(SEEN_THROUGH, FIGURES):
            share = run.result["masks"][mask][name]
            cell = run.cell
            yield _line(
                cell.masks, cell.kind, cell.positives, run.seed, mask, name, share["value"], share["low"], share["high"]
            )


def _line(*values: object) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(values)
    return text.getvalue()

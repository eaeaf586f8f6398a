"""What masks, the loss, and equal captions as positives contribute: training runs that differ only in them.

The design of figure 2 of the mask-guided CLIP's paper (masks off or on, softmax or sigmoid loss), and for the sigmoid
loss also the diagonal alone as positives, which is the paper's. Every run is trained and scored in a process of its
own, one after the other, so that nothing but its settings and its seed tells it from the others.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from sono.manifests.errors import UserError
from sono.manifests.outputs import refuse_foreign, refuse_inside_dataset
from sono.manifests.store import TEMPORARY, exclusive, write_atomically
from sono.training import recipes
from sono.training.data.dataset import read_description

from .design import CELLS, VARIED, Cell
from .page import figure, page
from .summary import Run, summary
from .tables import cell_table, run_table
from .task import FOLDERS, Task

_FILES = ("ablation.json", "ablation.csv", "runs.csv", "ablation.svg", "ablation.html")


def ablation(
    dataset: str,
    out: Path,
    recipe: str,
    settings: Sequence[str] = (),
    *,
    seeds: int = 3,
    split: str = "test",
    allow_trained: bool = False,
    cells: Sequence[Cell] = CELLS,
    notice: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Train and score every cell with every seed, and write tables, figure and page into ``out``.

    Finished runs are not repeated, and unfinished ones resume from their last checkpoint.

    Args:
        dataset: a folder that ``sono-curate build`` wrote, or a Hub id.
        recipe: its name.
        settings: changes to it, ``section.key=value``, the same for all runs.
        seeds: how many per cell, counted from the recipe's own.
        split: to score.
        allow_trained: score patients that the models were trained on, too; else they are an error.
        cells: some of ``CELLS``.
        notice: is told about every run that begins or is up to date.

    Returns:
        The content of ``ablation.json``.

    Raises:
        UserError: the settings contain one that is varied; ``out`` contains something else, or lies in a dataset; or a
            run failed, whose message the text repeats.
    """
    changed = _changed_recipe(recipe, settings)
    _check_folder(out)
    planned = [(cell, changed.train.seed + number) for number in range(seeds) for cell in cells]
    identity = read_description(dataset).identity
    out.mkdir(parents=True, exist_ok=True)
    with exclusive(out, str(out)):
        runs = []
        for number, (cell, seed) in enumerate(planned, start=1):
            task = Task(dataset, identity, out, recipe, tuple(settings), cell, seed, split, allow_trained)
            result = task.stored_result()
            notice(f"{number} of {len(planned)}: {task.name}" + ("" if result is None else ", up to date"))
            runs.append(Run(cell=cell, seed=seed, result=task.finish() if result is None else result))
        content = summary(runs, recipe=changed)
        _write(out, content, runs)
    return content


def _changed_recipe(name: str, settings: Sequence[str]) -> recipes.Recipe:
    for setting in settings:
        key = setting.partition("=")[0]
        if key in VARIED[:-1]:
            raise UserError(f"--set {key}: an ablation varies this setting itself", fix="leave it out")
    return recipes.override(recipes.find(name), settings)


def _check_folder(out: Path) -> None:
    refuse_inside_dataset(out)
    refuse_foreign(out, {".lock", *_FILES, *FOLDERS}, "an ablation")
    for folder in FOLDERS:
        for path in (out / folder).glob("*"):
            if not path.name.startswith(("masks-", TEMPORARY)):
                raise UserError(
                    f"'{folder}/{path.name}' does not belong to an ablation", where=str(out), fix="name a new folder"
                )


def _write(out: Path, content: Mapping[str, Any], runs: Sequence[Run]) -> None:
    texts = [
        json.dumps(content, indent=2),
        "".join(cell_table(content)),
        "".join(run_table(runs)),
        figure(content),
        page(content),
    ]
    for name, text in zip(_FILES, texts, strict=True):
        write_atomically(out / name, lambda file, text=text: file.write(text.encode()))  # type: ignore[misc]

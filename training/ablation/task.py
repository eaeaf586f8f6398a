"""One training run of an ablation, from its settings to its result."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sono.manifests.errors import UserError
from sono.manifests.filenames import evaluation_file
from sono.manifests.store import write_atomically
from sono.training import recipes
from sono.training.data.dataset import read_description

from .design import Cell

FOLDERS = RUNS, RESULTS, LOGS = "runs", "results", "logs"
"""Folders for the training runs, for what each of them scored, and for what each of them printed."""

_START_AGAIN = "restore it, or start the ablation again in a new folder"


@dataclass(frozen=True)
class Task:
    """A cell with a seed: trained, and scored with and without the dataset's true masks.

    ``identity`` is that of the dataset when the ablation began.
    """

    dataset: str
    identity: Mapping[str, str]
    out: Path
    recipe: str
    settings: tuple[str, ...]
    cell: Cell
    seed: int
    split: str
    allow_trained: bool

    @property
    def name(self) -> str:
        """Of its folder and files."""
        return f"{self.cell.name}-seed-{self.seed}"

    @property
    def run(self) -> Path:
        """The folder of the training run."""
        return self.out / RUNS / self.name

    def stored_result(self) -> Mapping[str, Any] | None:
        """What an earlier call found, with these settings and on this dataset as it is now; else None."""
        if not self._result_file.exists():
            return None
        content = json.loads(self._result_file.read_bytes())
        result: Mapping[str, Any] = content["result"]
        is_same = (
            recipes.first_difference(recipes.from_flat(content["recipe"]), self._full_recipe()) is None
            and result["dataset"] == self.identity
            and result["split"] == self.split
            and (self.allow_trained or not result["trained_on"]["patients"])
        )
        return result if is_same else None  # ``pretrain`` or ``evaluate`` say what differs

    def finish(self) -> Mapping[str, Any]:
        """Train and score, as far as that is not done; returns the result.

        Raises:
            UserError: a command failed, and the text repeats its last line; or the dataset was replaced meanwhile.
        """
        settings = [part for setting in self._all_settings() for part in ("--set", setting)]
        self._call("pretrain", self.dataset, self.run, "--recipe", self.recipe, "--resume", *settings)
        allowed = ["--allow-trained"] if self.allow_trained else []
        self._call("evaluate", self.run, self.dataset, "--mask", "both", "--split", self.split, *allowed)
        if read_description(self.dataset).identity != self.identity:
            raise UserError("the dataset was replaced during the ablation", where=self.dataset, fix=_START_AGAIN)
        file = evaluation_file(self.run, self.identity, f"{self.split}-both")
        result: Mapping[str, Any] = json.loads(file.read_bytes())
        text = json.dumps({"recipe": recipes.flatten(self._full_recipe()), "result": result}).encode()
        self._result_file.parent.mkdir(exist_ok=True)
        write_atomically(self._result_file, lambda file: file.write(text))
        return result

    @property
    def _result_file(self) -> Path:
        """Written when both are done: a run that was stopped may have been scored separately, and is not finished."""
        return self.out / RESULTS / f"{self.name}.json"

    def _full_recipe(self) -> recipes.Recipe:
        return recipes.override(recipes.find(self.recipe), self._all_settings())

    def _all_settings(self) -> list[str]:
        return [*self.settings, *self.cell.settings, f"train.seed={self.seed}"]

    def _call(self, *arguments: object) -> None:
        """``sono-train`` in a process of its own; its output goes to a log, and the last line into an error."""
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
            lines = log.read_bytes()[before:].decode(errors="replace").strip().splitlines() or ["it printed nothing"]
            reason = lines[-1].removeprefix("sono-train: ")
            raise UserError(f"{self.name} ended with exit code {code}: {reason}", where=str(log))

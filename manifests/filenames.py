"""Names of files that one program writes and the other reads: a dataset's and a training run's."""

from __future__ import annotations

from pathlib import Path

MARKER = "sono.json"
"""Describes a dataset or a checkpoint. Written last, so a folder that has it is complete."""

RUN_LOG = "log.csv"
"""One row per logged step of a training run."""

EVALUATION_FOLDER = "evaluation"


def evaluation_file(run: Path, name: str) -> Path:
    """Where ``sono-train`` writes the result ``name`` of a run."""
    return run / EVALUATION_FOLDER / f"{name}.json"


def dataset_name(source: str) -> str:
    """What people call a dataset: its folder's name, or its id on the Hub."""
    path = Path(source)
    return path.resolve().name if path.is_dir() else source

"""Names of files that one program writes and the other reads: a dataset's and a training run's."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ANSWERS_FILE = "language_model.sqlite"
"""In a workspace: what a language model has answered about texts of records, by the hashes of the requests."""

MARKER = "sono.json"
"""Describes a dataset or a checkpoint. Written last, so a folder that has it is complete."""

RUN_LOG = "log.csv"
"""One row per logged step of a training run."""

VALIDATION_LOG = "validation.csv"
"""One row per dataset and validated step of a training run."""

EVALUATION_FOLDER = "evaluation"


def evaluation_file(run: Path, dataset: Mapping[str, Any], name: str) -> Path:
    """Where ``sono-train`` writes the result ``name`` of a run, in a folder of its own for every dataset.

    Args:
        dataset: has ``name`` and ``fingerprint``.
    """
    return run / EVALUATION_FOLDER / dataset_label(dataset) / f"{name}.json"


def dataset_label(dataset: Mapping[str, Any]) -> str:
    """Tells a dataset from others in names of files, also from one of the same name with other content."""
    name = re.sub(r"[^\w.-]+", "-", dataset["name"])
    return f"{name}-{dataset['fingerprint'][:12]}"


def dataset_name(source: str) -> str:
    """What people call a dataset: its folder's name, or its id on the Hub."""
    path = Path(source)
    return path.resolve().name if path.is_dir() else source

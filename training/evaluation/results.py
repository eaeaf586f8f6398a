"""Where results of an evaluation lie, and what all of them say of the model and the data."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sono.manifests.filenames import evaluation_file
from sono.manifests.store import write_atomically
from sono.training.data.dataset import Frames
from sono.training.features.encoder import Encoder


def describe(encoder: Encoder, frames: Frames, resamples: int, seed: int) -> dict[str, Any]:
    """What was scored, on what, and how intervals were made."""
    return {
        "split": frames.split,
        "checkpoint": encoder.checkpoint,
        "dataset": {"source": frames.description.source, "fingerprint": frames.description.fingerprint},
        "bootstrap": {"over": "patients", "resamples": resamples, "seed": seed},
    }


def write_result(run: Path, name: str, result: Mapping[str, Any]) -> None:
    text = json.dumps(result, indent=2).encode()
    write_atomically(evaluation_file(run, name), lambda file: file.write(text))

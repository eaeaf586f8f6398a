"""Where the result of a measurement is written."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sono.manifests.filenames import evaluation_file
from sono.manifests.store import write_atomically


def write_result(run: Path, name: str, result: Mapping[str, Any]) -> None:
    """Write ``RUN/evaluation/<dataset>/<name>.json``, in the folder of the dataset that ``result`` names."""
    text = json.dumps(result, indent=2).encode()
    write_atomically(evaluation_file(run, result["dataset"], name), lambda file: file.write(text))

"""The gate that an exported model passes before it is published: it lists everything that is wrong."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sono.manifests.errors import UserError
from sono.manifests.publishable import (
    CARD,
    MODEL_FILES,
    MODEL_FORMATS,
    TRAINED_PATIENTS,
    LocalFile,
    Refusal,
    check_files,
    check_licence,
)


def refusals(folder: Path, files: Sequence[LocalFile]) -> list[Refusal]:
    """Why the model must not be published; empty if it may.

    Raises:
        UserError: it is no export.
    """
    present = {file.path for file in files}
    if not any(needed & present for needed in MODEL_FORMATS):
        raise UserError("this is no exported model", where=str(folder), fix="run sono-train export RUN EXPORT first")
    found: list[Refusal] = []
    if not any(needed <= present for needed in MODEL_FORMATS) or not {CARD, TRAINED_PATIENTS} <= present:
        found.append(Refusal("complete", "files of the export are missing", "run sono-train export again"))
    found += check_files(folder, MODEL_FILES)
    found += check_licence(folder, f"add 'license: NAME' to the first lines of {CARD}")
    return found

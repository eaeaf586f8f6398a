"""What a withdrawal takes out, by key, noted before it begins: if it breaks off, the next run finds all of it again.

What depends on a patient is found by the patient's frames and statements, and these may be the first that is gone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sono.manifests.errors import UserError
from sono.manifests.store import make_private, write_atomically
from sono.manifests.withdrawn import PATIENT_COLUMNS, PROOFS, read_withdrawn

if TYPE_CHECKING:
    import duckdb

NOTED: Mapping[str, Sequence[str]] = {
    "gone_known": PATIENT_COLUMNS,
    "gone_patients": ("patient_key",),
    "gone_studies": ("study_key",),
    "gone_sources": ("source_key",),
    "gone_regions": ("region_id",),
    "gone": ("frame_id",),
}
"""Tables of a withdrawal's database, and their columns, which hold keys alone."""

Begun = Mapping[str, Sequence[Sequence[str | None]]]
"""The rows of each table of ``NOTED``; empty if no withdrawal has broken off."""


def read_begun(workspace: Path) -> Begun:
    """What a withdrawal that broke off has to take out. Nothing counts as long as no list names its patients.

    Raises:
        UserError: the note is damaged.
    """
    path = _path(workspace)
    if not path.exists() or not read_withdrawn(workspace).unfinished:
        return {}
    try:
        content = json.loads(path.read_bytes())
        return {
            name: [tuple(None if key is None else str(key) for key in row) for row in content[name]] for name in NOTED
        }
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            "what an interrupted withdrawal noted is damaged",
            where=str(path),
            fix="put a copy from your backup in its place, or move it away and run withdraw again",
        ) from error


def note_begun(workspace: Path, database: duckdb.DuckDBPyConnection) -> None:
    """Write what the withdrawal is about to take out; ``database`` has the tables of ``NOTED``."""
    content = {name: sorted(database.execute(f"FROM {name}").fetchall(), key=repr) for name in NOTED}
    make_private(_path(workspace).parent)
    write_atomically(_path(workspace), lambda file: file.write(json.dumps(content).encode() + b"\n"), mode=0o600)


def forget_begun(workspace: Path) -> None:
    """Remove the note, once the withdrawal is finished."""
    _path(workspace).unlink(missing_ok=True)


def _path(workspace: Path) -> Path:
    return workspace / PROOFS / ".begun.json"

"""Lists the files that were left out, by name, for someone who has their folders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sono.manifests.schemas import EXCLUSIONS
from sono.manifests.workspace import Workspace

from .files import find_files


@dataclass(frozen=True)
class NamedExclusion:
    """One row of ``exclusions``; ``name`` is the file's path below its folder, where that folder was given."""

    source_key: str
    frame_index: int | None
    stage: str
    reason: str
    message: str
    name: str | None


def list_exclusions(workspace: Workspace, sources: Sequence[Path]) -> list[NamedExclusion]:
    """Everything that was left out, sorted by stage and reason.

    File names come from the folders in ``sources``, because the workspace stores none. Nothing is written.

    Raises:
        UserError: a folder is missing or empty.
    """
    names = {file.source_key: file.relative for source in sources for file in find_files(source, workspace.keys)}
    rows = workspace.store.read_all(EXCLUSIONS).to_pylist()
    rows.sort(key=lambda row: (row["stage"], row["reason"], row["source_key"], row["frame_index"] or 0))
    return [NamedExclusion(**row, name=names.get(row["source_key"])) for row in rows]

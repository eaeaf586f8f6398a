"""Which tables and which files an audit was about: it says nothing about others."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from sono.curation.ingest.files import SourceFile
from sono.manifests.schemas import TABLES
from sono.manifests.store import damaged, part_name
from sono.manifests.workspace import Workspace

_MAGIC = b"PAR1"


def tables_fingerprint(workspace: Workspace) -> str:
    """Changes when a part of any table does, however it was written."""
    parts = [
        [table.name, part_name(path), part_footer(path)]
        for table in TABLES.values()
        for path in workspace.store.paths(table)
    ]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def sources_fingerprint(workspace: Workspace, files: Sequence[SourceFile]) -> str:
    """Changes when a file is added, removed or written anew; keyed, because it is made of file names."""
    listing = sorted([file.source_key, file.relative, file.size, file.mtime_ns] for file in files)
    return workspace.keys.content(json.dumps(listing))


def part_footer(path: Path) -> str:
    """A digest of a part's size and footer, which has the size and the range of every column, and its fingerprint.

    Copying a workspace leaves it as it is, and it costs nothing next to reading images.

    Raises:
        UserError: it is no Parquet file.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        file.seek(max(size - 8, 0))
        end = file.read(8)
        length = int.from_bytes(end[:4], "little")
        if end[4:] != _MAGIC or length + 12 > size:
            raise damaged(path)
        file.seek(size - 8 - length)
        return hashlib.sha256(size.to_bytes(8, "little") + file.read(length)).hexdigest()

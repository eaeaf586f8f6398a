"""One server per workspace: who else wants it is told where it runs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sono.manifests.journal_file import FOLDER
from sono.manifests.store import exclusive, make_private
from sono.manifests.workspace import Workspace

RUNNING = "server.json"
"""In the folder of the journal, while a server runs: its address, without the token."""


@contextmanager
def reviewing_alone(workspace: Workspace, fix: str) -> Iterator[None]:
    """Hold the workspace for one server: two would not know of each other's queue.

    Raises:
        UserError: another one holds it; ``fix`` says what to do.
    """
    folder = workspace.path / FOLDER
    make_private(folder)

    def held() -> str:
        return f"this workspace is being reviewed already{_where(folder)}"

    with exclusive(folder, str(workspace.path), held=held, fix=fix):
        yield


def _where(folder: Path) -> str:
    try:
        return f" at {json.loads((folder / RUNNING).read_text())['address']}"
    except (OSError, ValueError, KeyError):
        return ""

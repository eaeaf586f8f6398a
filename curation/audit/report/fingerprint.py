"""Which files of an archive an audit was about: it says nothing about others."""

from __future__ import annotations

import json
from collections.abc import Sequence

from sono.curation.ingest.files import SourceFile
from sono.manifests.workspace import Workspace


def sources_fingerprint(workspace: Workspace, files: Sequence[SourceFile]) -> str:
    """Changes when a file is added, removed or written anew; keyed, because it is made of file names."""
    listing = sorted([file.source_key, file.relative, file.size, file.mtime_ns] for file in files)
    return workspace.keys.content(json.dumps(listing))

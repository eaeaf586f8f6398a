"""Reads a published dataset back as others will: by ``datasets``, from the Hub, one row of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq

from sono.manifests.errors import UserError
from sono.manifests.filenames import MARKER
from sono.manifests.hub import Remote, TransientError

from . import first_row


def row_reader(folder: Path) -> Callable[[Remote, str], None]:
    """What ``publish_revision`` calls to read the first row of the revision that ``folder`` was sent as."""
    split = next(iter(json.loads((folder / MARKER).read_bytes())["splits"]))
    shard = min((folder / "data").glob(f"{split}-*.parquet"))
    with pq.ParquetFile(shard) as file:
        expected = next(file.iter_batches(1, columns=["frame_id"]))["frame_id"][0].as_py()

    def read(remote: Remote, commit: str) -> None:
        if _first_frame(remote, commit, split) != expected:
            raise UserError(
                "datasets reads another first row than this folder has",
                where=remote.url,
                fix="build again, and publish that",
            )

    return read


def _first_frame(remote: Remote, commit: str, split: str) -> str:
    """By a process of its own: see ``first_row``.

    Raises:
        UserError: ``datasets`` cannot read it.
        TransientError: the connection failed.
    """
    token = {"HF_TOKEN": remote.api.token} if isinstance(remote.api.token, str) else {}
    with tempfile.TemporaryDirectory(prefix="sono-publish-") as cache:
        done = subprocess.run(
            [sys.executable, "-m", first_row.__name__, remote.repo_id, commit, split, cache],
            env={**os.environ, "HF_ENDPOINT": str(remote.api.endpoint), **token},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
    said = str(done.stdout).strip()
    if done.returncode == 0:
        return said
    if done.returncode == first_row.NO_CONNECTION:
        raise TransientError("the connection failed", where=remote.url, fix="run the same command again")
    raise UserError(
        f"datasets cannot read it: {said or f'it ended with {done.returncode}'}",
        where=remote.url,
        fix="build again, and publish that",
    )

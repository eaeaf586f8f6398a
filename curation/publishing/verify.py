"""Reads a published dataset back as others will: by ``datasets``, from the Hub, one row of it."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq

from sono.manifests.errors import UserError, first_line
from sono.manifests.filenames import MARKER
from sono.manifests.hub import Remote, TransientError


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
    import datasets

    with tempfile.TemporaryDirectory(prefix="sono-publish-") as cache:
        try:
            rows = datasets.load_dataset(
                remote.repo_id, revision=commit, split=split, streaming=True, token=remote.api.token, cache_dir=cache
            )
            return str(next(iter(rows))["frame_id"])
        except ConnectionError as error:
            raise TransientError("the connection failed", where=remote.url, fix="run the same command again") from error
        except (datasets.exceptions.DatasetsError, StopIteration, KeyError, TypeError) as error:
            raise UserError(
                f"datasets cannot read it: {first_line(error)}", where=remote.url, fix="build again, and publish that"
            ) from error

"""What ``sono.json`` says about a dataset's content: the digest of every shard, and a fingerprint of everything."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

FORMAT = 2

_CONTENT = ("format", "planes", "structures", "splits", "pseudonyms")


def describe_shard(path: Path, rows: int) -> dict[str, Any]:
    """What the marker lists about a shard; reads all of it."""
    with path.open("rb") as file:
        return {"rows": rows, "bytes": path.stat().st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def fingerprint_of(marker: Mapping[str, Any]) -> str:
    """The SHA-256 of everything in a marker that decides what a reader of the dataset gets.

    Shards enter with their digests: equal fingerprints are equal bytes.
    """
    content = {name: marker.get(name) for name in _CONTENT}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def seal_of(marker: Mapping[str, Any], keyed: Callable[[str], str]) -> str:
    """Shows to whoever has the workspace that nobody has changed the marker since ``build`` wrote it.

    The marker lists every Parquet file with its digest, so this holds for their content, too.

    Args:
        keyed: a keyed digest, of the dataset's own key.
    """
    content = {name: value for name, value in marker.items() if name != "seal"}
    return keyed(f"seal {json.dumps(content, sort_keys=True)}")


def listed_files(marker: object) -> Iterator[tuple[str, str]]:
    """Every Parquet file that a marker lists, wherever in it, with its SHA-256."""
    if isinstance(marker, Mapping):
        for name, inner in marker.items():
            if str(name).endswith(".parquet") and isinstance(inner, Mapping):
                yield name, str(inner.get("sha256"))
            else:
                yield from listed_files(inner)

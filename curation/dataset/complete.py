"""Completes a dataset: what describes it is written, and last the marker, with which it is finished."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from sono.manifests.dataset_marker import FORMAT, describe_shard, fingerprint_of
from sono.manifests.filenames import MARKER
from sono.manifests.schemas import SPLITS
from sono.manifests.splits import SplitPlan
from sono.manifests.store import write_atomically
from sono.manifests.vocabulary import Vocabulary

from .card.page import card
from .config import PublishSection
from .configurations import CONFIGURATIONS, Configuration
from .store import BUILDING, DatasetStore, count_vanished, split_of


def complete(
    out: Path,
    vocabulary: Vocabulary,
    section: PublishSection,
    plan: SplitPlan,
    left_out: Mapping[str, int],
    pseudonyms: str,
) -> dict[str, int]:
    """Write the card and then the marker.

    Args:
        pseudonyms: ``DatasetKeys.id``.

    Returns:
        Frames by split.
    """
    store = DatasetStore(out)
    listed = {configuration.name: _describe(store, configuration) for configuration in CONFIGURATIONS}
    counts = {split: listed["default"].get(split, {"rows": 0})["rows"] for split in SPLITS}
    manifest = {
        "format": FORMAT,
        "planes": {plane.id: plane.name for plane in vocabulary.planes.values()},
        "structures": {structure.id: structure.name for structure in vocabulary.structures.values()},
        "splits": listed["default"],
        "configurations": {name: splits for name, splits in listed.items() if name != "default"},
        "split_plan": asdict(plan),
        "left_out": dict(left_out),
        "regions_vanished": count_vanished(store),
        "pseudonyms": pseudonyms,
        "created_by": f"sono-curate {version('sono-curate')}",
    }
    manifest["fingerprint"] = fingerprint_of(manifest)
    _write(out / "README.md", card(store, vocabulary, section, counts, left_out, str(manifest["fingerprint"])))
    _write(out / MARKER, json.dumps(manifest, indent=2))
    (out / BUILDING).unlink(missing_ok=True)
    return counts


def _describe(store: DatasetStore, configuration: Configuration) -> dict[str, Any]:
    """By split the rows of a configuration and its files, as the marker lists them; without splits that are empty."""
    splits: dict[str, dict[str, Any]] = {}
    for path in store.files(configuration):
        split = splits.setdefault(split_of(path), {"rows": 0, "shards": {}})
        rows = pq.read_metadata(path).num_rows
        split["rows"] += rows
        split["shards"][f"{configuration.folder}/{path.name}"] = describe_shard(path, rows)
    return splits


def _write(path: Path, text: str) -> None:
    write_atomically(path, lambda file: file.write(text.encode()))

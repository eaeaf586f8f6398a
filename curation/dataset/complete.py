"""Completes a dataset: what describes it is written, and last the marker, with which it is finished."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
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
from sono.manifests.workspace import Workspace

from .anonymity import Combination
from .card.page import FIGURES, card
from .config import PublishSection
from .configurations import CONFIGURATIONS, Configuration
from .rows import RowOptions
from .store import BUILDING, DatasetStore, count_vanished, split_of


def complete(
    workspace: Workspace,
    out: Path,
    section: PublishSection,
    options: RowOptions,
    plan: SplitPlan,
    left_out: Mapping[str, int],
    combinations: Sequence[Combination],
) -> dict[str, int]:
    """Write the card and then the marker.

    Args:
        combinations: of ``anonymity``.

    Returns:
        Frames by split.
    """
    store, vocabulary = DatasetStore(out), workspace.vocabulary
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
        "pseudonyms": options.keys.id,
        "created_by": f"sono-curate {version('sono-curate')}",
    }
    manifest["fingerprint"] = fingerprint_of(manifest)
    written = card(workspace, store, section, options, left_out, combinations, str(manifest["fingerprint"]))
    _write(out / "README.md", written.text.encode())
    _write_figures(out, written.figures)
    _write(out / MARKER, json.dumps(manifest, indent=2).encode())
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


def _write_figures(out: Path, figures: Mapping[str, bytes]) -> None:
    """Write the card's figures, and remove those of an older one."""
    for path in (out / FIGURES).glob("*.png"):
        if f"{FIGURES}/{path.name}" not in figures:
            path.unlink()
    for name, png in figures.items():
        _write(out / name, png)


def _write(path: Path, content: bytes) -> None:
    write_atomically(path, lambda file: file.write(content))

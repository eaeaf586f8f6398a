"""Completes a dataset: what describes it is written, and last the marker, with which it is finished."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from sono.manifests.dataset_marker import FORMAT, describe_shard, fingerprint_of, seal_of
from sono.manifests.filenames import MARKER
from sono.manifests.pulled import Pulled, read_pulled
from sono.manifests.schemas import SPLITS
from sono.manifests.splits import SplitPlan
from sono.manifests.store import write_atomically
from sono.manifests.workspace import Workspace

from .anonymity import Combination
from .config import PublishSection
from .description.card.content import read_content
from .description.card.curated import Curated, read_curated
from .description.card.page import FIGURES, card
from .description.croissant import croissant
from .description.provenance import provenance
from .description.revisions import write_changelog
from .shards.configurations import CONFIGURATIONS, Configuration, listed_name
from .shards.rows import RowOptions
from .store import BUILDING, DatasetStore, count_vanished, split_of

CROISSANT = "croissant.json"
PROVENANCE = "provenance.json"


def complete(
    workspace: Workspace,
    out: Path,
    name: str,
    section: PublishSection,
    options: RowOptions,
    plan: SplitPlan,
    left_out: Mapping[str, int],
    combinations: Sequence[Combination],
    text: Mapping[str, int],
    built_from: str,
    described: Mapping[str, Mapping[str, Any]],
) -> dict[str, int]:
    """Write the card, croissant.json, provenance.json, CHANGELOG.md, and then the marker.

    Args:
        name: of the dataset.
        combinations: of ``anonymity``.
        text: how many frames have which ``burned_in_text``.
        built_from: of ``latest.tables_id``, before the first shard was written.
        described: files that were written or compared with the marker just now, as it lists them: they are not read
            again.

    Returns:
        Frames by split.
    """
    store, vocabulary, pulled = DatasetStore(out), workspace.vocabulary, read_pulled(workspace.path)
    listed = {configuration.name: _describe(store, configuration, described) for configuration in CONFIGURATIONS}
    counts = {split: listed["default"].get(split, {"rows": 0})["rows"] for split in SPLITS}
    manifest = {
        "format": FORMAT,
        "planes": {plane.id: plane.name for plane in vocabulary.planes.values()},
        "structures": {structure.id: structure.name for structure in vocabulary.structures.values()},
        "splits": listed["default"],
        "configurations": {name: splits for name, splits in listed.items() if name != "default"},
        "split_plan": pulled.split_plan if pulled else options.disclosure.split_plan(plan, options.keys),
        "left_out": dict(left_out),
        "regions_vanished": count_vanished(store),
        "pseudonyms": options.keys.id,
        "created_by": f"sono-curate {version('sono-curate')}",
    }
    manifest["fingerprint"] = fingerprint_of(manifest)
    fingerprint = str(manifest["fingerprint"])
    content, curated = read_content(store, vocabulary), read_curated(workspace)
    manifest |= {"text_in_pixels": dict(sorted(text.items())), "audit": _audited(curated, pulled)}
    manifest |= {"pulled_from": pulled.statement()} if pulled else {}
    manifest |= {"built_from": built_from}
    manifest["seal"] = seal_of(manifest, options.keys.content)
    written = card(vocabulary, store, section, options, left_out, combinations, fingerprint, content, curated, pulled)
    _write(out / "README.md", written.text.encode())
    _write_figures(out, written.figures)
    _write_json(out / CROISSANT, croissant(name, section, content, curated, listed))
    _write_json(out / PROVENANCE, provenance(workspace, section, options, plan, left_out))
    write_changelog(store, content, fingerprint)
    _write_json(out / MARKER, manifest)
    (out / BUILDING).unlink(missing_ok=True)
    return counts


def _audited(curated: Curated, pulled: Pulled | None) -> Mapping[str, Any] | None:
    """What whoever pulls this dataset can know of an audit; of a pulled one, it is its origin's."""
    if pulled is not None:
        return pulled.audit
    audit = curated.audit
    if audit is None:
        return None
    passed = audit.report.passed and audit.up_to_date
    return {"passed": passed, "files": audit.report.files, "frames": audit.report.frames}


def _describe(
    store: DatasetStore, configuration: Configuration, described: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """By split the rows of a configuration and its files, as the marker lists them; without splits that are empty."""
    splits: dict[str, dict[str, Any]] = {}
    for path in store.files(configuration):
        split = splits.setdefault(split_of(path), {"rows": 0, "shards": {}})
        name = listed_name(configuration, path)
        file = described[name] if name in described else describe_shard(path, pq.read_metadata(path).num_rows)
        split["rows"] += file["rows"]
        split["shards"][name] = file
    return splits


def _write_figures(out: Path, figures: Mapping[str, bytes]) -> None:
    """Write the card's figures, and remove those of an older one."""
    for path in (out / FIGURES).glob("*.png"):
        if f"{FIGURES}/{path.name}" not in figures:
            path.unlink()
    for name, png in figures.items():
        _write(out / name, png)


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    _write(path, json.dumps(content, indent=2, ensure_ascii=False).encode() + b"\n")


def _write(path: Path, content: bytes) -> None:
    write_atomically(path, lambda file: file.write(content))

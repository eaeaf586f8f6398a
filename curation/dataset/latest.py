"""Which dataset was built last from a workspace, and whether its tables are still those it was built from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sono.manifests.dataset_keys import DatasetKeys
from sono.manifests.filenames import MARKER
from sono.manifests.schemas import CAPTIONS, FRAMES, QC, RECORDS, REGIONS
from sono.manifests.splits import SplitPlan
from sono.manifests.store import write_atomically
from sono.manifests.vocabulary import vocabulary_sha256
from sono.manifests.workspace import Workspace

from .accepted_regions import accepted_parts
from .config import publish_section
from .shards.images import ImageFormat
from .shards.rows import RowOptions

_FILE = ".dataset"


@dataclass(frozen=True)
class LatestDataset:
    """The dataset that was built last; ``options`` are those of ``sono-curate build``, where they are no defaults."""

    path: Path
    options: Sequence[str]
    up_to_date: bool


def remember_dataset(workspace: Workspace, out: Path, options: Sequence[str]) -> None:
    """Note in the workspace that ``out`` holds the dataset of its tables as they are now."""
    path = out.resolve()
    content = {
        "path": str(path),
        "options": list(options),
        "tables_sha256": _tables_sha256(workspace),
        "marker_sha256": _marker_sha256(path),
    }
    write_atomically(workspace.path / _FILE, lambda file: file.write(json.dumps(content, indent=2).encode()))


def latest_dataset(workspace: Workspace) -> LatestDataset | None:
    """What ``remember_dataset`` noted last; None if nothing was built, or the dataset's folder is gone."""
    try:
        content = json.loads((workspace.path / _FILE).read_bytes())
    except FileNotFoundError:
        return None
    path = Path(content["path"])
    if not path.is_dir():
        return None
    unchanged = _marker_sha256(path) == content["marker_sha256"]
    return LatestDataset(path, content["options"], unchanged and _tables_sha256(workspace) == content["tables_sha256"])


def build_options(out: Path, name: str, plan: SplitPlan, rows: RowOptions, *, allow_unchecked_text: bool) -> list[str]:
    """The options of ``sono-curate build`` that ask for this, without those that are defaults."""
    default, png = SplitPlan(), ImageFormat()
    options: list[str] = []
    if rows.keys.linkable:
        options.append("--linkable")
    elif name != out.resolve().name:
        options += ["--name", name]
    if rows.max_side_px is not None:
        options += ["--max-side", str(rows.max_side_px)]
    if rows.image_format.name != png.name:
        options += ["--image-format", rows.image_format.name]
    if rows.image_format.quality != png.quality:
        options += ["--quality", str(rows.image_format.quality)]
    if plan.holdout_center is not None:
        options += ["--holdout-center", plan.holdout_center]
    for option in ("validation", "test", "seed"):
        if getattr(plan, option) != getattr(default, option):
            options += [f"--{option}", str(getattr(plan, option))]
    return options + (["--allow-unchecked-text"] if allow_unchecked_text else [])


def tables_id(workspace: Workspace, keys: DatasetKeys) -> str:
    """Changes when anything that ``build`` reads from the workspace does; keyed, so that nobody else can compare it."""
    return keys.content(_tables_sha256(workspace))


def _tables_sha256(workspace: Workspace) -> str:
    """Changes when anything that ``build`` reads from the workspace does."""
    accepted = set(accepted_parts(workspace.store))
    fingerprints = [
        [table.name, info.name, info.content_id, info.rows]  # a withdrawal changes only the last
        for table in (FRAMES, QC, REGIONS, RECORDS, CAPTIONS)
        for info in workspace.store.parts(table).values()
        if table is not REGIONS or info.name in accepted
    ]
    content = [vocabulary_sha256(workspace.vocabulary), publish_section(workspace).model_dump(), fingerprints]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def _marker_sha256(dataset: Path) -> str | None:
    """None while the dataset is incomplete."""
    try:
        return hashlib.sha256((dataset / MARKER).read_bytes()).hexdigest()
    except FileNotFoundError:
        return None

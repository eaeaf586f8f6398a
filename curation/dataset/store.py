"""A dataset's folder: the shards of its configurations, and what is in it while it is written."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from sono.manifests.dataset_marker import FORMAT, describe_shard
from sono.manifests.errors import UserError
from sono.manifests.filenames import MARKER
from sono.manifests.schemas import SPLITS
from sono.manifests.store import TEMPORARY, PartInfo, read_info, write_atomically

from .shards.configurations import CONFIGURATIONS, DEFAULT, REGIONS, Configuration
from .shards.write import VANISHED

BUILDING = "sono.building"


@dataclass(frozen=True)
class DatasetStore:
    """The files of a dataset: ``data/<split>-<number>.parquet``, and those of the other configurations."""

    root: Path

    def shards(self) -> dict[str, PartInfo]:
        """By name what the shards of ``default`` say about themselves."""
        return {path.stem: read_info(path) for path in self.files(DEFAULT)}

    def names(self) -> set[str]:
        """Of shards that any configuration has a file of: a killed build may leave one without that of ``default``."""
        return {path.stem for configuration in CONFIGURATIONS for path in self.files(configuration)}

    def files(self, configuration: Configuration) -> list[Path]:
        """The files of a configuration, split by split in the order of ``SPLITS``.

        Raises:
            UserError: one belongs to no split.
        """
        files = sorted((self.root / configuration.folder).glob("*.parquet"))
        for path in files:
            if split_of(path) not in SPLITS:
                raise UserError("build did not write this file", where=str(path), fix="move it away, and run again")
        return sorted(files, key=lambda path: SPLITS.index(split_of(path)))

    def remove(self, name: str) -> None:
        """Remove a shard; its file of ``default`` first, without which the others count for nothing."""
        for configuration in CONFIGURATIONS:
            (self.root / configuration.folder / f"{name}.parquet").unlink(missing_ok=True)


def split_of(path: Path) -> str:
    """The split that a file is of."""
    return path.name.partition("-")[0]


def claim(out: Path) -> dict[str, Mapping[str, Any]]:
    """Mark ``out`` as being written; remove what killed runs left behind, and shards that differ from the marker's.

    A folder that was empty, or that another version wrote, is closed to other users; later its mode is its owner's
    choice.

    Returns:
        The files that are as the marker lists them, with what it lists.

    Raises:
        UserError: it holds something that ``build`` did not write.
    """
    present = {path.name for path in out.iterdir()} - {".lock"}
    if present and (not present & {MARKER, BUILDING} or _is_checkpoint(out)):
        raise UserError(
            "the folder contains something that build did not write", where=str(out), fix="name a new folder"
        )
    listed = _listed_files(out)
    if listed is None:
        out.chmod(0o700)
    write_atomically(out / BUILDING, lambda file: file.write(b"sono-curate build is at work, or was interrupted\n"))
    store = DatasetStore(out)
    for configuration in CONFIGURATIONS:
        for leftover in (out / configuration.folder).glob(f"{TEMPORARY}*"):
            leftover.unlink(missing_ok=True)
    described: dict[str, Mapping[str, Any]] = {}
    changed: set[str] = set()
    for name, file in (listed or {}).items():
        path = out / name
        if path.is_file() and file == describe_shard(path, _rows_of(path)):
            described[name] = file
        else:  # damaged, or changed by hand
            changed.add(path.stem)
    for shard in changed:
        store.remove(shard)
    return {name: file for name, file in described.items() if Path(name).stem not in changed}


def _rows_of(path: Path) -> int:
    """By its footer; -1 where that cannot be read."""
    try:
        rows: int = pq.read_metadata(path).num_rows
    except (pa.ArrowException, OSError):
        return -1
    return rows


def _is_checkpoint(out: Path) -> bool:
    """Whether the marker is that of a training run's checkpoint, which has the same name and lists no splits."""
    try:
        return "splits" not in json.loads((out / MARKER).read_bytes())
    except (OSError, ValueError):
        return False  # none, or damaged: ``build`` repairs its own


def _listed_files(out: Path) -> dict[str, dict[str, Any]] | None:
    """The files that a marker of this version lists; None if there is no such marker."""
    try:
        marker = json.loads((out / MARKER).read_bytes())
        if marker["format"] != FORMAT:
            return None
        configurations = [marker["splits"], *marker["configurations"].values()]
        return {
            name: shard
            for splits in configurations
            for split in splits.values()
            for name, shard in split["shards"].items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def count_vanished(store: DatasetStore) -> dict[str, int]:
    """By structure how many regions were left out, because no pixel of them was left."""
    counts: Counter[str] = Counter()
    for path in store.files(DEFAULT):
        counts.update(json.loads(pq.read_metadata(path).metadata[VANISHED]))
    return dict(sorted(counts.items()))


def count_regions(store: DatasetStore) -> int:
    """How many regions the dataset holds."""
    return sum(pq.read_metadata(path).num_rows for path in store.files(REGIONS))

"""A dataset's folder: its Parquet shards, its card, and the marker that says it is complete."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Set
from dataclasses import asdict, dataclass
from importlib import resources
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from sono.manifests.dataset_marker import FORMAT, describe_shard, fingerprint_of
from sono.manifests.errors import UserError
from sono.manifests.filenames import MARKER
from sono.manifests.query import query
from sono.manifests.schemas import DATASET, SPLITS, TableSpec
from sono.manifests.splits import SplitPlan
from sono.manifests.store import PartInfo, read_info, write_atomically, write_part
from sono.manifests.vocabulary import Vocabulary

from .stage import VANISHED

_BUILDING = "sono.building"
_ROW_GROUP_ROWS = 128  # a row group of frames stays far below the Hub viewer's limit of 286 MiB


@dataclass(frozen=True)
class DatasetStore:
    """The shards of a dataset, ``data/<split>-<number>-of-<count>.parquet``; a part is named like its file."""

    root: Path

    def parts(self, table: TableSpec) -> dict[str, PartInfo]:
        assert table is DATASET
        return {path.stem: read_info(path) for path in sorted((self.root / "data").glob("*.parquet"))}

    def write(self, table: TableSpec, info: PartInfo, content: pa.Table) -> None:
        write_part(
            self._path(info.name),
            table,
            info,
            content.replace_schema_metadata(None),
            metadata=content.schema.metadata,
            row_group_rows=_ROW_GROUP_ROWS,
        )

    def write_exclusions(self, info: PartInfo, content: pa.Table) -> None:
        assert content.num_rows == 0, "build leaves frames out before it writes, not while it does"

    def remove(self, table: TableSpec, name: str, stage: str) -> None:
        self._path(name).unlink(missing_ok=True)

    def remove_other_exclusions(self, stage: str, scope: str, names: Set[str]) -> None:
        """There are none."""

    def _path(self, name: str) -> Path:
        return self.root / "data" / f"{name}.parquet"


def claim(out: Path) -> None:
    """Mark ``out`` as being written; remove what killed runs left behind, and shards that differ from the marker's.

    A folder that was empty, or that another version wrote, is closed to other users; later its mode is its owner's
    choice.

    Raises:
        UserError: it holds something that ``build`` did not write.
    """
    present = {path.name for path in out.iterdir()} - {".lock"}
    if present and (not present & {MARKER, _BUILDING} or _is_checkpoint(out)):
        raise UserError(
            "the folder contains something that build did not write", where=str(out), fix="name a new folder"
        )
    listed = _listed_shards(out)
    if listed is None:
        out.chmod(0o700)
    write_atomically(out / _BUILDING, lambda file: file.write(b"sono-curate build is at work, or was interrupted\n"))
    for leftover in (out / "data").glob(".tmp-*"):
        leftover.unlink(missing_ok=True)
    for path in (out / "data").glob("*.parquet"):
        shard = (listed or {}).get(f"data/{path.name}")
        if shard and describe_shard(path, shard["rows"]) != shard:  # damaged, or changed by hand
            path.unlink()


def _is_checkpoint(out: Path) -> bool:
    """Whether the marker is that of a training run's checkpoint, which has the same name and lists no splits."""
    try:
        return "splits" not in json.loads((out / MARKER).read_bytes())
    except (OSError, ValueError):
        return False  # none, or damaged: ``build`` repairs its own


def complete(
    out: Path,
    store: DatasetStore,
    vocabulary: Vocabulary,
    plan: SplitPlan,
    left_out: Mapping[str, int],
    pseudonyms: str,
) -> dict[str, int]:
    """Write the card and then the marker, which makes the dataset complete.

    Args:
        pseudonyms: ``DatasetKeys.id``.

    Returns:
        Frames by split.
    """
    infos = store.parts(DATASET)
    shards: dict[str, dict[str, Any]] = {split: {} for split in SPLITS}
    for name, info in infos.items():
        file = f"data/{name}.parquet"
        shards[name.partition("-")[0]][file] = describe_shard(out / file, info.rows)
    counts = {split: sum(shard["rows"] for shard in listed.values()) for split, listed in shards.items()}
    vanished = count_vanished(store)
    manifest = {
        "format": FORMAT,
        "planes": {plane.id: plane.name for plane in vocabulary.planes.values()},
        "structures": {structure.id: structure.name for structure in vocabulary.structures.values()},
        "splits": {split: {"rows": counts[split], "shards": shards[split]} for split in SPLITS if counts[split]},
        "split_plan": asdict(plan),
        "left_out": dict(left_out),
        "regions_vanished": vanished,
        "pseudonyms": pseudonyms,
        "created_by": f"sono-curate {version('sono-curate')}",
    }
    manifest["fingerprint"] = fingerprint_of(manifest)
    card = _card(counts, left_out, vanished)
    write_atomically(out / "README.md", lambda file: file.write(card.encode()))
    write_atomically(out / MARKER, lambda file: file.write(json.dumps(manifest, indent=2).encode()))
    (out / _BUILDING).unlink(missing_ok=True)
    return counts


def _listed_shards(out: Path) -> dict[str, dict[str, Any]] | None:
    """The shards that a marker of this version lists; None if there is no such marker."""
    try:
        marker = json.loads((out / MARKER).read_bytes())
        if marker["format"] != FORMAT:
            return None
        return {name: shard for split in marker["splits"].values() for name, shard in split["shards"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _card(counts: Mapping[str, int], left_out: Mapping[str, int], vanished: Mapping[str, int]) -> str:
    """The dataset card.

    It has no ``configs`` section: ``datasets`` finds the splits by file name. With one, it would name its cache after
    the folder alone, and return one dataset's rows for another of the same name.
    """
    from jinja2 import Environment, StrictUndefined

    source = resources.files(__package__).joinpath("card.jinja").read_text(encoding="utf-8")
    template = Environment(undefined=StrictUndefined, autoescape=False, trim_blocks=True).from_string(source)
    return template.render(counts=counts, left_out=left_out, vanished=vanished)


def count_vanished(store: DatasetStore) -> dict[str, int]:
    """By structure how many regions were left out, because no pixel of them was left."""
    counts: Counter[str] = Counter()
    for path in (store.root / "data").glob("*.parquet"):
        counts.update(json.loads(pq.read_schema(path).metadata[VANISHED]))
    return dict(sorted(counts.items()))


def count_regions(store: DatasetStore) -> int:
    """How many regions the dataset holds."""
    paths = [str(path) for path in sorted((store.root / "data").glob("*.parquet"))]
    return int(query("SELECT sum(len(regions)) AS n FROM read_parquet($paths)", {"paths": paths})["n"][0].as_py() or 0)

"""Build: from a workspace's tables to a dataset that ``datasets.load_dataset`` and ``sono-train`` can read."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.compute as pc

from sono.manifests.dataset_keys import dataset_keys, remember_name
from sono.manifests.errors import UserError
from sono.manifests.filenames import MARKER
from sono.manifests.outputs import refuse_inside_dataset
from sono.manifests.pulled import read_pulled
from sono.manifests.schemas import SCHEMA_VERSION, SPLITS
from sono.manifests.splits import SplitPlan
from sono.manifests.stages import Crashed, Engine, Progress
from sono.manifests.store import PartInfo, exclusive, make_private
from sono.manifests.workspace import Workspace

from .anonymity import combinations, refuse_exact_ages, refuse_rare
from .complete import complete
from .config import publish_section
from .description.revisions import keep_previous
from .disclosure import Disclosure
from .latest import build_options, remember_dataset, tables_id
from .select import assign_splits, check_tables, pulled_splits, select
from .shards.configurations import schema_metadata
from .shards.cut import Shard, cut_shards
from .shards.images import ImageFormat
from .shards.rows import RowOptions
from .shards.write import ShardTask, WrittenShard, write_shard
from .store import DatasetStore, claim, count_regions, count_vanished

_MIN_SIDE_PX = 32
_VERSION = 9
"""Increased by hand whenever the same tables and options would give other shards."""

_PNG = ImageFormat()


@dataclass(frozen=True)
class BuildReport:
    """Frames and patients by split, regions, and how many frames were left out for which reason.

    ``regions_vanished`` counts, by structure, the regions left out because scaling left no pixel of them.
    """

    splits: Mapping[str, int]
    patients: Mapping[str, int]
    regions: int
    regions_vanished: Mapping[str, int]
    left_out: Mapping[str, int]
    shards_written: int
    shards_up_to_date: int


def build(
    workspace: Workspace,
    out: Path,
    *,
    plan: SplitPlan,
    name: str | None = None,
    linkable: bool = False,
    max_side_px: int | None = None,
    image_format: ImageFormat = _PNG,
    allow_unchecked_text: bool = False,
    engine: Engine,
    progress: Callable[[Progress], None] = lambda _: None,
) -> BuildReport:
    """Write the dataset of all accepted, captioned frames into ``out``, or bring it up to date.

    What a row says is decided by ``[publish]`` of the workspace's configuration.

    Args:
        plan: which patients go to which split.
        name: of the dataset, which decides its keys; if omitted, that of the folder ``out``.
        linkable: keep the workspace's keys, so that this dataset can be joined with others.
        max_side_px: frames with a longer side are scaled down to it, with their masks and pixel size.
        allow_unchecked_text: include frames whose pixels were not checked for burned-in text, because the caller knows
            that they show no names.

    Raises:
        UserError: ``out`` holds something else or lies in another dataset, no frame is left to write, the held-out
            center is unknown, too few patients share what is said of them, or captions say more than that.
    """
    refuse_inside_dataset(out)
    check_tables(workspace)
    if max_side_px is not None and max_side_px < _MIN_SIDE_PX:
        raise UserError(
            f"--max-side {max_side_px} leaves too little of the images", fix=f"give {_MIN_SIDE_PX} px or more"
        )
    name = out.resolve().name if name is None else name
    keys = dataset_keys(workspace, name, linkable=linkable)
    section = publish_section(workspace)
    options = RowOptions(keys, Disclosure.of(section), image_format, max_side_px)
    built_from = tables_id(workspace, keys)
    selection, left_out = select(workspace, allow_unchecked_text=allow_unchecked_text)
    if selection.num_rows == 0:
        raise _nothing_to_write(workspace, left_out)
    found = combinations(selection, options.disclosure, keys)
    refuse_rare(found, section.k_anonymity)
    refuse_exact_ages(workspace.store, selection, options.disclosure)
    pulled = read_pulled(workspace.path)
    splits = pulled_splits(workspace, selection, plan) if pulled else assign_splits(selection, plan)
    shards = cut_shards(workspace.store, selection, splits, workspace.vocabulary, options)
    make_private(out)
    if not linkable:
        remember_name(workspace, name)
    with exclusive(out, str(out)):
        unchanged = claim(out)
        written, files = _write_shards(workspace, out, shards, options, engine, progress)
        text = {each["values"]: each["counts"] for each in pc.value_counts(selection["burned_in_text"]).to_pylist()}
        counts = complete(
            workspace, out, name, section, options, plan, left_out, found, text, built_from, unchanged | files
        )
    remember_dataset(workspace, out, build_options(out, name, plan, options, allow_unchecked_text=allow_unchecked_text))
    patients = Counter(splits.values())
    store = DatasetStore(out)
    return BuildReport(
        splits=counts,
        patients={split: patients[split] for split in SPLITS},
        regions=count_regions(store),
        regions_vanished=count_vanished(store),
        left_out=left_out,
        shards_written=written,
        shards_up_to_date=len(shards) - written,
    )


def _write_shards(
    workspace: Workspace,
    out: Path,
    shards: Sequence[Shard],
    options: RowOptions,
    engine: Engine,
    progress: Callable[[Progress], None],
) -> tuple[int, dict[str, Mapping[str, Any]]]:
    """Write the shards that are missing or stale, and remove those that are none any more.

    Returns:
        How many were written, and their files as the marker lists them.
    """
    store = DatasetStore(out)
    metadata = schema_metadata(workspace.vocabulary)
    settings = [
        _VERSION,
        SCHEMA_VERSION,
        pyarrow.__version__,
        options.as_json(),
        [str(value) for value in metadata.values()],
    ]
    tasks = [_task(workspace, out, shard, settings, options, metadata) for shard in shards]
    present = store.shards()
    todo = [task for task in tasks if present.get(task.shard.name) != task.info]
    others = store.names() - {shard.name for shard in shards}
    if todo or others:
        keep_previous(store)
        (out / MARKER).unlink(missing_ok=True)
    rows = sum(shard.frames.num_rows for shard in shards) - sum(task.shard.frames.num_rows for task in todo)
    done = len(shards) - len(todo)
    progress(Progress("build", len(shards), done, rows, 0))
    files: dict[str, Mapping[str, Any]] = {}
    results: Iterator[WrittenShard | Crashed[ShardTask]] = engine(write_shard, todo)
    for result in results:
        if isinstance(result, Crashed):
            raise UserError(
                f"the process that wrote {result.argument.shard.name} died",
                where=str(out),
                fix="run this command again, with fewer --workers if memory ran out",
            )
        files |= result.files
        done, rows = done + 1, rows + result.rows
        progress(Progress("build", len(shards), done, rows, 0))
    for other in others:
        store.remove(other)
    return len(todo), files


def _task(
    workspace: Workspace,
    out: Path,
    shard: Shard,
    settings: Sequence[object],
    options: RowOptions,
    metadata: Mapping[str, bytes],
) -> ShardTask:
    fingerprint = options.keys.content(json.dumps([*settings, shard.digest]))
    info = PartInfo(shard.name, "build", fingerprint, "", shard.frames.num_rows)
    return ShardTask(workspace.store, shard, info, out, options, metadata)


def _nothing_to_write(workspace: Workspace, left_out: Mapping[str, int]) -> UserError:
    reasons = ", ".join(f"{count} {reason}" for reason, count in left_out.items()) or "the workspace has no frames"
    fix = "see sono-curate status"
    if set(left_out) == {"text_unchecked"}:
        fix = "if you know that the pixels show no names, give --allow-unchecked-text"
    return UserError(f"no frames are left to write: {reasons}", where=str(workspace.path), fix=fix)

"""Build: from a workspace's tables to a dataset that ``datasets.load_dataset`` and ``sono-train`` can read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from sono.manifests.dataset_keys import dataset_keys, remember_name
from sono.manifests.errors import UserError
from sono.manifests.filenames import MARKER
from sono.manifests.outputs import refuse_inside_dataset
from sono.manifests.schemas import DATASET, SPLITS
from sono.manifests.splits import SplitPlan
from sono.manifests.stages import Engine, Progress, run_stage, stale_parts
from sono.manifests.store import exclusive, make_private
from sono.manifests.workspace import Workspace

from .latest import build_options, remember_dataset
from .precision import Precision
from .select import assign_splits, check_tables, select
from .shards import cut_shards
from .stage import BuildStage, huggingface_metadata
from .store import DatasetStore, claim, complete, count_regions, count_vanished

_MIN_SIDE_PX = 32
_ROUNDED = Precision()


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
    allow_unchecked_text: bool = False,
    precision: Precision = _ROUNDED,
    engine: Engine,
    progress: Callable[[Progress], None] = lambda _: None,
) -> BuildReport:
    """Write the dataset of all accepted, captioned frames into ``out``, or bring it up to date.

    Args:
        plan: which patients go to which split.
        name: of the dataset, which decides its keys; if omitted, that of the folder ``out``.
        linkable: keep the workspace's keys, so that this dataset can be joined with others.
        max_side_px: frames with a longer side are scaled down to it, with their masks and pixel size.
        allow_unchecked_text: include frames whose pixels were not checked for burned-in text, because the caller knows
            that they show no names.
        precision: how exact pixel sizes and gestational ages are.

    Raises:
        UserError: ``out`` holds something else or lies in another dataset, no frame is left to write, or the held-out
            center is unknown.
    """
    refuse_inside_dataset(out)
    check_tables(workspace)
    selection, left_out = select(workspace, allow_unchecked_text=allow_unchecked_text)
    if selection.num_rows == 0:
        raise _nothing_to_write(workspace, left_out)
    splits = assign_splits(selection, plan)
    if max_side_px is not None and max_side_px < _MIN_SIDE_PX:
        raise UserError(
            f"--max-side {max_side_px} leaves too little of the images", fix=f"give {_MIN_SIDE_PX} px or more"
        )
    name = out.resolve().name if name is None else name
    keys = dataset_keys(workspace, name, linkable=linkable)
    stage = BuildStage(max_side_px, precision, keys, huggingface_metadata(workspace.vocabulary))
    parts = cut_shards(workspace.store, selection, splits, workspace.vocabulary, keys)
    make_private(out)
    if not linkable:
        remember_name(workspace, name)
    with exclusive(out, str(out)):
        claim(out)
        store = DatasetStore(out)
        if stale_parts(stage, parts, store) or set(store.parts(DATASET)) != {part.name for part in parts}:
            (out / MARKER).unlink(missing_ok=True)
        run = run_stage(stage, parts, store, engine=engine, progress=progress)
        counts = complete(out, store, workspace.vocabulary, plan, left_out, keys.id)
    options = build_options(plan, max_side_px, precision, allow_unchecked_text)
    named = ["--name", name] if name != out.resolve().name else []
    remember_dataset(workspace, out, [*named, *(["--linkable"] if linkable else []), *options])
    patients = Counter(splits.values())
    return BuildReport(
        splits=counts,
        patients={split: patients[split] for split in SPLITS},
        regions=count_regions(store),
        regions_vanished=count_vanished(store),
        left_out=left_out,
        shards_written=run.computed,
        shards_up_to_date=run.up_to_date,
    )


def _nothing_to_write(workspace: Workspace, left_out: Mapping[str, int]) -> UserError:
    reasons = ", ".join(f"{count} {reason}" for reason, count in left_out.items()) or "the workspace has no frames"
    fix = "see sono-curate status"
    if set(left_out) == {"text_unchecked"}:
        fix = "if you know that the pixels show no names, give --allow-unchecked-text"
    return UserError(f"no frames are left to write: {reasons}", where=str(workspace.path), fix=fix)

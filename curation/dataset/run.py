"""Build: from a workspace's tables to a dataset that ``datasets.load_dataset`` and ``sono-train`` read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from sono.manifests.errors import UserError
from sono.manifests.filenames import MARKER
from sono.manifests.schemas import DATASET, SPLITS
from sono.manifests.splits import SplitPlan
from sono.manifests.stages import Engine, Progress, run_stage, stale_parts
from sono.manifests.store import exclusive
from sono.manifests.workspace import Workspace

from .latest import build_options, remember_dataset
from .select import assign_splits, check_tables, select
from .shards import cut_shards
from .stage import BuildStage, huggingface_metadata
from .store import DatasetStore, count_regions, finish, take


@dataclass(frozen=True)
class BuildReport:
    """Rows by split, regions, and the frames left out by reason."""

    splits: Mapping[str, int]
    patients: Mapping[str, int]
    regions: int
    left_out: Mapping[str, int]
    shards_written: int
    shards_up_to_date: int


def build(
    workspace: Workspace,
    out: Path,
    *,
    plan: SplitPlan,
    max_side_px: int | None = None,
    allow_unchecked_text: bool = False,
    engine: Engine,
    progress: Callable[[Progress], None] = lambda _: None,
) -> BuildReport:
    """Write the dataset of all accepted, captioned frames into ``out``; again, to bring it up to date.

    Frames whose pixels were not checked for burned-in text are left out unless ``allow_unchecked_text`` says that the
    caller knows them to be clean.

    Args:
        max_side_px: frames with a longer side are scaled down to it, with their masks and pixel size.

    Raises:
        UserError: ``out`` holds something else, no frame is left to write, or the held-out center is unknown.
    """
    check_tables(workspace)
    selection, left_out = select(workspace, allow_unchecked_text=allow_unchecked_text)
    if selection.num_rows == 0:
        reasons = ", ".join(f"{count} {reason}" for reason, count in left_out.items()) or "the workspace has no frames"
        fix = "see sono-curate status"
        if set(left_out) == {"text_unchecked"}:
            fix = "if you know the pixels to be free of names, give --allow-unchecked-text"
        raise UserError(f"no frame is left to write: {reasons}", where=str(workspace.path), fix=fix)
    splits = assign_splits(selection, plan)
    if max_side_px is not None and max_side_px < 32:
        raise UserError(f"--max-side {max_side_px} leaves nothing to see", fix="give 32 px or more")
    stage = BuildStage(max_side_px, huggingface_metadata(workspace.vocabulary))
    parts = cut_shards(workspace.store, selection, splits, workspace.vocabulary)
    out.mkdir(parents=True, exist_ok=True)
    with exclusive(out, str(out)):
        take(out)
        store = DatasetStore(out)
        if stale_parts(stage, parts, store) or set(store.parts(DATASET)) != {part.name for part in parts}:
            (out / MARKER).unlink(missing_ok=True)
        run = run_stage(stage, parts, store, engine=engine, progress=progress)
        counts = finish(out, store, workspace.vocabulary, plan, left_out)
    remember_dataset(workspace, out, build_options(plan, max_side_px, allow_unchecked_text=allow_unchecked_text))
    patients: dict[str, set[str]] = {split: set() for split in SPLITS}
    for patient, split in splits.items():
        patients[split].add(patient)
    return BuildReport(
        splits=counts,
        patients={split: len(keys) for split, keys in patients.items()},
        regions=count_regions(store),
        left_out=left_out,
        shards_written=run.computed,
        shards_up_to_date=run.up_to_date,
    )

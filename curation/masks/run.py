"""Imports masks that were drawn elsewhere or predicted by a program, in any format of the registry."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from sono.curation.ingest.files import SourceFile, find_files
from sono.manifests.errors import UserError
from sono.manifests.journal import open_journal
from sono.manifests.schemas import FRAMES, REGIONS
from sono.manifests.stages import Engine, Progress, RunReport, run_stage
from sono.manifests.workspace import Workspace

from .formats.registry import mask_format as format_named
from .frame_names import stem_of
from .plan import Plan, plan_import
from .stage import MaskImportStage
from .structure_names import FolderNames, LabelNames, StructureNames


def import_masks(
    workspace: Workspace,
    masks: Path,
    *,
    structure: str | None = None,
    mask_format: str,
    suffix: str = "",
    labels: Mapping[str, str] | None = None,
    predicted: bool = False,
    engine: Engine,
    progress: Callable[[Progress], None] = lambda _: None,
) -> RunReport:
    """Import masks into ``regions``, as accepted. The caller holds ``workspace.writing()``.

    A mask belongs to the frame whose source has the same path relative to its folder, or the same bare name if that is
    unique, or whose ``frame_id`` is its name; extensions are ignored. Frame N of a cine or of a TIFF with several pages
    is ``NAME_fN``, counted from 0.

    Args:
        masks: a folder, or one file.
        structure: of formats whose files do not say it, what all masks show, or None if each folder directly in
            ``masks`` is named after a structure and holds its masks; of the others, the only one to import.
        mask_format: one of ``formats.registry.FORMATS``.
        suffix: what the names of files have after their frame's name, such as ``_Annotation``.
        labels: structures by what the files call them, beside the names of the vocabulary.
        predicted: a program made the masks, so their source is ``model`` and they are not taken for a person's.

    Raises:
        UserError: the folder or a structure is unknown, or no mask finds a frame or a structure.
    """
    vocabulary, keys = workspace.vocabulary, workspace.keys
    structure = structure and vocabulary.require_structure(structure)
    if not workspace.store.paths(FRAMES):
        raise UserError(
            "the workspace has no frames yet", where=str(workspace.path), fix="run sono-curate ingest first"
        )
    formatted = format_named(mask_format)
    files, by_folder = _files(masks, workspace), formatted.structures_from_folders and structure is None
    name_structure: StructureNames
    if formatted.structures_from_folders:
        name_structure = FolderNames(vocabulary, structure, files, masks)
    else:
        name_structure = LabelNames(vocabulary, structure, labels or {})
    scope = f"import/{structure or 'by-folder'}/{keys.folder(str(masks.resolve()))}"

    def stem(file: SourceFile) -> str | None:
        name = stem_of(file.relative.partition("/")[2] if by_folder else file.relative)
        return name.removesuffix(suffix) if name.endswith(suffix) else None

    plan = plan_import(workspace.store, keys, scope, files, formatted, name_structure, stem, progress)
    try:
        _refuse_if_all(plan, masks, suffix, name_structure)
        stage = MaskImportStage(keys, mask_format, "model" if predicted else "import")
        return run_stage(stage, plan.parts, workspace.store, engine=engine, scope=scope, progress=progress)
    finally:
        plan.path.unlink(missing_ok=True)


def kept_decisions(workspace: Workspace) -> int:
    """How many imported masks are as people decided, though the files that they came from have others by now."""
    store = workspace.store
    journal = open_journal(store.root)
    if journal is None:
        return 0
    kept = 0
    with contextlib.closing(journal):
        for name, info in store.parts(REGIONS).items():
            beside = store.beside(REGIONS, name)
            if info.stage != MaskImportStage.name or not beside.exists():
                continue
            decided = store.read(REGIONS, name, ["region_id", "reviewer"]).to_pylist()
            ids = {row["region_id"] for row in decided if row["reviewer"] is not None}
            seen = journal.first_masks(ids)
            kept += sum(
                seen.get(row["region_id"]) not in (None, row["mask"]["counts"])
                for row in store.find_rows(beside, REGIONS, ids, ["mask"])
            )
    return kept


def _files(masks: Path, workspace: Workspace) -> Sequence[SourceFile]:
    """The files of a folder, or the one file."""
    if not masks.is_file():
        return find_files(masks, workspace.keys)
    status = masks.stat()
    keys, name = workspace.keys, masks.name
    return [SourceFile(masks, name, keys.source(name), keys.name(name), status.st_size, status.st_mtime_ns)]


def _refuse_if_all(plan: Plan, masks: Path, suffix: str, names: StructureNames) -> None:
    """One mistake that leaves out every mask stops before anything is written.

    Raises:
        UserError: it does.
    """
    problems = set(plan.masks)
    if not problems:
        raise UserError("there are no masks in it", where=str(masks), fix="check the folder and --format")
    if problems == {"not_this_format"}:
        raise UserError("not in the format that --format names", where=str(masks), fix="check --format")
    if problems <= {"unknown_structure", "ambiguous_label"}:
        raise names.unknown(masks)
    if problems == {"no_frame"}:
        count = plan.masks["no_frame"]
        raise UserError(
            f"none of the {count} masks has the name of a frame's image, or its frame_id",
            where=str(masks),
            fix="with --suffix, give what mask names add to the image's name, such as _mask"
            if not suffix
            else f"check --suffix {suffix}, and that the images themselves were ingested",
        )

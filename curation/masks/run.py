"""Imports masks that were drawn elsewhere or predicted by a program, from images named after their frames."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from sono.curation.ingest.files import cut, find_files, part_of
from sono.manifests.errors import UserError
from sono.manifests.schemas import FRAMES
from sono.manifests.stages import Engine, Progress, RunReport, run_stage
from sono.manifests.workspace import Workspace

from .stage import MaskImportStage
from .targets import INPUT, Targets, find_drawings


def import_masks(
    workspace: Workspace,
    folder: Path,
    *,
    structure: str | None = None,
    mask_format: str,
    suffix: str = "",
    predicted: bool = False,
    engine: Engine,
    progress: Callable[[Progress], None] = lambda _: None,
) -> RunReport:
    """Import the masks in ``folder`` into ``regions``, as accepted. The caller holds ``workspace.writing()``.

    A mask belongs to the frame whose source has the same path relative to its folder, or the same bare name if that is
    unique; extensions are ignored. Frame N of a cine or of a TIFF with several pages is ``NAME_fN``, counted from 0.

    Args:
        structure: what all masks show; None if each folder directly in ``folder`` is named after a structure and holds
            its masks.
        suffix: what mask names have after their frame's name, such as ``_Annotation``.
        predicted: a program made the masks, so their source is ``model`` and they are not taken for a person's.

    Raises:
        UserError: the folder or a structure is unknown, or no mask finds a frame.
    """
    vocabulary = workspace.vocabulary
    structure = structure and vocabulary.require_structure(structure)
    if not workspace.store.paths(FRAMES):
        raise UserError(
            "the workspace has no frames yet", where=str(workspace.path), fix="run sono-curate ingest first"
        )
    files = find_files(folder, workspace.keys)
    scope = f"import/{structure or 'by-folder'}/{workspace.keys.folder(str(folder.resolve()))}"
    drawings = find_drawings(files, structure, vocabulary, folder, suffix)
    targets = Targets(workspace.store, workspace.keys, scope, drawings)
    rows = {drawing.file.relative: targets.row(drawing) for drawing in drawings}
    if all(row["problem"] == "no_frame" for row in rows.values()):
        raise UserError(
            f"none of the {len(files)} files is named after a frame",
            where=str(folder),
            fix="with --suffix, give what mask names add to the image's name, such as _mask"
            if not suffix
            else f"check --suffix {suffix}, and that the images themselves were ingested",
        )
    stage = MaskImportStage(workspace.keys, mask_format, "model" if predicted else "import")
    parts = [part_of(part, rows, INPUT, workspace.keys, scope) for part in cut(files)]
    return run_stage(stage, parts, workspace.store, engine=engine, scope=scope, progress=progress)

"""Plans a run of ``caption``: everything the user gave is read and checked before anything is written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sono.captioning.facts.statements import Reading
from sono.captioning.readers.files import RecordsFile, find_records
from sono.captioning.readers.mapping import ColumnMapping, load_mapping
from sono.captioning.sentences.pack_check import check_pack
from sono.manifests.errors import UserError
from sono.manifests.schemas import FRAMES
from sono.manifests.workspace import Workspace

from .config import load_section, reading_of, statement_settings, writer_of
from .stage import CaptionStage


@dataclass(frozen=True)
class CaptionPlan:
    """The input of the three stages.

    Attributes:
        files: of clinical records.
        reading: how they are read; ``mapping`` says which column of a table holds what.
        statement_settings: whatever else of the configuration decides the statements.
        stage: writes the captions; its templates are checked.
        context_length: tokens that the model reads.
    """

    files: Sequence[RecordsFile]
    reading: Reading
    mapping: ColumnMapping
    statement_settings: Mapping[str, object]
    stage: CaptionStage
    context_length: int


def plan_captions(
    workspace: Workspace,
    records: Sequence[Path],
    *,
    mapping: Path | None = None,
    templates: str | None = None,
    seed: int | None = None,
) -> CaptionPlan:
    """Read and check what ``caption_workspace`` was given; writes nothing.

    Raises:
        UserError: there are no frames, or the configuration, records, mapping or templates cannot be used.
    """
    stage = plan_stage(workspace, templates=templates, seed=seed)
    section = load_section(workspace)
    return CaptionPlan(
        files=find_records(records, workspace.keys),
        reading=reading_of(workspace, section),
        mapping=load_mapping(mapping),
        statement_settings=statement_settings(section),
        stage=stage,
        context_length=section.context_length,
    )


def plan_stage(workspace: Workspace, *, templates: str | None = None, seed: int | None = None) -> CaptionStage:
    """The caption stage, with its templates checked against the complete vocabulary.

    Args:
        templates: a packaged pack's name or a folder; if omitted, the configuration's.
        seed: if omitted, the configuration's.

    Raises:
        UserError: there are no frames, or the configuration or the templates cannot be used.
    """
    section = load_section(workspace)
    writer = writer_of(workspace, section, templates)
    check_pack(writer)
    if not workspace.store.paths(FRAMES):
        raise UserError("there are no frames to caption", where=str(workspace.path), fix="run sono-curate ingest first")
    return CaptionStage(workspace.keys, writer, section.seed if seed is None else seed)

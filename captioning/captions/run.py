"""Captions for a workspace's frames and regions, from clinical records."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sono.captioning.exams.linkage import captions_database, reach_images, settled_parts
from sono.captioning.exams.stage import RecordsStage
from sono.captioning.readers.files import find_records
from sono.captioning.readers.mapping import load_mapping
from sono.captioning.readers.stage import read_statements
from sono.captioning.sentences.writer import check_pack
from sono.manifests.errors import UserError
from sono.manifests.handoff import handoff_file
from sono.manifests.query import query
from sono.manifests.schemas import CAPTIONS, FRAMES, RECORDS
from sono.manifests.stages import Engine, Part, Progress, RunReport, run_stage
from sono.manifests.store import TableStore
from sono.manifests.workspace import Workspace

from .config import CaptionSection, load_section, reading_of, writer_of
from .join import Matches, joined_parts
from .stage import CaptionStage


@dataclass(frozen=True)
class CaptionReport:
    """What a run did in its three stages, and what the captions table holds now.

    Attributes:
        statements: what the files say, a fact a row; its exclusions are lines and values that could not be taken.
        records: examinations and their planes; its exclusions are contradictions and gaps.
        captions: its exclusions are frames and regions without a caption.
    """

    statements: RunReport
    records: RunReport
    captions: RunReport
    matches: Matches
    global_captions: int
    region_captions: int
    context_length: int


def caption_workspace(
    workspace: Workspace,
    records: Sequence[Path],
    *,
    mapping: Path | None = None,
    templates: str | None = None,
    seed: int | None = None,
    engine: Engine,
    progress: Callable[[Progress], None] = lambda _: None,
) -> CaptionReport:
    """Bring the tables ``statements``, ``records`` and ``captions`` up to date with the clinical records named.

    The records named are all that count: facts of an earlier run whose file is not named again are removed. The
    caller holds ``workspace.writing()``.

    Args:
        records: CSV, JSON lines, Parquet, FHIR JSON or NDJSON, DICOM SR, or folders of them; see docs/captions.md.
        mapping: TOML file that says which column of a table holds what.
        templates: a packaged pack's name or a folder, in place of the configuration's.
        seed: in place of the configuration's.

    Raises:
        UserError: there are no frames, or records, mapping or templates cannot be used, and nothing has been written;
            or the records say nothing about any examination with images, and the captions of an earlier run stay.
    """
    store = workspace.store
    section = load_section(workspace)
    stage = stage_of(workspace, section, templates, seed)
    if not store.paths(FRAMES):
        raise UserError("there are no frames to caption", where=str(workspace.path), fix="run sono-curate ingest first")
    said = read_statements(
        find_records(records, workspace.keys),
        reading_of(workspace, section),
        load_mapping(mapping),
        store,
        config=_decisive(section),
        engine=engine,
        progress=progress,
    )
    with captions_database(store) as database:
        with handoff_file(store.folder(RECORDS)) as path:
            parts = settled_parts(database, store, workspace.keys, path)
            if any(info.rows for info in store.parts(CAPTIONS).values()) and not reach_images(database):
                raise UserError(
                    "no record is about an examination with images; records and captions of the last run stay",
                    where=str(workspace.path),
                    fix=_what_to_do(said),
                )
            settled = run_stage(RecordsStage(), parts, store, engine=engine, progress=progress)
        with handoff_file(store.folder(CAPTIONS)) as path:
            parts, matches = joined_parts(database, store, path)
            written = run_stage(stage, parts, store, engine=engine, progress=progress)
    regions = _count_regions(store)
    return CaptionReport(said, settled, written, matches, written.rows - regions, regions, section.context_length)


def stage_of(workspace: Workspace, section: CaptionSection, templates: str | None, seed: int | None) -> CaptionStage:
    """The caption stage, its templates checked against the whole vocabulary.

    Raises:
        UserError: the templates cannot be used.
    """
    writer = writer_of(workspace, section, templates)
    check_pack(writer.pack, writer.vocabulary, writer.budget)
    return CaptionStage(workspace.keys, writer, section.seed if seed is None else seed)


@contextmanager
def frames_to_caption(workspace: Workspace) -> Iterator[list[Part]]:
    """The caption stage's input from the records table as it is."""
    store = workspace.store
    with captions_database(store) as database, handoff_file(store.folder(CAPTIONS)) as path:
        parts, _ = joined_parts(database, store, path)
        yield parts


def _decisive(section: CaptionSection) -> Mapping[str, object]:
    """What of the section decides the statements."""
    model = section.language_model if section.text == "model" else None
    asked = model.model_dump(mode="json", include={"base_url", "model"}) if model else None  # the rest is how, not what
    return {"text": section.text, "model": asked}


def _what_to_do(said: RunReport) -> str:
    if not said.exclusions:
        return "compare how records and images name patients and studies"
    left_out = ", ".join(f"{count:,} {reason}" for reason, count in said.exclusions.items())
    return f"sono-curate exclusions says what is wrong with each of {left_out}"


def _count_regions(store: TableStore) -> int:
    paths = [str(path) for path in store.paths(CAPTIONS)]
    found = query("SELECT count(region_id) AS n FROM read_parquet($paths)", {"paths": paths})
    count: int = found["n"][0].as_py()
    return count

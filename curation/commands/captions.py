"""Commands about captions: write them, preview them, and trace one to its records."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sono.manifests import console
from sono.manifests.errors import UserError

from .options import (
    JsonOption,
    TemplatesOption,
    WorkersOption,
    WorkspaceArgument,
    print_exclusions,
    print_next,
    work_text,
    writing_to,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from sono.captioning.captions.run import CaptionReport
    from sono.manifests.workspace import Workspace

SeedOption = Annotated[
    int | None, typer.Option(metavar="N", help="Decides which template each frame and region gets.", min=0)
]


def caption(
    workspace: WorkspaceArgument,
    records: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            help="Clinical records: CSV, JSON lines, Parquet, FHIR, DICOM SR, or a folder; may be repeated. Required, "
            "but for a pulled workspace, whose captions stay: then only masks that have none get one.",
        ),
    ] = None,
    mapping: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="TOML file that says what each column of a table contains, in which unit."),
    ] = None,
    templates: TemplatesOption = None,
    seed: SeedOption = None,
    workers: WorkersOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Write captions for frames and regions from clinical records, and a page that shows them.

    Example: sono-curate caption archive --records records.csv
    """
    from sono.captioning.captions.run import caption_workspace
    from sono.captioning.report.page import write_caption_report
    from sono.manifests.pulled import read_pulled, refuse_pulled

    if records is None:
        if read_pulled(workspace) is None:
            raise UserError("no records are given", fix="give --records FILE")
        _caption_drawn(workspace, templates, seed, workers, as_json)
        return
    refuse_pulled(workspace, "its captions are the dataset's, and no records are read")
    with writing_to(workspace, workers, show_progress=not as_json) as (opened, engine, progress):
        report = caption_workspace(
            opened, records, mapping=mapping, templates=templates, seed=seed, engine=engine, progress=progress
        )
        page = write_caption_report(opened, context_length=report.context_length) if report.captions.rows else None
    if as_json:
        console.print_json({**asdict(report), "report": page and str(page)})
        return
    _print_report(report)
    if page is None:
        print("No captions were written. The list of exclusions gives the reason for each frame and record.")
        print_next(f"sono-curate exclusions {workspace}")
        return
    print(f"Look at {page}")
    print_next(f"sono-curate build {workspace} OUT")


def _caption_drawn(workspace: Path, templates: str | None, seed: int | None, workers: int, as_json: bool) -> None:
    from sono.captioning.captions.drawn import caption_drawn

    with writing_to(workspace, workers, show_progress=not as_json) as (opened, engine, progress):
        report = caption_drawn(opened, templates=templates, seed=seed, engine=engine, progress=progress)
    if as_json:
        console.print_json(asdict(report))
        return
    print(f"{report.rows:,} captions of masks for which the dataset has none. {work_text(report)}")
    print_exclusions(report.exclusions)
    print_next(f"sono-curate build {workspace} OUT")


def _print_report(report: CaptionReport) -> None:
    matches = report.matches
    print(f"{report.statements.rows:,} statements in the records. {work_text(report.statements)}")
    print_exclusions(report.statements.exclusions)
    print(f"{report.records.rows:,} records of examinations and planes. {work_text(report.records)}")
    print_exclusions(report.records.exclusions)
    print(
        f"{matches.studies_with_record:,} of {matches.studies:,} examinations with images have a record; "
        f"{matches.records_without_images:,} examinations in the records have no images here."
    )
    print(
        f"{report.global_captions:,} captions of frames, {report.region_captions:,} of regions. "
        f"{work_text(report.captions)}"
    )
    print_exclusions(report.captions.exclusions)


def preview(
    workspace: WorkspaceArgument,
    count: Annotated[int, typer.Option(metavar="N", help="How many examples.", min=1)] = 8,
    templates: TemplatesOption = None,
    seed: SeedOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show example captions from the records of the last sono-curate caption. Writes nothing.

    Example: sono-curate preview archive --count 4 --templates paper
    """
    from sono.captioning.explain.preview import preview as examples_of
    from sono.captioning.explain.text import preview_text
    from sono.manifests.workspace import open_to_read

    examples = examples_of(open_to_read(workspace), count, templates=templates, seed=seed)
    if as_json:
        console.print_json({"examples": [asdict(example) for example in examples]})
        return
    for example in examples:
        console.print_text(preview_text(example))


def trace(
    workspace: WorkspaceArgument,
    caption_id: Annotated[
        str, typer.Argument(metavar="CAPTION_ID", help="The caption's id, as in the dataset's column caption_id.")
    ],
    templates: TemplatesOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what a caption was made from: its facts, what the records say about each, and its template.

    Example: sono-curate trace archive 09c442d9bfefac9afeac349a82c0dbb5
    """
    from sono.captioning.explain.text import trace_text
    from sono.captioning.explain.trace import trace as origin_of
    from sono.manifests.workspace import open_to_read

    traced = origin_of(open_to_read(workspace), caption_id, templates=templates)
    if as_json:
        console.print_json(asdict(traced))
    else:
        console.print_text(trace_text(traced))


def template_texts(workspace: Workspace, templates: str | None) -> list[str]:
    """Everything that the templates of the workspace's captions can say, for the audit: it identifies nobody."""
    from sono.captioning.captions.config import load_section
    from sono.captioning.sentences.packs import load_pack

    choice = templates or load_section(workspace).templates
    pack = load_pack(choice, workspace.vocabulary, None if templates else workspace.path)
    names = (pack.planes, pack.structures, pack.findings, *pack.words.values())
    return [*(template.text for template in pack.templates), *(name for group in names for name in group.values())]


def caption_guard(workspace: Workspace | None) -> Callable[[str, frozenset[str]], bool]:
    """Whether a caption may be published, given the keyed hashes of names that must not be in it, for the gate."""
    from sono.captioning.sentences.guard import IdentityGuard, has_form

    identity_guard = IdentityGuard(workspace.keys) if workspace else None

    def may_be_published(text: str, identity: frozenset[str]) -> bool:
        return has_form(text) and not (identity_guard and identity_guard.says(text, identity))

    return may_be_published

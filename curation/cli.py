"""The ``sono-curate`` command: parse, call one library function, print."""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from sono.manifests import console

if TYPE_CHECKING:
    from collections.abc import Callable

    from sono.curation.engines.local import LocalEngine
    from sono.manifests.stages import Progress, RunReport
    from sono.manifests.workspace import Workspace

app = typer.Typer(
    name="sono-curate",
    help="Turn a hospital's fetal ultrasound archive into a dataset that can be trained on.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
)
masks_app = typer.Typer(help="Masks of anatomical structures.", no_args_is_help=True)
app.add_typer(masks_app, name="masks")

WorkspaceArgument = Annotated[Path, typer.Argument(metavar="WORKSPACE", help="Folder that sono-curate init made.")]
WorkersOption = Annotated[int, typer.Option(help="Processes; 0 takes one for each processor.", min=0)]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON, for machines.")]


class MaskFormat(enum.StrEnum):
    """How masks lie in a folder."""

    png = "png"
    outline = "outline"


def main() -> NoReturn:
    """Entry point of ``sono-curate``."""
    console.run(app, "sono-curate")


@app.command()
def init(
    workspace: Annotated[Path, typer.Argument(metavar="WORKSPACE", help="New folder to make.")],
    center: Annotated[str, typer.Option(help="Name of the hospital, as it may stand in a dataset.")] = "center",
) -> None:
    """Make a workspace: its configuration, and the key that pseudonyms are made with.

    Example: `sono-curate init archive --center "Hospital A"`
    """
    from sono.manifests.workspace import create

    create(workspace, center)
    print(f"Made {workspace}. Back up {workspace / 'secret.key'}: without it no new file finds its patient again.")
    print(f"Next: sono-curate ingest {workspace} SOURCE")


@app.command()
def ingest(
    workspace: WorkspaceArgument,
    sources: Annotated[list[Path], typer.Argument(metavar="SOURCE", help="Folders with DICOM files or images.")],
    center: Annotated[
        str | None, typer.Option(help="The hospital that these files are from, if not the workspace's.")
    ] = None,
    metadata: Annotated[
        Path | None,
        typer.Option(help="CSV with columns file, patient_id; optional study_id, plane, center, pixel_mm, date."),
    ] = None,
    patient_regex: Annotated[
        str | None, typer.Option(help="Finds the patient in a file's path below SOURCE: its first group.")
    ] = None,
    workers: WorkersOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Read ultrasound files into the workspace; patients, studies and file names become pseudonyms.

    Names that are burned into pixels are not removed yet.

    Running it again reads only what is new or changed.

    Example: `sono-curate ingest archive /data/scans --metadata scans.csv`
    """
    from sono.curation.ingest.run import ingest as run

    with _run(workspace, workers, as_json) as (opened, engine, progress):
        reports = run(
            opened,
            sources,
            engine=engine,
            center=center,
            metadata=metadata,
            patient_regex=patient_regex,
            progress=progress,
        )
    if as_json:
        console.print_json({"sources": [asdict(report) for report in reports]})
        return
    for number, report in enumerate(reports, start=1):
        place = f"folder {number} of {len(reports)}: " if len(reports) > 1 else ""
        print(f"{place}{report.files:,} files, {report.run.rows:,} frames. {_work(report.run)}")
        _print_exclusions(report.run.exclusions)
        if report.unused_metadata_rows:
            print(f"  {report.unused_metadata_rows:,} rows of the metadata name no file here")
    for warning in reports[0].warnings[:10]:
        print(f"  {metadata}, {warning}")
    if len(reports[0].warnings) > 10:
        print(f"  ... and {len(reports[0].warnings) - 10:,} more such rows")
    print(f"Next: sono-curate qc {workspace}")


@app.command()
def qc(workspace: WorkspaceArgument, workers: WorkersOption = 0, as_json: JsonOption = False) -> None:
    """Measure every frame, judge it, and write a page that shows the result.

    Example: `sono-curate qc archive`
    """
    from sono.curation.qc.page import write_qc_report
    from sono.curation.qc.run import qc as run

    from .status import status as read_status

    with _run(workspace, workers, as_json) as (opened, engine, progress):
        report = run(opened, engine=engine, progress=progress)
        page = write_qc_report(opened)
        verdicts = read_status(opened).verdicts
    if as_json:
        console.print_json({"run": asdict(report), "verdicts": verdicts, "report": str(page)})
        return
    print(f"{report.rows:,} frames: {_counts(verdicts)}. {_work(report)}")
    print(f"Look at {page}")


@masks_app.command("import")
def masks_import(
    workspace: WorkspaceArgument,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder with mask images, named like the frames.")],
    structure: Annotated[
        str | None,
        typer.Option(help="The structure that is drawn, as in planes.toml. Without it, folders in DIR are so named."),
    ] = None,
    mask_format: Annotated[
        MaskFormat, typer.Option("--format", help="png: drawn areas. outline: closed lines, to be filled.")
    ] = MaskFormat.png,
    suffix: Annotated[str, typer.Option(help="What mask names have behind the image's name, as _mask.")] = "",
    predicted: Annotated[
        bool, typer.Option("--predicted", help="A program made them: sono-train evaluate --mask predicted uses them.")
    ] = False,
    workers: WorkersOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Bring in masks that people drew, or a program predicted, elsewhere. They count as accepted.

    Example: `sono-curate masks import archive /data/masks --structure head --suffix _mask`
    """
    from sono.curation.masks.run import import_masks

    with _run(workspace, workers, as_json) as (opened, engine, progress):
        report = import_masks(
            opened,
            folder,
            structure=structure,
            mask_format=mask_format.value,
            suffix=suffix,
            predicted=predicted,
            engine=engine,
            progress=progress,
        )
    if as_json:
        console.print_json({"run": asdict(report)})
        return
    print(f"{report.rows:,} regions. {_work(report)}")
    _print_exclusions(report.exclusions)


@app.command()
def caption(
    workspace: WorkspaceArgument,
    records: Annotated[
        list[Path] | None,
        typer.Option(help="Clinical records: CSV, JSON lines, Parquet, FHIR, DICOM SR, or a folder; may be repeated."),
    ] = None,
    mapping: Annotated[
        Path | None, typer.Option(metavar="TOML", help="Says which column of a table holds what, in which unit.")
    ] = None,
    templates: Annotated[
        str | None, typer.Option(metavar="PACK", help="en, paper, or a folder with templates of your own.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Decides which of the templates a frame gets.", min=0)] = None,
    preview: Annotated[
        int | None,
        typer.Option(metavar="N", help="Show N examples from the records of the last run; write nothing.", min=1),
    ] = None,
    trace: Annotated[
        str | None, typer.Option(metavar="CAPTION_ID", help="Show what a caption of a dataset was made from.")
    ] = None,
    workers: WorkersOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Write captions for frames and regions from clinical records, and a page that shows the result.

    Example: `sono-curate caption archive --records records.csv`
    """
    if trace is not None:
        _show_trace(workspace, trace, templates, as_json)
    elif preview is not None:
        _show_preview(workspace, preview, templates, seed, as_json)
    else:
        _write_captions(workspace, records or [], mapping, templates, seed, workers, as_json)


def _write_captions(
    workspace: Path,
    records: list[Path],
    mapping: Path | None,
    templates: str | None,
    seed: int | None,
    workers: int,
    as_json: bool,
) -> None:
    from sono.captioning.captions.run import caption_workspace
    from sono.captioning.report.page import write_caption_report

    with _run(workspace, workers, as_json) as (opened, engine, progress):
        report = caption_workspace(
            opened, records, mapping=mapping, templates=templates, seed=seed, engine=engine, progress=progress
        )
        page = write_caption_report(opened, context_length=report.context_length) if report.captions.rows else None
    if as_json:
        console.print_json({**asdict(report), "report": page and str(page)})
        return
    matches = report.matches
    print(f"{report.statements.rows:,} statements in the records. {_work(report.statements)}")
    _print_exclusions(report.statements.exclusions)
    print(f"{report.records.rows:,} records of examinations and planes. {_work(report.records)}")
    _print_exclusions(report.records.exclusions)
    print(
        f"{matches.studies_with_record:,} of {matches.studies:,} examinations with images have a record; "
        f"{matches.records_without_images:,} examinations in the records have no images here."
    )
    print(
        f"{report.global_captions:,} captions of frames, {report.region_captions:,} of regions.", _work(report.captions)
    )
    _print_exclusions(report.captions.exclusions)
    if page is None:
        print(f"No caption was written. sono-curate exclusions {workspace} says why for each frame and record.")
        return
    print(f"Look at {page}")
    print(f"Next: sono-curate build {workspace} OUT")


def _show_preview(workspace: Path, count: int, templates: str | None, seed: int | None, as_json: bool) -> None:
    from sono.captioning.explain.preview import preview
    from sono.captioning.explain.text import preview_text
    from sono.manifests.workspace import open_workspace

    examples = preview(open_workspace(workspace), count, templates=templates, seed=seed)
    if as_json:
        console.print_json({"examples": [asdict(example) for example in examples]})
        return
    for example in examples:
        console.print_text(preview_text(example))


def _show_trace(workspace: Path, caption_id: str, templates: str | None, as_json: bool) -> None:
    from sono.captioning.explain.text import trace_text
    from sono.captioning.explain.trace import trace
    from sono.manifests.workspace import open_workspace

    found = trace(open_workspace(workspace), caption_id, templates=templates)
    if as_json:
        console.print_json(asdict(found))
    else:
        console.print_text(trace_text(found))


@app.command()
def build(
    workspace: WorkspaceArgument,
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder of the dataset.")],
    max_side: Annotated[int | None, typer.Option(metavar="PX", help="Scale longer sides down to this.")] = None,
    holdout_center: Annotated[
        str | None, typer.Option(metavar="NAME", help="This center becomes the test split.")
    ] = None,
    validation: Annotated[float, typer.Option(help="Share of patients for validation.")] = 0.1,
    test: Annotated[float, typer.Option(help="Share of patients for the test.")] = 0.1,
    seed: Annotated[int, typer.Option(help="Decides which patients go where.")] = 0,
    allow_unchecked_text: Annotated[
        bool,
        typer.Option(
            "--allow-unchecked-text", help="You know that no name is burned into the pixels: take frames not checked."
        ),
    ] = False,
    workers: WorkersOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Write the dataset of accepted, captioned frames, with splits that no patient crosses.

    Example: `sono-curate build archive dataset --max-side 512`
    """
    from sono.curation.dataset.run import build as run
    from sono.manifests.splits import SplitPlan

    plan = SplitPlan(validation, test, seed, holdout_center)
    with _run(workspace, workers, as_json) as (opened, engine, progress):
        report = run(
            opened,
            out,
            plan=plan,
            max_side_px=max_side,
            allow_unchecked_text=allow_unchecked_text,
            engine=engine,
            progress=progress,
        )
    if as_json:
        console.print_json(asdict(report))
        return
    for split, rows in report.splits.items():
        print(f"{split:<11}{rows:>9,} frames of {report.patients[split]:,} patients")
    print(f"{report.regions:,} regions. {report.shards_written} shards written, {report.shards_up_to_date} up to date.")
    _print_exclusions(report.left_out)
    print(f"Next: sono-train pretrain {out} --out RUN --recipe tiny")


@app.command()
def status(workspace: WorkspaceArgument, as_json: JsonOption = False) -> None:
    """Show what the workspace holds, what is stale and what to do next.

    Example: `sono-curate status archive`
    """
    from sono.manifests.workspace import open_workspace

    from .status import status as read

    found = read(open_workspace(workspace))
    if as_json:
        console.print_json(asdict(found))
        return
    print(f"center      {found.center if not found.frames else _counts(found.frames_by_center)}")
    print(f"frames      {found.frames:,} of {found.patients:,} patients: {_counts(found.frames_by_plane)}")
    print(f"qc          {_counts(found.verdicts)}")
    print(f"regions     {sum(found.regions.values()):,}: {_counts(found.regions)}")
    print(f"records     {found.records:,}")
    print(f"captions    {found.captions:,}")
    for stage, reasons in found.exclusions.items():
        print(f"left out    {stage}: {_counts(reasons)}")
    for stage, parts in found.stale.items():
        print(f"stale       {stage}: {parts} parts")
    print(f"next        {found.next_step}")


@app.command()
def exclusions(
    workspace: WorkspaceArgument,
    source: Annotated[
        list[Path] | None,
        typer.Option(help="Folder that was ingested: names its files, on this terminal only; may be repeated."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """List what was left out, file by file.

    The workspace stores no file names. With --source the names in that folder are hashed again and shown.

    Example: `sono-curate exclusions archive --source /data/scans`
    """
    from sono.curation.ingest.exclusions import list_exclusions
    from sono.manifests.workspace import open_workspace

    rows = list_exclusions(open_workspace(workspace), source or [])
    if as_json:
        console.print_json({"exclusions": [asdict(row) for row in rows]})
        return
    for row in rows:
        frame = "" if row.frame_index is None else f" frame {row.frame_index}"
        print(f"{row.name or row.source_key}{frame}: {row.stage}: {row.reason}: {row.message}")


@app.command()
def phantom(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="New folder, or one that an earlier run left unfinished.")],
    exams: Annotated[int, typer.Option(help="Examinations; one has eight to ten images.", min=1)] = 40,
    seed: Annotated[int, typer.Option(help="Another seed gives other patients.", min=0)] = 0,
    workers: WorkersOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Draw synthetic exams: DICOM files, clinical records, and the truth about both.

    Nobody in them is real. The same seed gives the same files.

    Example: `sono-curate phantom phantoms --exams 40 --seed 1`
    """
    from sono.curation.engines.local import LocalEngine, default_workers
    from sono.curation.phantom.exams import CENTERS
    from sono.curation.phantom.run import draw_phantom

    with console.progress_bar(enabled=not as_json) as progress:
        report = draw_phantom(
            out, exams=exams, seed=seed, engine=LocalEngine(workers or default_workers()), progress=progress
        )
    if as_json:
        console.print_json({"run": asdict(report)})
        return
    print(f"{report.rows:,} frames of {exams:,} exams. {_work(report)}")
    for center in CENTERS:  # each by itself: the masks are named from there
        folder = out / "dicom" / center
        if folder.is_dir():
            print(f"Next: sono-curate ingest WORKSPACE {folder} --center {center}")


@app.command()
def demo(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="New folder, or one of an interrupted demo.")] = Path(
        "demo"
    ),
    exams: Annotated[int, typer.Option(help="Examinations to draw.", min=4)] = 240,
    seed: Annotated[int, typer.Option(help="Of the phantoms.", min=0)] = 0,
    runs: Annotated[int, typer.Option(help="Training runs, each with another seed.", min=1)] = 3,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="A setting of the recipe tiny.")
    ] = None,
    workers: WorkersOption = 0,
) -> None:
    """Run everything on phantoms, from drawing them to an evaluated model, and write a page about it.

    Takes about twelve minutes on two cores, and goes on where it was interrupted.

    Example: `sono-curate demo demo`
    """
    from sono.curation.demo.plan import Plan
    from sono.curation.demo.run import run_demo

    page = run_demo(
        out, Plan(exams, seed, runs, tuple(settings or ()), workers), say=lambda line: print(line, flush=True)
    )
    print(f"Look at {page}")


@contextmanager
def _run(path: Path, workers: int, quiet: bool) -> Iterator[tuple[Workspace, LocalEngine, Callable[[Progress], None]]]:
    """What every writing command needs: the workspace held for writing, an engine and a progress bar."""
    from sono.curation.engines.local import LocalEngine, default_workers
    from sono.manifests.workspace import open_workspace

    workspace = open_workspace(path)
    engine = LocalEngine(workers or default_workers())
    with workspace.writing(), console.progress_bar(enabled=not quiet) as progress:
        yield workspace, engine, progress


def _work(report: RunReport) -> str:
    removed = f", {report.removed} removed" if report.removed else ""
    return f"{report.computed} parts computed, {report.up_to_date} up to date{removed}."


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in counts.items()) or "none"


def _print_exclusions(counts: Mapping[str, int]) -> None:
    for reason, count in counts.items():
        print(f"  left out {count:,}: {reason}")


if __name__ == "__main__":
    main()

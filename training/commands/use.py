"""The commands of ``sono-train`` that use a trained model: its features, a search in them, and its export."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from sono.manifests import console
from sono.manifests.errors import import_extra
from sono.manifests.publishing_options import (
    DryRunOption,
    GatedOption,
    MessageOption,
    PrivateOption,
    RepoArgument,
    TagOption,
    YesOption,
)

from .options import DatasetArgument, JsonOption, RunArgument, SplitOption
from .terminal import import_extras, print_notice, progress_bar


class EmbedMask(StrEnum):
    none = "none"
    region = "region"


class Format(StrEnum):
    open_clip = "open_clip"
    sonoclip = "sonoclip"
    transformers = "transformers"


def embed(
    run: RunArgument,
    dataset: DatasetArgument,
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The Parquet file to write.")],
    split: SplitOption = "test",
    mask: Annotated[
        EmbedMask, typer.Option(help="none: one row per frame, seen as a whole; region: one row per region.")
    ] = EmbedMask.none,
    as_json: JsonOption = False,
) -> None:
    """Write a dataset's features to a Parquet file. The same command resumes where it stopped.

    Example: sono-train embed runs/first dataset features.parquet --mask region
    """
    import_extras()
    from sono.training.features.embed import embed as write

    with progress_bar(as_json) as progress:
        result = write(run, dataset, out, split=split, mask=mask.value, notice=print_notice, progress=progress)
    if as_json:
        console.print_json(result)
        return
    print(
        f"{out}: {result['rows']:,} rows from {result['frames']:,} frames, {result['dim']} numbers each; "
        f"{result['frames_without_rows']:,} frames have no region"
    )
    print(f'Next: sono-train search {out} "what to look for" --run {run}')


def search(
    embedding: Annotated[Path, typer.Argument(metavar="EMBEDDING", help="A file that sono-train embed wrote.")],
    query: Annotated[str, typer.Argument(metavar="QUERY", help="What to look for, in words.")],
    run: Annotated[Path, typer.Option(metavar="RUN", help="Folder of the run that the features come from.")],
    count: Annotated[int, typer.Option(metavar="N", min=1, help="How many rows to print.")] = 10,
    as_json: JsonOption = False,
) -> None:
    """Find the frames or regions that match a text best.

    Example: sono-train search features.parquet "a four-chamber plane" --run runs/first
    """
    import_extras()
    from sono.training.features.search import search as find

    rows = find(embedding, query, run, count=count, notice=print_notice)
    if as_json:
        console.print_json({"query": query, "rows": rows})
        return
    for row in rows:
        print(_line(row))


def export(
    run: RunArgument,
    out: Annotated[Path, typer.Argument(metavar="OUT", help="A new folder.")],
    format: Annotated[  # noqa: A002 - the option's name
        Format,
        typer.Option(
            help="open_clip: its configuration and weights; sonoclip: the paper's format; transformers: a repository "
            "for the Hub."
        ),
    ],
) -> None:
    """Export the newest checkpoint in a format that other programs can load.

    Example: sono-train export runs/first exported --format transformers
    """
    import_extras()
    import_extra("safetensors", "train")
    from sono.training.export.export import export as write

    names = write(run, out, format.value, notice=print_notice)
    print(f"{out}: {', '.join(names)}")


def publish(
    export: Annotated[Path, typer.Argument(metavar="EXPORT", help="Folder that sono-train export wrote.")],
    repo: RepoArgument,
    private: PrivateOption = None,
    gated: GatedOption = None,
    tag: TagOption = None,
    message: MessageOption = None,
    dry_run: DryRunOption = False,
    yes: YesOption = False,
) -> None:
    """Publish an exported model on the Hugging Face Hub, as sono-curate publish does with a dataset.

    The card (README.md of the export) has to state a licence.

    Example: sono-train publish exported hospital/fetal-clip --tag v1
    """
    from sono.manifests.publishable import MODEL_FILES
    from sono.manifests.publishing import Asked, publish_folder
    from sono.training.export.gate import refusals

    published = publish_folder(
        export,
        MODEL_FILES,
        lambda files: refusals(export, files),
        Asked(repo, "model", private, gated, tag, message, dry_run, yes),
    )
    if published is not None:
        print(published.summary)


def _line(row: dict[str, Any]) -> str:
    view = row["structure"] or "whole image"
    return f"{row['score']:6.3f}  {row['frame_id']}  {row['plane'] or '-'}  {view}  {row['caption'] or ''}".rstrip()

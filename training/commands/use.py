"""The commands of ``sono-train`` that use a trained model. Each calls one function and prints what it returns."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from sono.manifests import console
from sono.manifests.errors import import_extra

from .terminal import bar_once_needed, import_extras, say

RunArgument = Annotated[Path, typer.Argument(help="Folder of a training run.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


class EmbedMask(StrEnum):
    none = "none"
    region = "region"


class Format(StrEnum):
    open_clip = "open_clip"
    sonoclip = "sonoclip"
    transformers = "transformers"


def register(app: typer.Typer) -> None:
    """Add the commands of this file to ``sono-train``."""
    for name, command in (("embed", embed), ("search", search), ("export", export)):
        app.command(name)(command)


def embed(
    run: RunArgument,
    dataset: Annotated[str, typer.Argument(help="A folder that sono-curate build wrote, or a Hub id.")],
    out: Annotated[Path, typer.Argument(help="The Parquet file to write.")],
    split: Annotated[str, typer.Option(help="Split of the dataset.")] = "test",
    mask: Annotated[
        EmbedMask, typer.Option(help="none: a row a frame, seen whole; region: a row for each of its regions.")
    ] = EmbedMask.none,
    json: JsonOption = False,
) -> None:
    """Write a dataset's features to a Parquet file; killed, the same command goes on where it was.

    Example: sono-train embed runs/first dataset features.parquet --mask region
    """
    import_extras()
    if json:
        import datasets

        datasets.disable_progress_bars()
    from sono.training.features.embed import embed as write

    with bar_once_needed(enabled=not json) as progress:
        result = write(run, dataset, out, split=split, mask=mask.value, notice=say, progress=progress)
    if json:
        console.print_json(result)
        return
    print(
        f"{out}: {result['rows']:,} rows of {result['frames']:,} frames, {result['dim']} numbers each; "
        f"{result['frames_without_rows']:,} frames have no region"
    )


def search(
    file: Annotated[Path, typer.Argument(help="A file that sono-train embed wrote.")],
    query: Annotated[str, typer.Argument(help="What to look for, in words.")],
    run: Annotated[Path, typer.Option(help="Folder of the run whose features they are.")],
    count: Annotated[int, typer.Option(min=1, help="How many rows to show.")] = 10,
    json: JsonOption = False,
) -> None:
    """Find the frames or regions that fit a text best.

    Example: sono-train search features.parquet "a four-chamber plane" --run runs/first
    """
    import_extras()
    from sono.training.features.search import search as find

    found = find(file, query, run, count=count, notice=say)
    if json:
        console.print_json({"query": query, "rows": found})
        return
    for row in found:
        print(_line(row))


def export(
    run: RunArgument,
    out: Annotated[Path, typer.Argument(help="A new folder.")],
    format: Annotated[  # noqa: A002 - the option's name
        Format,
        typer.Option(
            help="open_clip: its configuration and weights; sonoclip: the paper's format; transformers: a repository "
            "for the Hub."
        ),
    ],
) -> None:
    """Write the newest checkpoint in a form that programs without this one load.

    Example: sono-train export runs/first exported --format transformers
    """
    import_extras()
    import_extra("safetensors", "train")
    from sono.training.export.export import export as write

    names = write(run, out, format.value, notice=say)
    print(f"{out}: {', '.join(names)}")


def _line(row: dict[str, Any]) -> str:
    seen = row["structure"] or "whole image"
    return f"{row['score']:6.3f}  {row['frame_id']}  {row['plane'] or '-'}  {seen}  {row['caption'] or ''}".rstrip()

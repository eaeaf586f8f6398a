"""``python -m tools.text_detector text|marks OUT.onnx``: train a detector anew."""

from __future__ import annotations

import functools
import sys
from pathlib import Path
from typing import Annotated

import typer

from sono.manifests.errors import UserError, import_extra
from sono.manifests.store import write_atomically

Out = Annotated[Path, typer.Argument(help="The ONNX file to write; OUT_grey.onnx is written beside it.")]
Seed = Annotated[int, typer.Option(help="Decides everything that is drawn.")]
HC18Folder = Annotated[Path | None, typer.Option(help="Folder with HC18's images, for real backgrounds.")]

app = typer.Typer(no_args_is_help=True, add_completion=False)


@app.command()
def text(
    out: Out,
    seed: Seed = 1,
    steps: Annotated[int, typer.Option(help="Batches of 16 crops.", min=1)] = 7000,
    hc18: HC18Folder = None,
) -> None:
    """Train the detector of burned-in text, and of what may be a mark, on drawn ones.

    Example: python -m tools.text_detector text text_detector.onnx --hc18 hc18/images
    """
    _train("train_text", out, seed, steps, hc18)


@app.command()
def marks(
    out: Out,
    seed: Seed = 1,
    steps: Annotated[int, typer.Option(help="Batches of 64 windows.", min=1)] = 8000,
    hc18: HC18Folder = None,
) -> None:
    """Train the network that looks again where the text detector sees what may be a mark.

    Example: python -m tools.text_detector marks mark_detector.onnx --hc18 hc18/images
    """
    _train("train_marks", out, seed, steps, hc18)


def _train(training: str, out: Path, seed: int, steps: int, hc18: Path | None) -> None:
    try:
        if not out.parent.is_dir():
            raise UserError("its folder does not exist", where=str(out), fix="create it first")  # not in half an hour
        import_extra("torch", "train")
        from . import train

        contents = getattr(train, training)(seed, steps, hc18, functools.partial(print, flush=True))
    except UserError as error:
        print(error, file=sys.stderr)
        raise typer.Exit(1) from None
    for path, content in zip((out, out.with_stem(f"{out.stem}_grey")), contents, strict=True):
        write_atomically(path, lambda file, content=content: file.write(content))  # type: ignore[misc]


if __name__ == "__main__":
    app()

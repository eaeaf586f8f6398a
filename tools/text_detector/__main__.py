"""``python -m tools.text_detector OUT.onnx``: train the detector of text and marks anew."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from sono.manifests.errors import UserError, import_extra
from sono.manifests.store import write_atomically


def main(
    out: Annotated[Path, typer.Argument(help="The ONNX file to write; OUT_grey.onnx is written beside it.")],
    seed: Annotated[int, typer.Option(help="Decides everything that is drawn.")] = 1,
    steps: Annotated[int, typer.Option(help="Batches of 16 crops.", min=1)] = 7000,
    hc18: Annotated[Path | None, typer.Option(help="Folder with HC18's images, for real backgrounds.")] = None,
) -> None:
    """Train the detector of burned-in text and of measurement marks on drawn ones.

    Example: python -m tools.text_detector text_detector.onnx --hc18 hc18/images
    """
    try:
        import_extra("torch", "train")
        from .train import train

        contents = train(seed, steps, hc18, _print_progress)
    except UserError as error:
        print(error, file=sys.stderr)
        raise typer.Exit(1) from None
    for path, content in zip((out, out.with_stem(f"{out.stem}_grey")), contents, strict=True):
        write_atomically(path, lambda file, content=content: file.write(content))  # type: ignore[misc]


def _print_progress(step: int, loss: float) -> None:
    if step % 50 == 0 or step == 1:
        print(f"step {step}: loss {loss:.3f}", flush=True)


if __name__ == "__main__":
    typer.run(main)

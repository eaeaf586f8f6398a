"""The ``sono-train`` command. Every command calls one function of the library and prints what it returns."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Callable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sono.manifests import console
from sono.manifests.errors import import_extra

from . import recipes

if TYPE_CHECKING:
    from sono.manifests.stages import Progress as StageProgress

    from .loop import Progress

app = typer.Typer(
    help="Pretrain a mask-guided CLIP on a dataset that sono-curate built, and evaluate it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

DatasetArgument = Annotated[str, typer.Argument(help="A folder that sono-curate build wrote, or a Hub id.")]


class Mask(StrEnum):
    none = "none"
    region = "region"
    shuffled = "shuffled"
    blank = "blank"
    both = "both"
    all = "all"


@app.command()
def pretrain(
    dataset: DatasetArgument,
    out: Annotated[Path, typer.Option(help="Folder of the run: checkpoints, log, evaluation.")],
    recipe: Annotated[str, typer.Option(help="Name of a recipe; `sono-train recipes` lists them.")],
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change one setting; may be repeated.")
    ] = None,
    weights: Annotated[str | None, typer.Option(help="Pretrained weights: a file, or one of open_clip's tags.")] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the last checkpoint; start where there is none.")
    ] = False,
) -> None:
    """Pretrain a mask-guided CLIP.

    Example: sono-train pretrain dataset --out runs/first --recipe tiny --set train.steps=200 --resume
    """
    settings = [*(set_ or []), *([f"model.weights={weights}"] if weights else [])]
    chosen = recipes.override(recipes.find(recipe), settings)
    _import_extras()
    from .loop import pretrain as train

    with _progress_bar() as (notice, progress):
        outcome = train(dataset, out, chosen, resume=resume, notice=notice, progress=progress)
    if outcome.stopped_by:
        print(f"stopped by {outcome.stopped_by} after step {outcome.step} of {outcome.total_steps}, saved in {out}")
        print("run the same command with --resume to go on")
        raise typer.Exit(console.EXIT_INTERRUPTED)
    print(f"trained {outcome.total_steps} steps: {outcome.checkpoint}")


@app.command()
def evaluate(
    run: Annotated[Path, typer.Argument(help="Folder of a training run.")],
    dataset: DatasetArgument,
    mask: Annotated[
        Mask,
        typer.Option(
            help="What the model sees: none (a mask of all one), region (the true masks), shuffled (another patient's "
            "masks), blank (the true masks, a black image), both (none, region), or all."
        ),
    ] = Mask.none,
    split: Annotated[str, typer.Option(help="Split of the dataset.")] = "test",
    json: Annotated[bool, typer.Option("--json", help="Print the whole result as JSON.")] = False,
) -> None:
    """Score the newest checkpoint: zero-shot recognition of the plane.

    Example: sono-train evaluate runs/first dataset --mask both
    """
    _import_extras()
    from .evaluate import MASK_SETS, result_file
    from .evaluate import evaluate as score

    if json:
        import datasets

        datasets.disable_progress_bars()  # it has one of its own, when it reads a split for the first time
    masks = MASK_SETS.get(mask.value, (mask.value,))
    with _bar_once_needed(enabled=not json) as progress:
        result = score(run, dataset, masks=masks, split=split, notice=_say, progress=progress)
    if json:
        console.print_json(result)
        return
    for line in _table(result):
        print(line)
    print(f"written to {result_file(run, split, masks)}")


@app.command("recipes")
def list_recipes(
    recipe: Annotated[str | None, typer.Option(help="Print all keys of this one.")] = None,
) -> None:
    """List the recipes, or every setting of one.

    Example: sono-train recipes --recipe tiny
    """
    if recipe is None:
        for name, make in recipes.RECIPES.items():
            print(f"{name:<14} {(make.__doc__ or '').strip()}")
        print("\n`sono-train recipes --recipe NAME` prints all settings of one")
        return
    for key, value in recipes.flatten(recipes.find(recipe)).items():
        print(f"{key}={'none' if value is None else str(value).lower() if isinstance(value, bool) else value}")


def main() -> None:
    console.run(app, "sono-train")


def _import_extras() -> None:
    # Read when torch loads OpenMP. Threads that spin while they wait for one another fall from 200 to 20 samples/s as
    # soon as another process wants the processor; threads that sleep stay at 180 (tiny, two threads on two cores).
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    for module in ("torch", "open_clip"):
        import_extra(module, "train")


def _say(text: str) -> None:
    typer.echo(text, err=True)


@contextlib.contextmanager
def _progress_bar() -> Iterator[tuple[Callable[[str], None], Callable[[Progress], None]]]:
    """Where notices go, and a bar on stderr: steps, loss, rate and remaining time."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = [
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("steps  loss {task.fields[loss]:.3f}, {task.fields[samples_per_s]:.0f} samples/s"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    ]
    bar = Bar(*columns, console=Console(stderr=True))
    task = bar.add_task("steps", total=None, loss=0.0, samples_per_s=0.0)
    started = False

    def show(progress: Progress) -> None:
        nonlocal started
        if not started:  # not earlier, so that an error before the first step is one line and nothing else
            bar.start()
            started = True
        fields = dataclasses.asdict(progress)
        bar.update(task, completed=fields.pop("step"), total=fields.pop("total_steps"), **fields)

    try:
        yield lambda text: bar.console.print(text, highlight=False, soft_wrap=True), show
    finally:
        if started:
            bar.stop()


@contextlib.contextmanager
def _bar_once_needed(enabled: bool) -> Iterator[Callable[[StageProgress], None]]:
    """The bar of ``sono-curate``, started when there is something to show: an error before that is one line."""
    with contextlib.ExitStack() as opened:
        show: Callable[[StageProgress], None] | None = None

        def tell(progress: StageProgress) -> None:
            nonlocal show
            if show is None:
                show = opened.enter_context(console.progress_bar(enabled))
            show(progress)

        yield tell


def _table(result: dict[str, Any]) -> Iterator[str]:
    left_out = f"{result['frames_without_plane']} without a plane"
    if result["frames"] == "with regions":
        left_out += f", {result['frames_without_regions']} without regions"
    yield (
        f"{result['checkpoint']['file']} (sha256 {result['checkpoint']['sha256'][:12]}) on {result['split']}: "
        f"{result['n_frames']} frames of {result['n_patients']} patients, "
        f"{result['planes_present']} of {result['planes']} planes; left out: {left_out}"
    )
    yield f"{'mask':<9}{'top-1':>7}{'95 % interval':>18}{'top-5':>9}{'95 % interval':>18}"
    for mask, figures in result["masks"].items():
        cells = [f"{mask:<9}"]
        for name, width in (("top1", 7), ("top5", 9)):
            share = figures[name]
            cells.append(f"{share['value']:>{width}.1%}{share['low']:>10.1%} -{share['high']:>6.1%}")
        yield "".join(cells)
    if region := result["minus_none"].get("region"):
        yield f"region - none, in points: top-1 {_points(region['top1'])}, top-5 {_points(region['top5'])}"


def _points(difference: dict[str, float]) -> str:
    value, low, high = (100 * difference[name] for name in ("value", "low", "high"))
    return f"{value:+.1f} ({low:+.1f} to {high:+.1f})"


if __name__ == "__main__":
    main()

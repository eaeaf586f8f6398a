"""The ``sono-train`` command. Every command calls one function of the library and prints what it returns."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sono.manifests import console
from sono.training.commands.terminal import import_extras, say

from . import recipes
from .commands import evaluation, use

if TYPE_CHECKING:
    from sono.training.pretraining.loop import TrainingProgress
    from sono.training.pretraining.run import Outcome

app = typer.Typer(
    help="Pretrain a mask-guided CLIP on a dataset that sono-curate built, and evaluate it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

DatasetArgument = Annotated[str, typer.Argument(help="A folder that sono-curate build wrote, or a Hub id.")]


@app.command()
def pretrain(
    dataset: DatasetArgument,
    out: Annotated[Path, typer.Argument(help="Folder of the run: checkpoints, log, evaluation.")],
    recipe: Annotated[str, typer.Option(help="Name of a recipe; `sono-train recipes` lists them.")],
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change one setting; may be repeated.")
    ] = None,
    weights: Annotated[str | None, typer.Option(help="Pretrained weights: a file, or one of open_clip's tags.")] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the last checkpoint; start where there is none.")
    ] = False,
) -> None:
    """Pretrain a mask-guided CLIP, on one device, or on many under torchrun.

    Example: sono-train pretrain dataset runs/first --recipe tiny --set train.steps=200 --resume
    """
    settings = [*(set_ or []), *([f"model.weights={weights}"] if weights else [])]
    chosen = recipes.override(recipes.find(recipe), settings)
    import_extras()
    from sono.training.pretraining.run import pretrain as train

    with _progress_bar() as (notice, progress):
        outcome = train(dataset, out, chosen, resume=resume, notice=notice, progress=progress)
    if outcome.rank == 0:
        for line in _ending(outcome, out):
            print(line)
    if outcome.stopped_by:
        raise typer.Exit(console.EXIT_INTERRUPTED)


evaluation.register(app)
use.register(app)


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


@app.command()
def plan(
    recipe: Annotated[str, typer.Option(help="Name of a recipe; `sono-train recipes` lists them.")],
    dataset: Annotated[str | None, typer.Argument(help="A folder that sono-curate build wrote, or a Hub id.")] = None,
    samples: Annotated[int | None, typer.Option(min=1, help="Training frames, in place of a dataset.")] = None,
    captions: Annotated[int | None, typer.Option(min=1, help="Distinct captions, with --samples.")] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change one setting; may be repeated.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="A GPU whose data sheet is known, such as H100 or L40S.")] = None,
    ranks: Annotated[int, typer.Option(min=1, help="Number of such devices.")] = 1,
    mfu: Annotated[float, typer.Option(min=0.01, max=1, help="Share of the peak rate that is assumed.")] = 0.35,
    json: Annotated[bool, typer.Option("--json", help="Print the plan as JSON.")] = False,
) -> None:
    """Say what a run will need before it starts: parameters, memory, operations, time and disk.

    Example: sono-train plan dataset --recipe vit-l-14-336 --device H100 --ranks 8
    """
    chosen = recipes.override(recipes.find(recipe), set_ or [])
    if (dataset is None) == (samples is None):
        raise typer.BadParameter("give either a dataset or --samples")
    import_extras()
    from .planning import plan as planning
    from .planning import report
    from .planning.choices import Machine
    from .planning.devices import named_device

    machine = Machine(device=named_device(device) if device else None, ranks=ranks, utilisation=mfu)
    if dataset is None:
        assert samples is not None
        known = planning.Data(samples=samples, captions=captions)
    else:
        known = planning.read_data(dataset)
    made = planning.make_plan(chosen, known, machine)
    if json:
        console.print_json(report.to_json(made))
        return
    for line in report.lines(made):
        print(line)


@app.command()
def ablation(
    dataset: DatasetArgument,
    out: Annotated[Path, typer.Option(help="Folder for the runs, the tables, the figure and the page.")],
    seeds: Annotated[int, typer.Option(min=1, help="Training runs for each combination.")] = 3,
    recipe: Annotated[str, typer.Option(help="Name of a recipe; `sono-train recipes` lists them.")] = "tiny",
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change one setting of all runs.")
    ] = None,
    split: Annotated[str, typer.Option(help="Split of the dataset to score.")] = "test",
    json: Annotated[bool, typer.Option("--json", help="Print the whole result as JSON.")] = False,
) -> None:
    """Train with and without masks, with each loss, and with each choice of positives, and compare.

    Six combinations, each with several seeds, one run after the other. The same command goes on where it stopped.

    Example: sono-train ablation dataset --out ablation --seeds 3
    """
    import_extras()
    from sono.training.ablation.run import ablation as run_all

    content = run_all(str(dataset), out, recipe, set_ or [], seeds=seeds, split=split, notice=say)
    if json:
        console.print_json(content)
        return
    for one in content["differences"]:
        points = " to ".join(f"{100 * one[name]:+.1f}" for name in ("least", "greatest"))
        print(f"{one['of']:<20} {one['what']}: {100 * one['mean']:+.1f} points ({points})")
    print(f"written to {out / 'ablation.html'}")


def main() -> None:
    console.run(app, "sono-train")


def _ending(outcome: Outcome, out: Path) -> Iterator[str]:
    if outcome.stopped_by:
        yield f"stopped by {outcome.stopped_by} after step {outcome.step} of {outcome.total_steps}, saved in {out}"
        yield "run the same command with --resume to go on"
    else:
        yield f"trained {outcome.total_steps} steps: {outcome.checkpoint}"


@contextlib.contextmanager
def _progress_bar() -> Iterator[tuple[Callable[[str], None], Callable[[TrainingProgress], None]]]:
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

    def show(progress: TrainingProgress) -> None:
        nonlocal started
        if not started:  # not earlier, so that an error before the first step is one line and nothing else
            bar.start()
            started = True
        fields = dataclasses.asdict(progress)
        bar.update(task, completed=fields.pop("step"), total=fields.pop("total_steps"), **fields)

    try:
        yield lambda text: bar.console.print(text, highlight=False, markup=False, soft_wrap=True), show
    finally:
        if started:
            bar.stop()


if __name__ == "__main__":
    main()

"""The commands of ``sono-train`` around a training run: list recipes, plan a run, pretrain."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sono.manifests import console
from sono.training import recipes, released

from .options import DatasetsArgument, JsonOption, OptionalDatasetsArgument, RecipeOption, SetOption
from .terminal import import_extras, training_bar

if TYPE_CHECKING:
    from sono.training.pretraining.run import Outcome


def list_recipes(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="Print all settings of this recipe.")] = None,
) -> None:
    """List the recipes, or every setting of one and how it differs from what it follows.

    Example: sono-train recipes tiny
    """
    if name is None:
        for recipe, make in recipes.RECIPES.items():
            print(f"{recipe:<{max(map(len, recipes.RECIPES))}} {(make.__doc__ or '').strip()}")
        print("\n`sono-train recipes NAME` prints all settings of one")
        return
    for key, value in recipes.flatten(recipes.find(name)).items():
        print(f"{key}={recipes.text_of(value)}")
    for note in released.recipe_notes(name):
        print(f"# {note}")


def plan(
    recipe: RecipeOption,
    datasets: OptionalDatasetsArgument = None,
    samples: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Number of training frames, instead of datasets.")
    ] = None,
    captions: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Number of distinct captions, with --samples.")
    ] = None,
    set_: SetOption = None,
    device: Annotated[
        str | None, typer.Option(metavar="NAME", help="A GPU whose data sheet is known, such as H100 or L40S.")
    ] = None,
    ranks: Annotated[int, typer.Option(metavar="N", min=1, help="Number of such devices.")] = 1,
    mfu: Annotated[
        float, typer.Option(metavar="SHARE", min=0.01, max=1, help="Assumed share of the device's peak rate.")
    ] = 0.35,
    as_json: JsonOption = False,
) -> None:
    """Estimate what a run needs before it starts: parameters, memory, operations, time and disk.

    Example: sono-train plan dataset --recipe vit-l-14-336 --device H100 --ranks 8
    """
    chosen = recipes.override(recipes.find(recipe), set_ or [])
    if bool(datasets) == (samples is not None):
        raise typer.BadParameter("give either a dataset or --samples")
    import_extras()
    from sono.training.planning import plan as planning
    from sono.training.planning import report
    from sono.training.planning.choices import Machine
    from sono.training.planning.devices import named_device

    machine = Machine(device=named_device(device) if device else None, ranks=ranks, utilisation=mfu)
    if samples is not None:
        data = planning.Data(samples=samples, captions=captions)
    else:
        data = planning.read_data(datasets or (), chosen.data)
    made = planning.make_plan(chosen, data, machine)
    if as_json:
        console.print_json(report.to_json(made))
        return
    for line in report.lines(made):
        print(line)
    settings = "".join(f" --set {setting}" for setting in set_ or [])
    print(f"Next: sono-train pretrain {' '.join(datasets or ['DATASET'])} RUN --recipe {recipe}{settings}")


def pretrain(
    datasets: DatasetsArgument,
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of the run: checkpoints, log, evaluation.")],
    recipe: RecipeOption,
    set_: SetOption = None,
    weights: Annotated[
        str | None, typer.Option(metavar="FILE", help="Pretrained weights: a file, or a tag of open_clip.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Resume from the last checkpoint, or start if there is none.")
    ] = False,
) -> None:
    """Pretrain a mask-guided CLIP, on one device, or on many under torchrun.

    Several datasets are trained on together; --set data.weights=NAME=WEIGHT,... says how often each is drawn from.

    Example: sono-train pretrain dataset runs/first --recipe tiny --set train.steps=200 --resume
    """
    settings = [*(set_ or []), *([f"model.weights={weights}"] if weights else [])]
    chosen = recipes.override(recipes.find(recipe), settings)
    import_extras()
    from sono.training.pretraining.run import pretrain as train

    with training_bar() as (notice, progress):
        outcome = train(datasets, run, chosen, resume=resume, notice=notice, progress=progress)
    if outcome.rank == 0:
        for line in _ending(outcome, datasets, run):
            print(line)
    if outcome.stopped_by:
        raise typer.Exit(console.EXIT_INTERRUPTED)


def _ending(outcome: Outcome, datasets: Sequence[str], run: Path) -> Iterator[str]:
    if outcome.stopped_by:
        yield f"stopped by {outcome.stopped_by} after step {outcome.step} of {outcome.total_steps}, saved in {run}"
        yield "Next: run the same command again, with --resume"
    else:
        yield f"trained {outcome.total_steps} steps: {outcome.checkpoint}"
        for dataset in datasets:
            yield f"Next: sono-train evaluate {run} {dataset} --mask both"

"""The command of ``sono-train`` that compares training runs with each other."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sono.manifests import console

from .evaluation_text import trained_on
from .options import AllowTrainedOption, DatasetArgument, JsonOption, RecipeOption, SetOption, SplitOption
from .terminal import import_extras, print_notice


def ablation(
    dataset: DatasetArgument,
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder for the runs, tables, figure and page.")],
    seeds: Annotated[int, typer.Option(metavar="N", min=1, help="Training runs for each combination.")] = 3,
    recipe: RecipeOption = "tiny",
    set_: SetOption = None,
    split: SplitOption = "test",
    allow_trained: AllowTrainedOption = False,
    as_json: JsonOption = False,
) -> None:
    """Train with and without masks, with each loss, and with each choice of positives, and compare.

    Trains six combinations with several seeds each, one run after another. The same command resumes where it stopped.

    Example: sono-train ablation dataset ablation --seeds 3
    """
    import_extras()
    from sono.training.ablation.run import ablation as run_all

    content = run_all(
        dataset, out, recipe, set_ or [], seeds=seeds, split=split, allow_trained=allow_trained, notice=print_notice
    )
    if as_json:
        console.print_json(content)
        return
    for difference in content["differences"]:
        points = " to ".join(f"{100 * difference[name]:+.1f}" for name in ("least", "greatest"))
        print(f"{difference['of']:<20} {difference['what']}: {100 * difference['mean']:+.1f} points ({points})")
    if leak := content["leak"].get("top1"):
        print(f"leak: no image and no model, the true masks alone: {leak['value']:.1%} top-1")
    for line in trained_on(content["trained_on"]):
        print(line)
    print(f"Look at {out / 'ablation.html'}")

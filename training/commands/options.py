"""Arguments and options that several commands of ``sono-train`` share, so that they mean the same everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

_WHAT_A_DATASET_IS = "folder that sono-curate build wrote, or the id of a dataset on the Hub"
_DATASET = typer.Argument(metavar="DATASET", help=f"A {_WHAT_A_DATASET_IS}.")
_DATASETS = typer.Argument(metavar="DATASET", help=f"A {_WHAT_A_DATASET_IS}; several are trained on together.")
_RUN = typer.Argument(metavar="RUN", help="Folder of a training run.")

DatasetArgument = Annotated[str, _DATASET]
DatasetsArgument = Annotated[list[str], _DATASETS]
OptionalDatasetArgument = Annotated[str | None, _DATASET]
OptionalDatasetsArgument = Annotated[list[str] | None, _DATASETS]
RunArgument = Annotated[Path, _RUN]
OptionalRunArgument = Annotated[Path | None, _RUN]
RecipeOption = Annotated[str, typer.Option(metavar="NAME", help="Name of a recipe; `sono-train recipes` lists them.")]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change one setting; may be repeated.")
]
SplitOption = Annotated[str, typer.Option(metavar="NAME", help="Split of the dataset: train, validation or test.")]
AllowTrainedOption = Annotated[
    bool,
    typer.Option("--allow-trained", help="Score patients that the model was trained on, too. The result counts them."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the complete result as JSON.")]

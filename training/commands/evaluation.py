"""The commands of ``sono-train`` that measure a trained model. Each calls one function and prints what it returns."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sono.manifests import console
from sono.manifests.errors import UserError

from . import evaluation_text as text
from .options import (
    AllowTrainedOption,
    DatasetArgument,
    JsonOption,
    OptionalDatasetArgument,
    OptionalRunArgument,
    RunArgument,
    SplitOption,
)
from .terminal import import_extras, print_notice, progress_bar

if TYPE_CHECKING:
    from sono.training.evaluation.scoring import Scoring


class Mask(StrEnum):
    none = "none"
    region = "region"
    predicted = "predicted"
    shuffled = "shuffled"
    blank = "blank"
    both = "both"
    all = "all"


class ProbeMask(StrEnum):
    none = "none"
    region = "region"


class AgeStep(StrEnum):
    weeks = "weeks"
    days = "days"


def evaluate(
    run: RunArgument,
    dataset: DatasetArgument,
    mask: Annotated[
        Mask,
        typer.Option(
            help="What the model sees: none (a mask of all ones), region (the dataset's masks), shuffled (another "
            "patient's masks), blank (the dataset's masks on a black image), both (none, region), all (these four), or "
            "predicted (none, region, and masks that a program made)."
        ),
    ] = Mask.none,
    predicted: Annotated[
        str | None,
        typer.Option(metavar="DATASET", help="A second dataset with predicted masks of the same frames."),
    ] = None,
    split: SplitOption = "test",
    allow_trained: AllowTrainedOption = False,
    as_json: JsonOption = False,
) -> None:
    """Score the newest checkpoint on zero-shot recognition of planes.

    Example: sono-train evaluate runs/first dataset --mask both
    """
    with _scoring(run, dataset, split, allow_trained, as_json) as scoring:
        from sono.training.evaluation.zero_shot.run import MASK_SETS, result_name
        from sono.training.evaluation.zero_shot.run import evaluate as measure

        masks = MASK_SETS.get(mask.value, (mask.value,))
        if predicted is not None:
            if mask not in (Mask.predicted, Mask.all):
                raise UserError("--predicted has no effect with this --mask", fix="add --mask predicted")
            masks = tuple(dict.fromkeys((*masks, "predicted")))
        result = measure(scoring, masks=masks, predicted=predicted)
        file = scoring.file_name(result_name(result))
    _print(run, file, result, as_json, text.recognition(result))
    if not as_json:
        _print_next(run, file, result)


def retrieve(
    run: RunArgument,
    dataset: DatasetArgument,
    split: SplitOption = "test",
    allow_trained: AllowTrainedOption = False,
    as_json: JsonOption = False,
) -> None:
    """Measure how well images and regions find their captions: recall at 1, 5 and 10.

    Example: sono-train retrieve runs/first dataset
    """
    with _scoring(run, dataset, split, allow_trained, as_json) as scoring:
        from sono.training.evaluation.retrieval import retrieve as measure

        result = measure(scoring)
    _print(run, scoring.file_name("retrieve"), result, as_json, text.recalls(result))


def probe(
    run: RunArgument,
    dataset: DatasetArgument,
    mask: Annotated[
        ProbeMask, typer.Option(help="Mask through which frames are seen, in all splits.")
    ] = ProbeMask.none,
    split: SplitOption = "test",
    allow_trained: AllowTrainedOption = False,
    as_json: JsonOption = False,
) -> None:
    """Classify planes with a linear probe on frozen features.

    Example: sono-train probe runs/first dataset --mask region
    """
    with _scoring(run, dataset, split, allow_trained, as_json) as scoring:
        from sono.training.evaluation.probe import probe as measure

        result = measure(scoring, mask=mask.value)
    _print(run, scoring.file_name(f"probe-{mask.value}"), result, as_json, text.probe(result))


def segment(
    run: RunArgument,
    dataset: DatasetArgument,
    foreground: Annotated[
        bool, typer.Option("--foreground", help="Treat all regions of a frame as one structure.")
    ] = False,
    epochs: Annotated[int, typer.Option(metavar="N", min=1, help="Passes over the train split.")] = 10,
    split: SplitOption = "test",
    allow_trained: AllowTrainedOption = False,
    as_json: JsonOption = False,
) -> None:
    """Outline structures with a small decoder on frozen dense features.

    Example: sono-train segment runs/first dataset --epochs 10
    """
    with _scoring(run, dataset, split, allow_trained, as_json) as scoring:
        from sono.training.evaluation.segmentation.run import segment as measure

        result = measure(scoring, foreground=foreground, epochs=epochs)
    _print(run, scoring.file_name("segment"), result, as_json, text.segmentation(result))


def gestational_age(
    run: RunArgument,
    dataset: DatasetArgument,
    step: Annotated[
        AgeStep, typer.Option(help="Ages in the sentences: whole weeks, or days with the pixel spacing.")
    ] = AgeStep.weeks,
    split: SplitOption = "test",
    allow_trained: AllowTrainedOption = False,
    as_json: JsonOption = False,
) -> None:
    """Estimate the gestational age by comparing images with sentences that state it.

    Example: sono-train gestational-age runs/first dataset --step weeks
    """
    with _scoring(run, dataset, split, allow_trained, as_json) as scoring:
        from sono.training.evaluation.gestational_age.run import estimate_age

        result = estimate_age(scoring, step=step.value)
    _print(run, scoring.file_name(f"ga-{step.value}"), result, as_json, text.ages(result))


def sensitivity(
    run: RunArgument,
    dataset: DatasetArgument,
    split: SplitOption = "test",
    allow_trained: AllowTrainedOption = False,
    as_json: JsonOption = False,
) -> None:
    """Measure how much features change with the mask.

    Example: sono-train sensitivity runs/first dataset
    """
    with _scoring(run, dataset, split, allow_trained, as_json) as scoring:
        from sono.training.evaluation.sensitivity import sensitivity as measure

        result = measure(scoring)
    _print(run, scoring.file_name("sensitivity"), result, as_json, text.distances(result))


def suite(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="Name of a suite; --list prints them.")] = None,
    run: OptionalRunArgument = None,
    dataset: OptionalDatasetArgument = None,
    list_: Annotated[bool, typer.Option("--list", help="List the suites, and the data that each needs.")] = False,
    allow_trained: AllowTrainedOption = False,
    as_json: JsonOption = False,
) -> None:
    """Run a published evaluation protocol.

    Example: sono-train suite fetalp6 runs/first dataset
    """
    from sono.training.evaluation import suites

    if list_:
        for line in text.suites(suites.SUITES):
            print(line)
        return
    if name is None or run is None or dataset is None:
        raise typer.BadParameter("give a suite, a run and a dataset, or --list")
    protocol = suites.find(name)
    with _scoring(run, dataset, protocol.split, allow_trained, as_json) as scoring:
        result = suites.run_suite(name, scoring)
    _print(run, suites.file_name(name), result, as_json, text.suite(result))


@contextlib.contextmanager
def _scoring(run: Path, dataset: str, split: str, allow_trained: bool, as_json: bool) -> Iterator[Scoring]:
    """What every measurement is given, with notices and progress on stderr, or silence beside JSON."""
    import_extras()
    from sono.training.evaluation.scoring import Scoring

    with progress_bar(as_json) as progress:
        yield Scoring(run, dataset, split=split, allow_trained=allow_trained, notice=print_notice, progress=progress)


def _print(run: Path, name: str, result: Mapping[str, Any], as_json: bool, lines: Iterable[str]) -> None:
    """Print a result: as JSON, or what was scored, its figures, and the file that holds it."""
    if as_json:
        console.print_json(result)
        return
    from sono.manifests.filenames import evaluation_file

    print(text.subject(result))
    for line in text.notes(result):
        print(line)
    for line in lines:
        print(line)
    print(f"written to {evaluation_file(run, result['dataset'], name)}")


def _print_next(run: Path, name: str, result: Mapping[str, Any]) -> None:
    from sono.manifests.filenames import evaluation_file

    print(f"Look at {evaluation_file(run, result['dataset'], name).with_suffix('.html')}")
    print(f"Next: sono-train export {run} OUT --format transformers")

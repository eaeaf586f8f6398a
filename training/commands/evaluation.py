"""The commands of ``sono-train`` that measure a trained model. Each calls one function and prints what it returns."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sono.manifests import console
from sono.manifests.errors import UserError

from .terminal import bar_once_needed, import_extras, say

if TYPE_CHECKING:
    from sono.manifests.stages import Progress

RunArgument = Annotated[Path, typer.Argument(help="Folder of a training run.")]
DatasetArgument = Annotated[str, typer.Argument(help="A folder that sono-curate build wrote, or a Hub id.")]
SplitOption = Annotated[str, typer.Option(help="Split of the dataset.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the whole result as JSON.")]


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


def register(app: typer.Typer) -> None:
    """Add the commands of this file to ``sono-train``."""
    for name, command in (
        ("evaluate", evaluate),
        ("retrieve", retrieve),
        ("probe", probe),
        ("segment", segment),
        ("ga", ga),
        ("sensitivity", sensitivity),
        ("suite", suite),
    ):
        app.command(name)(command)


def evaluate(
    run: RunArgument,
    dataset: DatasetArgument,
    mask: Annotated[
        Mask,
        typer.Option(
            help="What the model sees: none (a mask of all one), region (the dataset's masks), shuffled (another "
            "patient's masks), blank (the dataset's masks, a black image), both (none, region), all (these four), or "
            "predicted (none, region, and masks that a program made)."
        ),
    ] = Mask.none,
    predicted: Annotated[
        str | None,
        typer.Option(metavar="DATASET", help="Where the predicted masks of the same frames are, if not in DATASET."),
    ] = None,
    split: SplitOption = "test",
    json: JsonOption = False,
) -> None:
    """Score the newest checkpoint: zero-shot recognition of the plane.

    Example: sono-train evaluate runs/first dataset --mask both
    """
    import_extras()
    from sono.training.evaluation.zero_shot import MASK_SETS, default_name
    from sono.training.evaluation.zero_shot import evaluate as score

    masks = MASK_SETS.get(mask.value, (mask.value,))
    if predicted is not None:
        if mask not in (Mask.predicted, Mask.all):
            raise UserError("--predicted gives masks that are not asked for", fix="add --mask predicted or --mask all")
        masks = tuple(dict.fromkeys((*masks, "predicted")))
    with _working(json) as progress:
        result = score(run, dataset, masks=masks, predicted=predicted, split=split, notice=say, progress=progress)
    name = default_name(split, tuple(result["masks"]))
    _finish(run, name, result, json, _recognition(result), page=True)


def retrieve(run: RunArgument, dataset: DatasetArgument, split: SplitOption = "test", json: JsonOption = False) -> None:
    """Find captions by images, and by regions: recall at 1, 5 and 10.

    Example: sono-train retrieve runs/first dataset
    """
    import_extras()
    from sono.training.evaluation.retrieval import retrieve as score

    with _working(json) as progress:
        result = score(run, dataset, split=split, notice=say, progress=progress)
    _finish(run, f"{split}-retrieve", result, json, _recalls(result))


def probe(
    run: RunArgument,
    dataset: DatasetArgument,
    mask: Annotated[ProbeMask, typer.Option(help="What frames are seen through, in all splits.")] = ProbeMask.none,
    split: SplitOption = "test",
    json: JsonOption = False,
) -> None:
    """Classify planes by a linear probe on frozen features.

    Example: sono-train probe runs/first dataset --mask region
    """
    import_extras()
    from sono.training.evaluation.probe import probe as score

    with _working(json) as progress:
        result = score(run, dataset, mask=mask.value, split=split, notice=say, progress=progress)
    chosen = f"C = {result['chosen']['C']:g}, chosen on the validation split"
    lines = [chosen, *_estimates(result, ("mean_per_class", "accuracy", "f1"))]
    _finish(run, f"{split}-probe-{mask.value}", result, json, lines)


def segment(
    run: RunArgument,
    dataset: DatasetArgument,
    foreground: Annotated[bool, typer.Option("--foreground", help="All regions of a frame are one structure.")] = False,
    epochs: Annotated[int, typer.Option(min=1, help="Over the train split.")] = 10,
    split: SplitOption = "test",
    json: JsonOption = False,
) -> None:
    """Outline structures by a small decoder on frozen dense features.

    Example: sono-train segment runs/first dataset --epochs 10
    """
    import_extras()
    from sono.training.evaluation.segmentation import segment as score

    with _working(json) as progress:
        result = score(run, dataset, foreground=foreground, epochs=epochs, split=split, notice=say, progress=progress)
    chosen = f"after epoch {result['chosen']['epoch']}, chosen on the validation split"
    _finish(run, f"{split}-segment", result, json, [chosen, *_estimates(result, ("dice", "iou"))])


def ga(
    run: RunArgument,
    dataset: DatasetArgument,
    step: Annotated[
        AgeStep, typer.Option(help="Ages in the sentences: whole weeks, or days with the pixel spacing.")
    ] = AgeStep.weeks,
    split: SplitOption = "test",
    json: JsonOption = False,
) -> None:
    """Estimate the gestational age by sentences that name it.

    Example: sono-train ga runs/first dataset --step weeks
    """
    import_extras()
    from sono.training.evaluation.gestational_age import estimate_age

    with _working(json) as progress:
        result = estimate_age(run, dataset, step=step.value, split=split, notice=say, progress=progress)
    _finish(run, f"{split}-ga-{step.value}", result, json, _ages(result))


def sensitivity(
    run: RunArgument, dataset: DatasetArgument, split: SplitOption = "test", json: JsonOption = False
) -> None:
    """Measure how far features move with the mask.

    Example: sono-train sensitivity runs/first dataset
    """
    import_extras()
    from sono.training.evaluation.sensitivity import sensitivity as score

    with _working(json) as progress:
        result = score(run, dataset, split=split, notice=say, progress=progress)
    _finish(run, f"{split}-sensitivity", result, json, _distances(result))


def suite(
    name: Annotated[str | None, typer.Argument(help="Name of a suite; --list shows them.")] = None,
    run: Annotated[Path | None, typer.Argument(help="Folder of a training run.")] = None,
    dataset: Annotated[str | None, typer.Argument(help="A folder that sono-curate build wrote, or a Hub id.")] = None,
    list_: Annotated[bool, typer.Option("--list", help="List the suites and what data each needs.")] = False,
    json: JsonOption = False,
) -> None:
    """Run a published protocol by its name.

    Example: sono-train suite fetalp6 runs/first dataset
    """
    from sono.training.evaluation import suites

    if list_:
        for line in _suites(suites.SUITES):
            print(line)
        return
    if name is None or run is None or dataset is None:
        raise typer.BadParameter("give a suite, a run and a dataset, or --list")
    suites.find(name)
    import_extras()
    with _working(json) as progress:
        result = suites.run_suite(name, run, dataset, notice=say, progress=progress)
    lines = [result["suite"]["about"], *_estimates(result["suite"]["figures"], result["suite"]["figures"])]
    _finish(run, f"suite-{name}", result, json, lines)


@contextlib.contextmanager
def _working(json: bool) -> Iterator[Callable[[Progress], None]]:
    """A bar, or with JSON nothing at all beside it."""
    if json:
        import datasets

        datasets.disable_progress_bars()  # it has one of its own, when it reads a split for the first time
    with bar_once_needed(enabled=not json) as progress:
        yield progress


def _finish(
    run: Path,
    name: str,
    result: Mapping[str, Any],
    json: bool,
    lines: Sequence[str] | Iterator[str],
    page: bool = False,
) -> None:
    from sono.manifests.filenames import evaluation_file

    if json:
        console.print_json(result)
        return
    checkpoint = result["checkpoint"]
    print(f"{checkpoint['file']} (sha256 {checkpoint['sha256'][:12]}) on {result['split']}: {_counts(result)}")
    for line in lines:
        print(line)
    file = evaluation_file(run, name)
    print(f"written to {file}" + (f" and {file.with_suffix('.html')}" if page else ""))


def _counts(result: Mapping[str, Any]) -> str:
    text = f"{result['n_frames']} frames of {result['n_patients']} patients"
    if "planes_present" in result:
        text += f", {result['planes_present']} of {result['planes']} planes"
    left_out = {
        "frames_without_plane": "without a plane",
        "frames_without_caption": "without a caption",
        "frames_without_regions": "without regions",
        "frames_without_predicted": "without predicted masks",
        "frames_left_out": "that cannot be compared",
    }
    if result.get("frames") == "all":
        del left_out["frames_without_regions"]
    told = [f"{result[key]} {what}" for key, what in left_out.items() if key in result]
    return f"{text}; left out: {', '.join(told)}" if told else text


def _recognition(result: Mapping[str, Any]) -> Iterator[str]:
    columns = (("top1", "top-1", 7), ("top5", "top-5", 9), ("f1", "F1", 9))
    yield f"{'mask':<9}" + "".join(f"{title:>{width}}{'95 % interval':>18}" for _, title, width in columns)
    for mask, figures in result["masks"].items():
        cells = [f"{mask:<9}"]
        for name, _, width in columns:
            share = figures[name]
            cells.append(f"{share['value']:>{width}.1%}{share['low']:>10.1%} -{share['high']:>6.1%}")
        yield "".join(cells)
    for mask, reference in (("region", "none"), ("predicted", "none"), ("predicted", "region")):
        if gain := result[f"minus_{reference}"].get(mask):
            yield f"{mask} - {reference}, in points: top-1 {_points(gain['top1'])}, top-5 {_points(gain['top5'])}"


def _points(difference: Mapping[str, float]) -> str:
    value, low, high = (100 * difference[name] for name in ("value", "low", "high"))
    return f"{value:+.1f} ({low:+.1f} to {high:+.1f})"


def _estimates(figures: Mapping[str, Any], names: Sequence[str] | Mapping[str, Any]) -> Iterator[str]:
    for name in names:
        share = figures[name]
        if share is None:
            yield f"{name:<20} no frame could be compared"
        else:
            yield f"{name:<20}{share['value']:>8.1%}  ({share['low']:.1%} to {share['high']:.1%})"


def _recalls(result: Mapping[str, Any]) -> Iterator[str]:
    for kind, masks in (("image_to_text", ("none",)), ("region_to_text", ("region", "none"))):
        found = result[kind]
        if found is None:
            yield f"{kind}: no region has a caption"
            continue
        yield f"{kind}: {found['n_queries']} queries, {found['n_captions']} distinct captions"
        for mask in masks:
            told = [
                f"at {name.removeprefix('recall')} {share['value']:.1%} ({share['low']:.1%} to {share['high']:.1%}, "
                f"chance {found['chance'][name]:.1%})"
                for name, share in found[mask].items()
            ]
            yield f"  mask {mask:<7}recall " + ", ".join(told)


def _ages(result: Mapping[str, Any]) -> Iterator[str]:
    error, within = result["mean_absolute_error_days"], result["within_95"]
    if error:
        yield (
            f"mean absolute error {error['value']:.1f} days ({error['low']:.1f} to {error['high']:.1f}) on "
            f"{error['n_frames']} frames; always the median: {error['always_the_median']:.1f}"
        )
    if within:
        yield (
            f"head circumference within the 95 % interval of the age: {within['value']:.1%} ({within['low']:.1%} to "
            f"{within['high']:.1%}) of {within['n_frames']} frames; always the middle age: "
            f"{within['always_the_middle']:.1%}"
        )


def _distances(result: Mapping[str, Any]) -> Iterator[str]:
    for name, summary in result["distances"].items():
        if summary["n_frames"]:
            mean, ratio = summary["mean"], result["ratio"].get(name)
            beside = f", {ratio:.2f} of that between frames" if ratio is not None else ""
            yield (
                f"{name.replace('_', ' - ', 1):<20} cosine distance {mean['value']:.3f} "
                f"({mean['low']:.3f} to {mean['high']:.3f}){beside}"
            )


def _suites(suites: Mapping[str, Any]) -> Iterator[str]:
    for name, one in suites.items():
        yield f"{name:<18}{one.about}"
        yield f"{'':<18}runs {one.command} on {one.split}; data: {one.data}"
        for label, planes in one.classes.items():
            yield f"{'':<20}{label}: {', '.join(planes)}"

"""Results of measurements as lines to print."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sono.training.evaluation.suites import Suite

_LEFT_OUT = {
    "frames_without_plane": "without a plane",
    "frames_without_caption": "without a caption",
    "frames_without_regions": "without regions",
    "frames_without_predicted": "without predicted masks",
    "frames_left_out": "that cannot be compared",
    "regions_vanished": "regions of which no pixel is left",
}
_DISTANCES = {
    "none_region": "none, region",
    "none_shuffled": "none, shuffled",
    "region_shuffled": "region, shuffled",
    "among_regions": "among regions",
    "between_frames": "between frames",
}

ONE_MODEL = "one model seen with and without masks: not a gain over training without masks, nor one at a scanner"
"""What a difference from ``none`` is, and what it is not."""


def subject(result: Mapping[str, Any]) -> str:
    """Which checkpoint was scored, on which split of which dataset, with how many frames."""
    checkpoint, dataset = result["checkpoint"], result["dataset"]
    line = (
        f"{checkpoint['file']} (sha256 {checkpoint['sha256'][:12]}) on {result['split']} of {dataset['name']} "
        f"(fingerprint {dataset['fingerprint'][:12]}): {result['n_frames']} frames of {result['n_patients']} patients"
    )
    if "planes_present" in result:
        line += f", {result['planes_present']} of {result['planes']} planes"
    left_out = [
        f"{result[key]} {reason}"
        for key, reason in _LEFT_OUT.items()
        if key in result
        and not (key == "frames_without_regions" and result.get("frames") == "all")
        and not (key == "regions_vanished" and not result[key])
    ]
    line += f"; left out: {', '.join(left_out)}" if left_out else ""
    return "\n".join([line, *trained_on(result["trained_on"])])


def trained_on(overlap: Mapping[str, Any]) -> Iterator[str]:
    """Whether the model was trained on patients of the split, where that is so or is not known."""
    if overlap["patients"]:
        yield f"the model was trained on {overlap['patients']} of the {overlap['of']} patients of the split"
    if overlap["not_known"]:
        yield f"the model may have been trained on patients of the split: {'; '.join(overlap['not_known'])}"


def notes(result: Mapping[str, Any]) -> Iterator[str]:
    """What a reader must know before the figures."""
    for text in result["notes"].values():
        yield f"note: {text}"


def recognition(result: Mapping[str, Any]) -> Iterator[str]:
    """A table of accuracies by mask and of the leak, the differences between them, and what these are not."""
    has_top5 = all(figures["top5"] for figures in result["masks"].values())
    columns = [("top1", "top-1", 7), *([("top5", "top-5", 9)] if has_top5 else []), ("f1", "F1", 9)]
    yield f"{'mask':<9}" + "".join(f"{title:>{width}}{'95 % interval':>18}" for _, title, width in columns)
    leak = result["leak"] or {}
    for mask, figures in {**result["masks"], **({"leak": leak} if "top1" in leak else {})}.items():
        cells = [f"{mask:<9}"]
        for name, _, width in columns:
            share = figures[name]
            cells.append(f"{share['value']:>{width}.1%}{_range_cell(share):>18}")
        yield "".join(cells)
    for mask, reference in (("region", "none"), ("predicted", "none"), ("predicted", "region"), ("region", "leak")):
        if gain := result[f"minus_{reference}"].get(mask):
            line = f"{mask} - {reference}, in points: top-1 {_points(gain['top1'])}"
            if gain["top5"]:
                line += f", top-5 {_points(gain['top5'])}"
            yield line + (" on one plane only: see the note" if "one_plane" in result["notes"] else "")
    if result["minus_none"]:
        yield f"a difference from none is {ONE_MODEL}"
    yield from leak_lines(leak)


def leak_lines(leak: Mapping[str, Any]) -> Iterator[str]:
    """What the leak is, or why it was not measured; nothing if no mask was one of the dataset's regions."""
    if "not_measured" in leak:
        yield f"leak, the masks alone without an image: not measured, because {leak['not_measured']}"
    elif leak:
        fitted = leak["fitted_on"]
        yield (
            "leak: no image and no model, only the masks' area, place and second moments; logistic regression on "
            f"{fitted['n_frames']} frames of {fitted['n_patients']} patients of {fitted['split']}"
        )


def recalls(result: Mapping[str, Any]) -> Iterator[str]:
    """Recall at each rank, by images and by regions."""
    for kind, masks in (("image_to_text", ("none",)), ("region_to_text", ("region", "none"))):
        figures = result[kind]
        if figures is None:
            yield f"{kind}: no region has a caption"
            continue
        yield f"{kind}: {figures['n_queries']} queries, {figures['n_captions']} distinct captions"
        for mask in masks:
            at_ranks = [
                f"at {name.removeprefix('recall')} always, with so few captions"
                if share is None
                else f"at {name.removeprefix('recall')} {_share(share)}, chance {figures['chance'][name]:.1%}"
                for name, share in figures[mask].items()
            ]
            yield f"  mask {mask:<7}recall " + ", ".join(at_ranks)


def probe(result: Mapping[str, Any]) -> Iterator[str]:
    """What the validation split chose, and the accuracies."""
    yield f"C = {result['chosen']['C']:g}, chosen on the validation split"
    for name in ("mean_per_class", "accuracy", "f1"):
        yield _estimate(name, result[name])
    if result["mask"] == "region":
        yield "the masks alone may tell the plane: see the leak that evaluate --mask region measures"


def segmentation(result: Mapping[str, Any]) -> Iterator[str]:
    """What the validation split chose, and the overlaps."""
    yield f"after epoch {result['chosen']['epoch']}, chosen on the validation split"
    if result["masks_not_scored"]:
        yield f"{result['masks_not_scored']} masks without a pixel are not scored; {result['n_masks']} are"
    if result["masks_not_trained_on"]:
        yield f"{result['masks_not_trained_on']} masks of which no pixel is left were not trained on"
    for name in ("dice", "iou"):
        yield _estimate(name, result[name])
    always, difference = result["always_the_average"]["dice"], result["minus_always_the_average"]["dice"]
    yield f"always the average mask of the train split: dice {_share(always)}"
    yield f"dice - always the average, in points: {_points(difference)}"


def ages(result: Mapping[str, Any]) -> Iterator[str]:
    """The error in days, and how many heads fit the estimated age."""
    error, within = result["mean_absolute_error_days"], result["within_95"]
    if error:
        yield (
            f"mean absolute error {error['value']:.1f} days {_between(error, '{:.1f}')} on "
            f"{error['n']} frames; always the median: {error['always_the_median']:.1f}"
        )
    if within:
        yield (
            f"head circumference within the 95 % interval of the age: {_share(within)} of {within['n']} frames; "
            f"always the middle age: {within['always_the_middle']:.1%}"
        )


def distances(result: Mapping[str, Any]) -> Iterator[str]:
    """How far features are apart, seen through different masks."""
    for name, summary in result["distances"].items():
        if summary["n_frames"]:
            mean, ratio = summary["mean"], result["ratio"].get(name)
            relative = f", {ratio:.2f} times that between frames" if ratio is not None else ""
            yield (f"{_DISTANCES[name]:<20} cosine distance {mean['value']:.3f} {_between(mean, '{:.3f}')}{relative}")


def suite(result: Mapping[str, Any]) -> Iterator[str]:
    """The protocol, and its figures."""
    yield result["suite"]["about"]
    for name, figure in result["suite"]["figures"].items():
        is_top5 = name.endswith("top5") and figure is None
        yield f"{name:<20} none: see the note" if is_top5 else _estimate(name, figure)
    if leak := result.get("leak"):
        if "top1" in leak:
            yield _estimate("leak.top1", leak["top1"])
        yield from leak_lines(leak)


def suites(protocols: Mapping[str, Suite]) -> Iterator[str]:
    """Every protocol with its command, data and classes."""
    for name, protocol in protocols.items():
        yield f"{name:<18}{protocol.about}"
        yield f"{'':<18}runs {protocol.command} on {protocol.split}; data: {protocol.data}"
        for label, planes in protocol.classes.items():
            yield f"{'':<20}{label}: {', '.join(planes)}"
        for difference in protocol.differs:
            yield f"{'':<20}differs: {difference}"


def _estimate(name: str, figure: Mapping[str, Any] | None) -> str:
    if figure is None:
        return f"{name:<20} no frame could be compared"
    return f"{name:<20}{figure['value']:>8.1%}  {_between(figure)}"


def _share(figure: Mapping[str, Any]) -> str:
    return f"{figure['value']:.1%} {_between(figure)}"


def _points(difference: Mapping[str, Any]) -> str:
    points = {name: None if value is None else 100 * value for name, value in difference.items()}
    return f"{points['value']:+.1f} {_between(points, '{:+.1f}')}"


def _between(figure: Mapping[str, Any], number: str = "{:.1%}") -> str:
    """The interval in brackets."""
    if figure["low"] is None:
        return "(no interval: fewer than two patients per plane)"
    return f"({number.format(figure['low'])} to {number.format(figure['high'])})"


def _range_cell(share: Mapping[str, Any]) -> str:
    return "none" if share["low"] is None else f"{share['low']:.1%} -{share['high']:>6.1%}"
